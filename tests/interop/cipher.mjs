// Encrypts or decrypts provider configurations as the platform does, and prints a line of JSON for each:
// node cipher.mjs encrypt|decrypt KEY JSON_ARRAY
import { createCipheriv, createDecipheriv, randomBytes } from "node:crypto";

const [, , deed, hex, given] = process.argv;
const key = Buffer.from(hex, "hex");

function encrypt(value) {
  const iv = randomBytes(12);
  const cipher = createCipheriv("aes-256-gcm", key, iv);
  const sealed = Buffer.concat([cipher.update(JSON.stringify(value), "utf8"), cipher.final(), cipher.getAuthTag()]);
  return `${iv.toString("base64")}:${sealed.toString("base64")}`;
}

function decrypt(text) {
  const [iv, sealed] = text.split(":").map((part) => Buffer.from(part, "base64"));
  const decipher = createDecipheriv("aes-256-gcm", key, iv);
  decipher.setAuthTag(sealed.subarray(-16));
  return JSON.parse(Buffer.concat([decipher.update(sealed.subarray(0, -16)), decipher.final()]).toString("utf8"));
}

for (const each of JSON.parse(given)) {
  console.log(JSON.stringify(deed === "encrypt" ? encrypt(each) : decrypt(each)));
}
process.exit(0);
