// What BullMQ connects with: options for one server, or with REDIS_CLUSTER set, ioredis' client of a cluster.
const { Cluster } = await import("ioredis");

export const connectionTo = (redisUrl) => {
  const address = new URL(redisUrl);
  const node = { host: address.hostname, port: Number(address.port) };
  const options = { password: decodeURIComponent(address.password), maxRetriesPerRequest: null };
  return process.env.REDIS_CLUSTER ? new Cluster([node], { redisOptions: options }) : { ...node, ...options };
};
