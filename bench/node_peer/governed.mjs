// Sends the messages of a queue within a provider's rate as BullMQ's guide has it, until its standard input ends. With
// RATE, the worker's limiter holds that many jobs a second; a refusal for the rate pauses the queue for a second in any
// case.
// REDIS_URL=... PREFIX=bull:delivery QUEUE=send-email CONCURRENCY=5 SMTP_PORT=... RATE=14 node governed.mjs
import { Queue, Worker } from "bullmq";
import nodemailer from "nodemailer";
import { connect, count, setting } from "./noop.mjs";

const PAUSE_MS = 1000;
const REFUSALS = [421, 452, 454];

const concurrency = count("CONCURRENCY");
const transport = nodemailer.createTransport({
  host: "127.0.0.1",
  port: count("SMTP_PORT"),
  secure: false,
  pool: true,
  maxConnections: concurrency,
  maxMessages: Infinity,
});

async function send({ data }) {
  try {
    await transport.sendMail({ from: "news@acme.test", to: data.emailAddress, subject: data.subject, html: data.html });
  } catch (error) {
    if (!REFUSALS.includes(error.responseCode)) throw error;
    await queue.rateLimit(PAUSE_MS);
    throw Worker.RateLimitError();
  }
}

const connection = connect();
const queue = new Queue(setting("QUEUE"), { connection, prefix: setting("PREFIX") });
const limiter = process.env.RATE ? { limiter: { max: count("RATE"), duration: 1000 } } : {};
const options = { connection, prefix: setting("PREFIX"), concurrency, ...limiter };
const worker = new Worker(setting("QUEUE"), send, options);
worker.on("failed", (job, error) => console.error(error.message));
worker.on("error", (error) => console.error(error.message));
process.stdin.resume().on("end", () => process.exit());
