// Works on a delivery queue as the platform's Node engine does: a message that has a mark is processed; another is sent
// and marked as `sent`, or with a provider that it cannot send by (the default) marked as `failed`, and fails. Prints a
// line of JSON for each attempt, and ends after COUNT of them:
// node engine.mjs PACKAGE PREFIX NAME REDIS_URL COUNT [sent|failed]
const [, , packageName, prefix, name, redisUrl, count, outcome = "failed"] = process.argv;
const { Worker } = await import(packageName);
const { Redis } = await import("ioredis");

const address = new URL(redisUrl);
const connection = {
  host: address.hostname,
  port: Number(address.port),
  password: decodeURIComponent(address.password),
  maxRetriesPerRequest: null,
};

// Whoever runs this script among others may put something else in its place.
const { exit } = process;
const redis = new Redis(connection);
let left = Number(count);
const worker = new Worker(
  name,
  async (job) => {
    const key = `delivery:idem:${job.data.deliveryId}`;
    if (await redis.get(key)) {
      console.log(JSON.stringify({ id: job.id, did: "nothing" }));
      return;
    }
    await redis.set(key, outcome, "EX", 86_400);
    console.log(JSON.stringify({ id: job.id, did: outcome, data: job.data }));
    if (outcome === "sent") return;
    throw new Error("unsupported provider: sendgrid");
  },
  { connection, prefix },
);
const end = async () => {
  left -= 1;
  if (left === 0) {
    await worker.close();
    await redis.quit();
    exit(0);
  }
};
worker.on("completed", end);
worker.on("failed", end);
worker.on("error", (error) => {
  console.error(error);
  exit(1);
});
