// Runs the scripts of this directory one after another in one process, which loads BullMQ once: node serve.mjs
// Each line of standard input is a JSON array [ENVIRONMENT, SCRIPT, ARGUMENTS]; the answer is a line of JSON
// {status, lines, errors}. A script says that it has ended by process.exit, after it has closed its connections.
import { createInterface } from "node:readline";
import { format } from "node:util";

const leave = process.exit;
let calls = 0;
for await (const line of createInterface({ input: process.stdin })) {
  const [environment, script, words] = JSON.parse(line);
  const lines = [];
  const errors = [];
  const status = await new Promise((end) => {
    process.env = environment;
    process.argv = [process.argv[0], script, ...words];
    process.exit = end;
    console.log = (...values) => lines.push(format(...values));
    console.error = (...values) => errors.push(format(...values));
    calls += 1;
    // Under another address a module is run anew; what it imports is not.
    import(`./${script}?call=${calls}`).catch((error) => {
      errors.push(error.stack);
      end(1);
    });
  });
  process.stdout.write(`${JSON.stringify({ status, lines, errors })}\n`);
}
leave(0);
