// Starts Bull Board on one queue and asks it over HTTP, as its page does: node bullboard.mjs PACKAGE PREFIX NAME REDIS_URL
// Prints what it says of the queue as a line of JSON, then has it retry the failed jobs, and prints that again.
import { createBullBoard } from "@bull-board/api";
import { BullMQAdapter } from "@bull-board/api/bullMQAdapter";
import { ExpressAdapter } from "@bull-board/express";
import express from "express";

const [, , packageName, prefix, name, redisUrl] = process.argv;
const { Queue } = await import(packageName);

const address = new URL(redisUrl);
const connection = {
  host: address.hostname,
  port: Number(address.port),
  password: decodeURIComponent(address.password),
};
const queue = new Queue(name, { connection, prefix });
const serverAdapter = new ExpressAdapter();
createBullBoard({ queues: [new BullMQAdapter(queue)], serverAdapter });
const server = express().use(serverAdapter.getRouter()).listen(0, "127.0.0.1");
await new Promise((resolve) => server.once("listening", resolve));
const base = `http://127.0.0.1:${server.address().port}/api/queues`;

async function ask(path = "", method = "GET") {
  const answer = await fetch(base + path, { method });
  if (!answer.ok) throw new Error(`${method} ${path}: ${answer.status} ${await answer.text()}`);
  return answer;
}

async function print() {
  const { queues } = await (await ask(`?activeQueue=${name}&status=failed`)).json();
  const [{ counts, isPaused, jobs }] = queues;
  const failed = jobs.map((job) => ({ id: job.id, name: job.name, reason: job.failedReason }));
  console.log(JSON.stringify({ counts, isPaused, failed }));
}

await print();
await ask(`/${name}/retry/failed`, "PUT");
await print();
await queue.close();
server.close();
process.exit(0);
