// Sends each message of a queue as the platform's old engine does, until COUNT are sent, and prints a line of JSON.
// DATABASE_URL=... REDIS_URL=... PREFIX=bull:delivery QUEUE=send-email CONCURRENCY=10 COUNT=1000 node peer.mjs
import nodemailer from "nodemailer";
import pg from "pg";
import { connect, consume, count, setting } from "./noop.mjs";

const IDEMPOTENCY_SECONDS = 86_400;
const MOST_DATABASE_CONNECTIONS = 20;

const concurrency = count("CONCURRENCY");
const redis = connect();
const pool = new pg.Pool({
  connectionString: setting("DATABASE_URL"),
  max: Math.min(concurrency, MOST_DATABASE_CONNECTIONS),
});

// Not prepared, unless PREPARE is set: the platform's database stands behind a pooler by transaction, where a statement
// that was prepared on one connection is not there on the next.
const prepare = Boolean(process.env.PREPARE);

const SQL = {
  job: "SELECT id, organization_id, status FROM delivery.delivery_jobs WHERE id = $1",
  suppression: "SELECT reason FROM delivery.suppressions WHERE organization_id = $1 AND lower(email) = $2 LIMIT 1",
  provider: `SELECT provider_type, config FROM delivery.provider_configs
    WHERE organization_id = $1 AND channel = 'email' AND is_active ORDER BY priority DESC LIMIT 1`,
  domain: "SELECT status FROM delivery.sending_domains WHERE organization_id = $1 AND lower(domain) = $2 LIMIT 1",
  template: "SELECT subject, body_html, body_text FROM content.templates WHERE id = $1 AND organization_id = $2",
  event: `INSERT INTO delivery.delivery_events
    (job_id, organization_id, contact_id, channel, event_type, provider_message_id, metadata)
    VALUES ($1, $2, $3, 'email', 'sent', $4, $5)`,
  sent: `UPDATE delivery.delivery_jobs SET sent_count = sent_count + 1,
      status = CASE WHEN sent_count + 1 + failed_count < recipient_count THEN 'sending' ELSE 'sent' END,
      completed_at = CASE WHEN sent_count + 1 + failed_count >= recipient_count THEN $2::timestamp END
    WHERE id = $1`,
};

async function query(name, ...values) {
  const { rows } = await pool.query({ name: prepare ? name : undefined, text: SQL[name], values });
  return rows[0];
}

const ENTITIES = { "&": "&amp;", "<": "&lt;", ">": "&gt;", '"': "&quot;", "'": "&#x27;" };
const escapeHtml = (text) => text.replace(/[&<>"']/g, (character) => ENTITIES[character]);
const asIs = (text) => text;

// `{{a.b}}` is replaced by the value at that path, by nothing where there is none.
const compiled = new Map();

function compile(source) {
  let parts = compiled.get(source);
  if (parts === undefined) {
    // Literals stand at even places, paths at odd ones.
    parts = source.split(/\{\{\s*([\w.]+)\s*\}\}/).map((part, index) => (index % 2 ? part.split(".") : part));
    compiled.set(source, parts);
  }
  return parts;
}

const property = (value, key) => (value != null && Object.hasOwn(Object(value), key) ? value[key] : undefined);

function render(source, data, escape) {
  let text = "";
  for (const part of compile(source ?? "")) {
    text += typeof part === "string" ? part : escape(String(part.reduce(property, data) ?? ""));
  }
  return text;
}

// One pooled transport for each server.
const transports = new Map();

function transport({ host, port, secure }) {
  const key = `${host}:${port}:${secure}`;
  if (!transports.has(key)) {
    const pooled = { pool: true, maxConnections: concurrency, maxMessages: Infinity };
    transports.set(key, nodemailer.createTransport({ host, port, secure, ...pooled }));
  }
  return transports.get(key);
}

const domainOf = (from) => from.slice(from.lastIndexOf("@") + 1).replace(/>\s*$/, "").toLowerCase();

async function content({ templateId, templateData, organizationId, unsubscribeUrl, subject, html, text }) {
  if (!templateId) return { subject, html, text };
  const template = await query("template", templateId, organizationId);
  if (!template) throw new Error(`There is no template ${templateId}`);
  const data = { ...templateData, unsubscribeUrl };
  return {
    subject: render(template.subject, data, asIs),
    html: render(template.body_html, data, escapeHtml),
    text: render(template.body_text, data, asIs),
  };
}

async function send({ data }) {
  const { deliveryId, organizationId, jobId, contactId, emailAddress } = data;
  const idempotencyKey = `delivery:idem:${deliveryId}`;
  if (await redis.get(idempotencyKey)) return;

  if (!(await query("job", jobId))) throw new Error(`There is no delivery job ${jobId}`);
  if (await query("suppression", organizationId, emailAddress.toLowerCase())) return;

  const provider = await query("provider", organizationId);
  if (provider?.provider_type !== "custom_smtp") throw new Error(`${organizationId} has no SMTP provider`);
  const { from } = provider.config;
  const domain = domainOf(from);
  if (!(await query("domain", organizationId, domain))) throw new Error(`${domain} is not a sending domain`);
  await redis.incr(`warmup:daily:${organizationId}:${domain}`);

  const message = await content(data);
  const headers = {
    "List-Unsubscribe": { prepared: true, foldLines: false, value: `<${data.unsubscribeUrl}>` },
    "List-Unsubscribe-Post": "List-Unsubscribe=One-Click",
  };
  const { messageId } = await transport(provider.config).sendMail({ from, to: emailAddress, headers, ...message });

  await query("event", jobId, organizationId, contactId, messageId, { deliveryId });
  await query("sent", jobId, new Date());
  await redis.set(idempotencyKey, "sent", "EX", IDEMPOTENCY_SECONDS);
}

await consume(redis, send);
for (const each of transports.values()) each.close();
await pool.end();
await redis.quit();
