// Speaks to one delivery queue as a platform's service or Bull Board does, and prints a line of JSON:
// node queues.mjs PACKAGE PREFIX NAME REDIS_URL COMMAND [ARGUMENT]
//   limit JSON       set the queue's global rate limit, {max, duration}
//   every JSON       add a job scheduler, {id, every, data}
//   schedulers       print the job schedulers
//   workers          print how many workers the queue has, and their connections' names
//   work             start a worker that takes nothing to its end, print that it runs, and stay
//   retry JOB        retry a failed job, as Bull Board's button does; print its state
const [, , packageName, prefix, name, redisUrl, command, argument] = process.argv;
const { Queue, Worker } = await import(packageName);

const address = new URL(redisUrl);
const connection = {
  host: address.hostname,
  port: Number(address.port),
  password: decodeURIComponent(address.password),
  maxRetriesPerRequest: null,
};
const queue = new Queue(name, { connection, prefix });

const commands = {
  limit: async () => {
    const { max, duration } = JSON.parse(argument);
    await queue.setGlobalRateLimit(max, duration);
    return await queue.getGlobalRateLimit();
  },
  every: async () => {
    const { id, every, data } = JSON.parse(argument);
    await queue.upsertJobScheduler(id, { every }, { name: "send-email", data });
    return id;
  },
  schedulers: async () => await queue.getJobSchedulers(),
  workers: async () => ({
    count: await queue.getWorkersCount(),
    names: (await queue.getWorkers()).map((worker) => worker.rawname),
  }),
  work: async () => {
    const worker = new Worker(name, () => new Promise(() => {}), { connection, prefix });
    await worker.waitUntilReady();
    console.log(JSON.stringify("runs"));
    await new Promise(() => setInterval(() => {}, 1000));
  },
  retry: async () => {
    const job = await queue.getJob(argument);
    await job.retry(await job.getState());
    return await job.getState();
  },
};

console.log(JSON.stringify(await commands[command]()));
await queue.close();
process.exit(0);
