// A client for regrant: sends a command, waits for its reply, and sends it again if none comes.
//
// Copy this file into your app. It needs `amqplib` and `libsodium-wrappers`. One client serves any number of calls at once.

import { randomUUID } from "node:crypto";
import { setTimeout as sleep } from "node:timers/promises";

import amqplib from "amqplib";
import sodium from "libsodium-wrappers";

// RabbitMQ's pseudo-queue for replies. It belongs to the channel: consume from it first, then publish on the same one.
const DIRECT_REPLY_TO = "amq.rabbitmq.reply-to";

/** regrant says no. `code` is for the program, `message` is for people, `details` depend on the code. */
export class Refused extends Error {
  name = "Refused";

  constructor({ code, message, details }) {
    super(message);
    this.code = code;
    this.details = details ?? {};
  }
}

/** No answer in time. The command may have taken effect or not, but it will not any more. */
export class NoReply extends Error {
  name = "NoReply";
}

/** The broker refuses the user, forbids it, or the daemon has never run: repetition does not mend that. */
export class Misconfigured extends Error {
  name = "Misconfigured";
}

/** Calls regrant as the broker user of `url`. */
export class Client {
  #url;
  #exchange;
  #patience;
  #resendAfter;
  /** A promise of the open connection and channel, or nothing. */
  #link;
  /** By message id: who waits for the reply. */
  #waiting = new Map();
  /** A promise of the daemon's key, or nothing. */
  #sealingKey;

  /**
   * @param {string} url
   * @param {object} [options]
   * @param {string} [options.prefix] `broker.prefix` of the daemon
   * @param {number} [options.patience] how long a call may take, in milliseconds
   * @param {number} [options.resendAfter] when a missing reply is asked for again, in milliseconds
   */
  constructor(url, { prefix = "regrant", patience = 20_000, resendAfter = 5_000 } = {}) {
    this.#url = new URL(url);
    this.#exchange = `${prefix}.commands`;
    this.#patience = patience;
    this.#resendAfter = resendAfter;
  }

  /** Closes the connection; the next call opens a new one. */
  async close() {
    const link = this.#link;
    this.#link = undefined;
    const { connection } = (await link?.catch(() => undefined)) ?? {};
    // Closed twice is closed.
    await connection?.close().catch(() => undefined);
  }

  /**
   * Sends a command and resolves to its `result`. The fields of `secrets` are sealed: nobody but the daemon reads them.
   *
   * @throws {Refused | NoReply | Misconfigured}
   */
  async call(command, body, secrets) {
    if (!secrets) return this.#call(command, body);
    try {
      return await this.#call(command, { ...body, ...(await this.#seal(secrets)) });
    } catch (error) {
      if (error.code !== "sealed_invalid") throw error;
    }
    // The daemon's key was replaced since we asked for it. Another body is another command: it gets a new id.
    this.#sealingKey = undefined;
    return this.#call(command, { ...body, ...(await this.#seal(secrets)) });
  }

  async #seal(secrets) {
    await sodium.ready;
    this.#sealingKey ??= this.#call("daemon.info", {}).then((info) => info.sealing_key);
    const { public_key, key_id } = await this.#sealingKey.catch((error) => {
      this.#sealingKey = undefined;
      throw error;
    });
    const key = Buffer.from(public_key, "base64");
    const sealed = (secret) => ({ sealed: Buffer.from(sodium.crypto_box_seal(secret, key)).toString("base64"), key_id });
    return Object.fromEntries(Object.entries(secrets).map(([field, secret]) => [field, sealed(secret)]));
  }

  async #call(command, body) {
    // Made once. What goes out again is the same message to the last byte, so it takes effect once, and its lifetime counts
    // from when the person asked. (Sealing again would make other bytes: `message_id_reused`.)
    const message = this.#message(command, body);
    const id = message.properties.messageId;
    const reply = new Promise((resolve) => this.#waiting.set(id, resolve));
    const deadline = performance.now() + this.#patience;
    const left = () => Math.max(0, deadline - performance.now());
    let trouble;
    try {
      for (let pause = 100; left() > 0; pause = Math.min(pause * 2, 2_000)) {
        try {
          const answered = this.#publish(message).then(() => reply);
          const answer = await within(Math.min(this.#resendAfter, left()), answered);
          if (answer) return result(answer);
        } catch (error) {
          if (error instanceof Refused || error instanceof Misconfigured) throw error;
          // Also the connection that broke while nobody looked: it is opened anew.
          trouble = error;
        }
        await sleep(Math.min(pause, left()));
      }
    } finally {
      this.#waiting.delete(id);
    }
    const reason = trouble ? ` (last: ${trouble.message || trouble.code})` : "";
    throw new NoReply(`no reply to ${command} ${id} in ${this.#patience / 1000} s${reason}`, { cause: trouble });
  }

  #message(command, body) {
    const id = randomUUID();
    const properties = {
      // The idempotency key.
      messageId: id,
      correlationId: id,
      replyTo: DIRECT_REPLY_TO,
      // Who sends this. RabbitMQ lets nobody use a name that is not their own, so the daemon can rely on it.
      userId: decodeURIComponent(this.#url.username) || "guest",
      // When the person asked, in seconds: the link's lifetime counts from here.
      timestamp: Math.floor(Date.now() / 1000),
      // In milliseconds. When we have given up, nothing is to happen behind our back.
      expiration: this.#patience,
      contentType: "application/json",
      persistent: true,
    };
    return { command, body: Buffer.from(JSON.stringify(body)), properties };
  }

  /** Resolves when the broker has confirmed that the message is safe. */
  async #publish({ command, body, properties }) {
    this.#link ??= this.#open();
    const link = await this.#link.catch((error) => {
      this.#link = undefined;
      throw error;
    });
    await new Promise((resolve, reject) => {
      const confirmed = (error) => (error ? reject(link.mistake ?? error) : resolve());
      link.channel.publish(this.#exchange, command, body, properties, confirmed);
    });
  }

  async #open() {
    const connection = await amqplib.connect(this.#url.href, { timeout: this.#resendAfter }).catch((error) => {
      // The user, the password or the virtual host of the URL.
      throw /ACCESS.REFUSED|NOT.ALLOWED/.test(error.message) ? new Misconfigured(error.message, { cause: error }) : error;
    });
    const link = { connection };
    const forget = async () => {
      if ((await this.#link?.catch(() => undefined)) === link) this.#link = undefined;
    };
    // What is lost here shows as a call that fails. Without a listener, Node would end the process.
    connection.on("error", () => undefined);
    connection.on("close", forget);
    link.channel = await connection.createConfirmChannel();
    // The broker closes a channel for what it does not allow, or does not have.
    link.channel.on("error", (error) => {
      link.mistake = new Misconfigured(error.message, { cause: error });
    });
    link.channel.on("close", () => {
      forget();
      connection.close().catch(() => undefined);
    });
    const onReply = (reply) => reply && this.#waiting.get(reply.properties.correlationId)?.(reply.content);
    await link.channel.consume(DIRECT_REPLY_TO, onReply, { noAck: true });
    return link;
  }
}

function result(reply) {
  const { ok, result, error } = JSON.parse(reply);
  if (!ok) throw new Refused(error);
  return result;
}

/** What `promise` resolves to, or nothing when the time is over. */
async function within(milliseconds, promise) {
  const timer = new AbortController();
  try {
    return await Promise.race([promise, sleep(milliseconds, undefined, { signal: timer.signal })]);
  } finally {
    timer.abort();
  }
}
