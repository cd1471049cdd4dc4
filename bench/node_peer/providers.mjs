// Sends each message of a queue over a provider's API with the vendor's own SDK, until COUNT are sent, and prints a line
// of JSON. API is the provider's address; the rest is as for peer.mjs.
// DATABASE_URL=... REDIS_URL=... PREFIX=bull:delivery QUEUE=send-email CONCURRENCY=10 COUNT=1000 API=... node providers.mjs
import { randomUUID } from "node:crypto";
import { SESv2Client, SendEmailCommand } from "@aws-sdk/client-sesv2";
import sendgrid from "@sendgrid/mail";
import pg from "pg";
import { ServerClient } from "postmark";
import twilio from "twilio";
import { connect, consume, count, setting } from "./noop.mjs";

const IDEMPOTENCY_SECONDS = 86_400;
const MOST_DATABASE_CONNECTIONS = 20;

const api = new URL(setting("API"));
const redis = connect();
const pool = new pg.Pool({
  connectionString: setting("DATABASE_URL"),
  max: Math.min(count("CONCURRENCY"), MOST_DATABASE_CONNECTIONS),
});

const SQL = {
  suppression: "SELECT reason FROM delivery.suppressions WHERE organization_id = $1 AND lower(email) = $2 LIMIT 1",
  provider: `SELECT provider_type, config FROM delivery.provider_configs
    WHERE organization_id = $1 AND channel = $2 AND is_active ORDER BY priority DESC LIMIT 1`,
  event: `INSERT INTO delivery.delivery_events
    (job_id, organization_id, contact_id, channel, event_type, provider_message_id, metadata)
    VALUES ($1, $2, $3, $4, 'sent', $5, $6)`,
};

async function query(name, ...values) {
  const { rows } = await pool.query({ text: SQL[name], values });
  return rows[0];
}

// By type: makes a client, and returns what sends a message with it and returns the provider's id.
const CLIENTS = {
  postmark({ serverToken, from }) {
    const client = new ServerClient(serverToken, { requestHost: api.host, useHttps: api.protocol === "https:" });
    return async ({ emailAddress, subject, html, text, deliveryId }) => {
      const message = { From: from, To: emailAddress, Subject: subject, HtmlBody: html, TextBody: text };
      return (await client.sendEmail({ ...message, Metadata: { deliveryId } })).MessageID;
    };
  },
  sendgrid({ apiKey, from }) {
    sendgrid.setApiKey(apiKey);
    sendgrid.client.setDefaultRequest("baseUrl", api.origin);
    return async ({ emailAddress, subject, html, text, deliveryId }) => {
      const message = { to: emailAddress, from, subject, html, text, customArgs: { deliveryId } };
      const [response] = await sendgrid.send(message);
      return response.headers["x-message-id"];
    };
  },
  ses({ region, accessKeyId, secretAccessKey, from }) {
    const credentials = { accessKeyId, secretAccessKey };
    const client = new SESv2Client({ region, credentials, endpoint: api.origin });
    return async ({ emailAddress, subject, html, text, deliveryId }) => {
      const Body = { Html: { Data: html }, Text: { Data: text } };
      const command = new SendEmailCommand({
        FromEmailAddress: from,
        Destination: { ToAddresses: [emailAddress] },
        Content: { Simple: { Subject: { Data: subject }, Body } },
        EmailTags: [{ Name: "deliveryId", Value: deliveryId }],
      });
      return (await client.send(command)).MessageId;
    };
  },
  twilio({ accountSid, authToken, fromNumber }) {
    const client = twilio(accountSid, authToken);
    client.api.baseUrl = api.origin;
    return async ({ phoneNumber, body }) =>
      (await client.messages.create({ to: phoneNumber, from: fromNumber, body })).sid;
  },
};

const clients = new Map();

function clientOf(organizationId, { provider_type: type, config }) {
  if (!clients.has(organizationId)) clients.set(organizationId, CLIENTS[type](config));
  return clients.get(organizationId);
}

const channel = setting("CHANNEL");

async function send({ data }) {
  const { deliveryId, organizationId, contactId } = data;
  const idempotencyKey = `delivery:idem:${deliveryId}`;
  if (await redis.get(idempotencyKey)) return;
  const address = (data.emailAddress ?? data.phoneNumber).toLowerCase();
  if (await query("suppression", organizationId, address)) return;
  const provider = await query("provider", organizationId, channel);
  if (!provider) throw new Error(`${organizationId} has no provider`);
  const id = await clientOf(organizationId, provider)(data);
  if (!id) throw new Error("the provider gave no id");
  await query("event", randomUUID(), organizationId, contactId, channel, id, { deliveryId });
  await redis.set(idempotencyKey, "sent", "EX", IDEMPOTENCY_SECONDS);
}

await consume(redis, send);
await pool.end();
await redis.quit();
process.exit(); // the SDKs keep connections open
