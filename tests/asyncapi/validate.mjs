// Reads AsyncAPI documents with the official parser: validate.mjs FILE…
// Exit code 1 if one is not valid, or lacks what every command must have.
import { readFileSync } from 'node:fs';
import { Parser } from '@asyncapi/parser';

// The only hint that is expected: there is a newer version of the specification than the 3.0 that we promise.
const EXPECTED = new Set(['asyncapi-latest-version']);
const SEVERITIES = ['error', 'warning', 'information', 'hint'];

const parser = new Parser();
let faults = 0;
const fault = (file, text) => {
  faults += 1;
  console.error(`${file}: ${text}`);
};

for (const file of process.argv.slice(2)) {
  const { document, diagnostics } = await parser.parse(readFileSync(file, 'utf8'));
  for (const found of diagnostics) {
    if (!EXPECTED.has(found.code)) {
      fault(file, `${SEVERITIES[found.severity]} ${found.code} at ${found.path.join('.')}: ${found.message}`);
    }
  }
  if (!document) {
    fault(file, 'not a valid AsyncAPI document');
    continue;
  }
  const commands = document.operations().filterByReceive();
  for (const command of commands) {
    const reply = command.reply();
    if (!reply?.address() || reply.messages().length !== 2) {
      fault(file, `${command.id()}: no reply address, or not the two kinds of reply`);
    }
  }
  for (const operation of document.operations()) {
    const messages = [...operation.messages().all(), ...(operation.reply()?.messages().all() ?? [])];
    for (const message of messages) {
      if (!message.payload() || (message.examples().length === 0 && operation.id() !== 'dead')) {
        fault(file, `${operation.id()}: the message ${message.id()} has no schema or no example`);
      }
    }
  }
  console.log(`${file}: ${commands.length} commands, ${document.operations().filterBySend().length} operations of the daemon`);
}
process.exit(faults ? 1 : 0);
