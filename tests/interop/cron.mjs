// Prints for each cron line, in UTC, its first instants after a time, by the cron-parser that a version of BullMQ brings:
// node cron.mjs PACKAGE TIME COUNT LINES
// LINES is a JSON array; each answer is a JSON array of milliseconds since 1970, or the error.
import { createRequire } from "node:module";

const [, , packageName, time, count, lines] = process.argv;
const require = createRequire(import.meta.resolve(packageName));
const parser = require("cron-parser");
const parse = (line, options) =>
  parser.CronExpressionParser ? parser.CronExpressionParser.parse(line, options) : parser.parseExpression(line, options);

for (const line of JSON.parse(lines)) {
  try {
    const instants = parse(line, { currentDate: new Date(time), tz: "UTC" });
    console.log(JSON.stringify(Array.from({ length: Number(count) }, () => instants.next().getTime())));
  } catch (error) {
    console.log(JSON.stringify(String(error)));
  }
}
process.exit(0);
