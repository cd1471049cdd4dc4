// Adds COUNT jobs to a queue, for peer.mjs or noop.mjs.
// REDIS_URL=... PREFIX=bull:delivery QUEUE=send-email ORG=... JOB=... TEMPLATE=... COUNT=1000 node produce.mjs
// With KEEP=0 they vanish when they have completed.
import { randomUUID } from "node:crypto";
import { Queue } from "bullmq";
import { connect, count, setting } from "./noop.mjs";

const BATCH = 1000;
const NAME = "send-email";

const [organizationId, jobId, templateId] = ["ORG", "JOB", "TEMPLATE"].map(setting);
const total = count("COUNT");

const opts = process.env.KEEP === "0" ? { removeOnComplete: true } : {};

const job = (i) => ({
  name: NAME,
  opts,
  data: {
    deliveryId: randomUUID(),
    organizationId,
    jobId,
    contactId: randomUUID(),
    emailAddress: `user${i}@example.com`,
    templateId,
    templateData: {
      firstName: `First${i}`,
      lastName: `Last${i}`,
      company: `Company ${i % 1000} & Sons`,
      product: `Product ${i % 100}`,
      price: `${10 + (i % 90)}.99`,
      city: `City ${i % 500}`,
      month: "October",
      code: `CODE-${i}`,
      score: i % 101,
      year: 2026,
    },
    unsubscribeUrl: `https://example.com/u/${i}`,
  },
});

const connection = connect();
const queue = new Queue(setting("QUEUE"), { connection, prefix: setting("PREFIX") });
for (let first = 0; first < total; first += BATCH) {
  await queue.addBulk(Array.from({ length: Math.min(BATCH, total - first) }, (_, index) => job(first + index)));
}
await queue.close();
await connection.quit();
