// Listens to regrant's events, and ends the sessions that your app keeps.
//
//   node end-sessions.js
//
// AMQP_URL is your app's own broker user, REGRANT_PREFIX is `broker.prefix` of the daemon, SESSIONS_QUEUE is this app's own
// queue. Ends in good order on SIGTERM and SIGINT.

import { once } from "node:events";
import { setTimeout as sleep } from "node:timers/promises";

import amqplib from "amqplib";

const {
  AMQP_URL = "amqp://guest:guest@127.0.0.1:5672/%2f",
  REGRANT_PREFIX = "regrant",
  SESSIONS_QUEUE = "shop.sessions",
} = process.env;

const NAMES = ["session.revoked", "password.changed"];
// Events that may be here without being acknowledged.
const PREFETCH = 50;

/**
 * Stands for your app's session store: put your own behind these methods.
 *
 * Each can be done twice without harm: after a crash, an event can come again.
 */
class Sessions {
  #oldestEpoch = new Map();

  /** Sessions that are kept on the server: delete them. */
  async end(user, sessionIds, reason) {
    for (const id of sessionIds) console.log(`ended session ${id} of ${user} (${reason})`);
  }

  /**
   * Sessions that live in signed cookies: those hold the `session_epoch` of their sign-in, and an older one is refused.
   *
   * One session may stay (that in which they changed their own password, or one that support left out): its cookie is good and
   * gets the new epoch when it is next seen.
   */
  async refuseBefore(user, epoch, but) {
    // An older event may come again after a newer one: the epoch only ever grows.
    if (epoch <= (this.#oldestEpoch.get(user) ?? 0)) return;
    this.#oldestEpoch.set(user, epoch);
    const stays = but ? `, but for session ${but}` : "";
    console.log(`cookies of ${user} from before epoch ${epoch} are refused${stays}`);
  }

  /** Whatever else opens the account without its password: "remember me", trusted devices, API keys. */
  async forgetDevices(user) {
    console.log(`forgot the remembered devices of ${user}`);
  }
}

/**
 * The ids of the latest events. An event that comes twice has the same `id`.
 *
 * Memory is enough here, since doing it twice does no harm. Where it does (you count, or send a message), keep the ids in your
 * database, and write each in the transaction that also writes what the event brings about.
 */
class Seen {
  #ids = new Set();
  #size;

  constructor(size = 10_000) {
    this.#size = size;
  }

  has(id) {
    return this.#ids.has(id);
  }

  add(id) {
    this.#ids.add(id);
    // A Set keeps the order in which things were added.
    if (this.#ids.size > this.#size) this.#ids.delete(this.#ids.values().next().value);
  }
}

/** One CloudEvent. It is remembered after it was dealt with: if that fails, it comes again. */
async function handle({ id, type, subject: user, data }, sessions, seen) {
  if (seen.has(id)) return;
  switch (type) {
    case "regrant.session.revoked":
      await sessions.end(user, data.session_ids, data.reason ?? "signed out by support");
      await sessions.refuseBefore(user, data.session_epoch, data.except_session_id);
      break;
    case "regrant.password.changed":
      await sessions.forgetDevices(user);
      break;
    // Others were bound by hand, or by an older version of this program: nothing to do for them.
  }
  seen.add(id);
}

function parse(content) {
  try {
    return JSON.parse(content);
  } catch {
    return undefined;
  }
}

/** Consumes until `stop`; fails with the connection, with the queue, and with an event that cannot be dealt with now. */
async function listen(sessions, seen, stop) {
  const connection = await amqplib.connect(AMQP_URL);
  let fail;
  const failed = new Promise((_, reject) => {
    fail = reject;
  });
  failed.catch(() => undefined);
  connection.on("error", fail);
  connection.on("close", () => fail(new Error("the connection was closed")));
  try {
    const channel = await connection.createChannel();
    channel.on("error", fail);
    // A named, durable queue of this app: what happens while it is down waits here. All its processes share it.
    await channel.assertQueue(SESSIONS_QUEUE, { durable: true, arguments: { "x-queue-type": "quorum" } });
    for (const name of NAMES) await channel.bindQueue(SESSIONS_QUEUE, `${REGRANT_PREFIX}.events`, name);
    await channel.prefetch(PREFETCH);

    const deal = async (message) => {
      const event = parse(message.content);
      if (event) {
        await handle(event, sessions, seen);
        // Only now: an event that was being dealt with when this process died comes again.
        channel.ack(message);
      } else {
        // It will not be better the next time. Without `requeue` it goes to the queue's dead letters, if it has any.
        console.error("an event could not be understood");
        channel.nack(message, false, false);
      }
    };
    // One after the other, as a person's events are to be; and none after one that failed: it comes again first.
    let work = Promise.resolve();
    const onMessage = (message) => {
      if (message === null) return fail(new Error("the queue was deleted"));
      work = work.then(() => deal(message));
      work.catch(fail);
    };
    await channel.consume(SESSIONS_QUEUE, onMessage);
    console.log("listening");
    if (!stop.aborted) await Promise.race([failed, once(stop, "abort")]);
    await work;
  } finally {
    // What was not acknowledged returns to the queue.
    await connection.close().catch(() => undefined);
  }
}

const stopping = new AbortController();
for (const signal of ["SIGTERM", "SIGINT"]) process.once(signal, () => stopping.abort());
const sessions = new Sessions();
const seen = new Seen();
while (!stopping.signal.aborted) {
  try {
    await listen(sessions, seen, stopping.signal);
  } catch (error) {
    console.error(`not listening (${error.message}), trying again`);
    await sleep(2_000, undefined, { signal: stopping.signal }).catch(() => undefined);
  }
}
