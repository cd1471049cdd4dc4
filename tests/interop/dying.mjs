// Works on a delivery queue as the platform's Node engine does, over SMTP, and kills itself (SIGKILL) at a point:
// node dying.mjs PACKAGE PREFIX NAME REDIS_URL SMTP_PORT POINT
// `before-send:3` is at the third message before it is sent, `after-send:3` after that and before its mark is written,
// `after-mark:3` after that. `stay` goes on until it is killed. Prints "ready" in JSON when it takes messages.
import net from "node:net";
import { once } from "node:events";

const [, , packageName, prefix, name, redisUrl, smtpPort, point] = process.argv;
const { Worker } = await import(packageName);
const { Redis } = await import("ioredis");

const address = new URL(redisUrl);
const connection = {
  host: address.hostname,
  port: Number(address.port),
  password: decodeURIComponent(address.password),
  maxRetriesPerRequest: null,
};
const redis = new Redis(connection);
const hits = {};

const reach = (where) => {
  hits[where] = (hits[where] ?? 0) + 1;
  if (point === `${where}:${hits[where]}`) process.kill(process.pid, "SIGKILL");
};

const send = async (data) => {
  const socket = net.connect(Number(smtpPort), "127.0.0.1");
  const answer = async () => {
    let text = "";
    while (!/^\d{3} .*\r\n$/m.test(text)) text += (await once(socket, "data"))[0].toString();
    if (!/^[23]/m.test(text)) throw new Error(text);
  };
  await answer();
  const content = `Message-ID: <node.${data.deliveryId}@acme.test>\r\nSubject: Hello\r\n\r\nHello\r\n.`;
  const commands = ["EHLO node.test", "MAIL FROM:<news@acme.test>", `RCPT TO:<${data.emailAddress}>`, "DATA", content];
  for (const command of commands) {
    socket.write(`${command}\r\n`);
    await answer();
  }
  socket.end("QUIT\r\n");
};

const worker = new Worker(
  name,
  async (job) => {
    const key = `delivery:idem:${job.data.deliveryId}`;
    if (await redis.get(key)) return;
    reach("before-send");
    await send(job.data);
    reach("after-send");
    await redis.set(key, "sent", "EX", 86_400);
    reach("after-mark");
  },
  { connection, prefix, concurrency: 4 },
);
worker.on("error", (error) => console.error(error));
await worker.waitUntilReady();
console.log(JSON.stringify("ready"));
