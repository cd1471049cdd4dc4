// What the queue alone costs: consumes COUNT jobs, does nothing with them, and prints a line of JSON.
// REDIS_URL=... PREFIX=bull:delivery QUEUE=send-email CONCURRENCY=10 COUNT=1000 node noop.mjs
import { realpathSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { Worker } from "bullmq";
import { Redis } from "ioredis";

export function setting(name) {
  const value = process.env[name];
  if (!value) throw new Error(`${name} is not set`);
  return value;
}

export function count(name) {
  const value = Number(setting(name));
  if (!Number.isInteger(value) || value < 1) throw new Error(`${name} is not a positive number`);
  return value;
}

// The platform's, for jobs that bring none.
const POLICY = { removeOnComplete: { age: 3600 } };

// BullMQ's blocking commands ask for null.
export const connect = () => new Redis(setting("REDIS_URL"), { maxRetriesPerRequest: null });

// Runs a worker until COUNT jobs have completed; measures from the first 'active' to the last 'completed', or if WARM_UP
// is set, from when so many have completed.
export async function consume(connection, processor) {
  const messages = count("COUNT");
  const warmUp = process.env.WARM_UP ? count("WARM_UP") : 0;
  const options = { connection, prefix: setting("PREFIX"), concurrency: count("CONCURRENCY"), ...POLICY };
  const worker = new Worker(setting("QUEUE"), processor, options);
  let started;
  let ended;
  let cpu;
  let completed = 0;
  const start = () => {
    started = performance.now();
    cpu = process.cpuUsage();
  };
  try {
    await new Promise((resolve, reject) => {
      worker.on("active", () => {
        if (started === undefined) start();
      });
      worker.on("completed", () => {
        completed += 1;
        if (completed === warmUp) start();
        if (completed !== messages) return;
        ended = performance.now();
        cpu = process.cpuUsage(cpu);
        resolve();
      });
      worker.on("failed", (job, error) => reject(error));
      worker.on("error", reject);
    });
  } finally {
    await worker.close();
  }
  const rssMb = (process.resourceUsage().maxRSS * 1024) / 1e6; // at its peak
  const figures = {
    seconds: (ended - started) / 1000,
    cpu_seconds: (cpu.user + cpu.system) / 1e6,
    messages: messages - warmUp,
    rss_mb: Math.round(rssMb * 10) / 10,
  };
  console.log(JSON.stringify(figures));
}

if (realpathSync(process.argv[1]) === fileURLToPath(import.meta.url)) {
  const connection = connect();
  await consume(connection, async () => {});
  await connection.quit();
}
