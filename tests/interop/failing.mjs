// Adds jobs, has a worker fail each with its error until no attempt is left, and prints their ids:
// node failing.mjs PACKAGE PREFIX NAME REDIS_URL JOBS
// JOBS is a JSON array of {data, opts, error}.
const [, , packageName, prefix, name, redisUrl, given] = process.argv;
const { Queue, Worker } = await import(packageName);

const address = new URL(redisUrl);
const connection = {
  host: address.hostname,
  port: Number(address.port),
  password: decodeURIComponent(address.password),
  maxRetriesPerRequest: null,
};

const jobs = JSON.parse(given);
const queue = new Queue(name, { connection, prefix });
const errors = {};
for (const { data, opts, error } of jobs) errors[(await queue.add(name, data, opts)).id] = error;

const worker = new Worker(
  name,
  async (job) => {
    throw new Error(errors[job.id]);
  },
  { connection, prefix },
);
await new Promise((resolve) => {
  let left = jobs.length;
  worker.on("failed", (job) => {
    if (job.finishedOn) left -= 1;
    if (left === 0) resolve();
  });
});
await worker.close();
await queue.close();
console.log(JSON.stringify(Object.keys(errors)));
process.exit(0);
