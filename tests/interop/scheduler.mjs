// Speaks to one queue as a platform's service does: node scheduler.mjs PACKAGE PREFIX NAME REDIS_URL COMMAND [ARGUMENT]
//   list                 print the job schedulers, as JSON
//   upsert PATTERN [ID]  add a job scheduler, in UTC, called ID or like the queue
//   add JOB              add a job, given as JSON {name, data, opts}
//   pause                pause the queue
//   jobs STATE           print the jobs in a state, as JSON
//   events COUNT         print so many of the events completed and failed, as lines of JSON
const [, , packageName, prefix, name, redisUrl, command, argument, id] = process.argv;
const { Queue, QueueEvents } = await import(packageName);

const address = new URL(redisUrl);
const connection = {
  host: address.hostname,
  port: Number(address.port),
  password: decodeURIComponent(address.password),
  maxRetriesPerRequest: null,
};
const queue = new Queue(name, { connection, prefix });

const commands = {
  list: async () => console.log(JSON.stringify(await queue.getJobSchedulers())),
  upsert: async () => {
    const own = id ?? name;
    await queue.upsertJobScheduler(own, { pattern: argument, tz: "UTC" }, { name: own, data: { from: "node" } });
  },
  add: async () => {
    const job = JSON.parse(argument);
    const added = await queue.add(job.name, job.data, job.opts);
    console.log(JSON.stringify({ id: added.id }));
  },
  pause: async () => queue.pause(),
  jobs: async () => {
    const jobs = await queue.getJobs([argument]);
    console.log(
      JSON.stringify(
        jobs.map((job) => ({
          id: job.id,
          name: job.name,
          data: job.data,
          opts: job.opts,
          attemptsMade: job.attemptsMade,
          failedReason: job.failedReason,
          returnvalue: job.returnvalue,
        })),
      ),
    );
  },
  events: async () => {
    const events = new QueueEvents(name, { connection, prefix, lastEventId: "0" });
    await new Promise((resolve) => {
      let left = Number(argument);
      const print = (event) => (found) => {
        console.log(JSON.stringify({ event, ...found }));
        left -= 1;
        if (left === 0) resolve();
      };
      events.on("completed", print("completed"));
      events.on("failed", print("failed"));
    });
    await events.close();
  },
};

await commands[command]();
await queue.close();
process.exit(0);
