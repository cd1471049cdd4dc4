// Consumes jobs of one queue and prints each as a line of JSON: node worker.mjs PACKAGE PREFIX NAME REDIS_URL COUNT
const [, , packageName, prefix, name, redisUrl, count] = process.argv;
const { Worker } = await import(packageName);
const { connectionTo } = await import("./connection.mjs");

const connection = connectionTo(redisUrl);

// Whoever runs this script among others may put something else in its place.
const { exit } = process;
let left = Number(count);
const worker = new Worker(
  name,
  async (job) => {
    console.log(JSON.stringify({ id: job.id, name: job.name, data: job.data, opts: job.opts, attempts: job.attemptsMade }));
  },
  { connection, prefix },
);
worker.on("completed", async () => {
  left -= 1;
  if (left === 0) {
    await worker.close();
    await connection.quit?.();
    exit(0);
  }
});
worker.on("error", (error) => {
  console.error(error);
  exit(1);
});
