// The "forgot password" pages of an app, without the HTML.
//
//   node forgot-password.js request EMAIL   the page that asks for an address
//   node forgot-password.js reset           the page behind the link in the mail; reads the token from standard input,
//                                           then a new password, and another one as long as the rules are broken
//
// AMQP_URL is your app's own broker user; REGRANT_PREFIX is `broker.prefix` of the daemon.
// Exit codes: 0 done, 1 refused, 2 wrong usage or set-up, 3 it is not known whether it was done.

import { createInterface } from "node:readline";

import { Client, Misconfigured, NoReply, Refused } from "./regrant.js";

const {
  AMQP_URL = "amqp://guest:guest@127.0.0.1:5672/%2f",
  REGRANT_PREFIX = "regrant",
} = process.env;

// Where the person sits, from the web request: for the limits on requests, and for the mail ("requested from …").
const context = { ip: "203.0.113.7", user_agent: "the forgot-password example", locale: "en" };

// The link in the mail is of no use any more. The message says why, in words for the person.
const DEAD_LINK = new Set(["token_invalid", "token_expired", "token_used", "token_superseded", "token_revoked"]);

/** The answer is the same for known and unknown addresses: the page must not tell more than the daemon does. */
async function requestReset(client, email) {
  await client.call("password.reset.request", { user: { email }, context });
  console.log(`If ${email} has an account, a mail with a link is on its way.`);
}

/** First looks whether the link is good, so that nobody types a password in vain. Looking does not use it up. */
async function reset(client, readLine) {
  // Not an argument: those can be seen by everybody on the machine.
  const token = (await readLine("Token: ")).trim();
  const link = await client.call("password.reset.inspect", { token, context });
  console.log(`Choose a new password for ${link.username}, until ${link.expires_at}:`);
  for (const { message } of link.policy.rules) console.log(`  - ${message}`);
  for (;;) {
    try {
      await complete(client, token, await readLine("New password: "));
      console.log("Your password is changed. You have been signed out everywhere.");
      return;
    } catch (error) {
      if (error.code !== "password_rejected") throw error;
      // One sentence for each broken rule, fit to be shown beside the field. The link is still good.
      for (const { message } of error.details.violations) console.log(`Not this one: ${message}`);
    }
  }
}

/** Sealed, neither of the two can be read in the broker's queues, nor in a dead letter. */
function complete(client, token, newPassword) {
  return client.call("password.reset.complete", { context }, { token, new_password: newPassword });
}

function deadLink({ message, details }) {
  return details.newer_requested_at ? `${message} (It was asked for at ${details.newer_requested_at}.)` : message;
}

class EndOfInput extends Error {}

/** Lines of standard input, each asked for on a terminal. */
function lineReader() {
  const lines = createInterface({ input: process.stdin })[Symbol.asyncIterator]();
  return async (prompt) => {
    if (process.stdin.isTTY) process.stdout.write(prompt);
    const { value, done } = await lines.next();
    if (done) throw new EndOfInput("standard input ended before a good password came");
    return value;
  };
}

async function main([command, ...rest]) {
  const client = new Client(AMQP_URL, { prefix: REGRANT_PREFIX });
  try {
    if (command === "request" && rest.length === 1) await requestReset(client, rest[0]);
    else if (command === "reset" && rest.length === 0) await reset(client, lineReader());
    else {
      console.error("usage: node forgot-password.js request EMAIL\n       node forgot-password.js reset");
      return 2;
    }
    return 0;
  } catch (error) {
    if (error instanceof Refused && DEAD_LINK.has(error.code)) {
      console.log(deadLink(error));
      return 1;
    }
    if (error instanceof Refused) {
      // Nothing that the person could mend: for your log. The person reads "try again later".
      console.error(`unexpected refusal: ${error.code}: ${error.message}`);
      return 1;
    }
    if (error instanceof NoReply) {
      // Its effect is not known. The same page again is safe: a link that was used says so (`token_used`).
      console.error(`${error.message}. Please try again.`);
      return 3;
    }
    if (error instanceof Misconfigured || error instanceof EndOfInput) {
      console.error(error.message);
      return 2;
    }
    throw error;
  } finally {
    await client.close();
    process.stdin.destroy();
  }
}

process.exitCode = await main(process.argv.slice(2));
