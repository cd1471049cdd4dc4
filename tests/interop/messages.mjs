// Adds jobs to a delivery queue as the platform does, in one transaction, waits until each has completed or failed, and
// prints what QueueEvents told and what Bull Board would show: node messages.mjs PACKAGE PREFIX NAME REDIS_URL JOBS
// JOBS is a JSON array of {data, opts}.
const [, , packageName, prefix, name, redisUrl, given] = process.argv;
const { Queue, QueueEvents } = await import(packageName);
const { connectionTo } = await import("./connection.mjs");

const connection = connectionTo(redisUrl);

const jobs = JSON.parse(given);
const queue = new Queue(name, { connection, prefix });
const events = new QueueEvents(name, { connection, prefix, lastEventId: "0" });
await events.waitUntilReady();

const told = {};
const order = [];
const note = (jobId, event) => (told[jobId] ??= []).push(event);
for (const event of ["waiting", "delayed", "active", "retries-exhausted"]) {
  events.on(event, ({ jobId }) => note(jobId, event));
}
const ended = new Promise((resolve) => {
  let left = jobs.length;
  const end = (event) => ({ jobId }) => {
    note(jobId, event);
    order.push(jobId);
    left -= 1;
    if (left === 0) resolve();
  };
  events.on("completed", end("completed"));
  events.on("failed", end("failed"));
});
const added = (await queue.addBulk(jobs.map((job) => ({ name: "send-email", ...job })))).map((job) => job.id);
await ended;

for (const id of added) {
  const job = await queue.getJob(id);
  console.log(
    JSON.stringify({
      id,
      events: told[id],
      place: order.indexOf(id),
      state: job ? await job.getState() : "removed",
      attempts: job?.attemptsMade,
      reason: job?.failedReason,
      value: job?.returnvalue,
      finished: Boolean(job?.finishedOn && job?.processedOn),
    }),
  );
}
console.log(JSON.stringify(await queue.getJobCounts()));
await events.close();
await queue.close();
process.exit(0);
