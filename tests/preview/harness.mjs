// What the tests of the page share: the page itself on a copy of the templates, and a browser.
import { spawn } from "node:child_process";
import { once } from "node:events";
import { cp, mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { createRequire } from "node:module";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";

const root = resolve(import.meta.dirname ?? new URL(".", import.meta.url).pathname, "../..");
const target = resolve(process.env.CARGO_TARGET_DIR ?? join(root, "target"));
const tools = createRequire(join(process.env.REGRANT_NODE_TOOLS ?? join(target, "node"), "package.json"));

export const { chromium } = tools("playwright-core");
export const axeSource = tools("axe-core").source;
const regrant = process.env.REGRANT_BIN ?? join(target, "debug/regrant");

/** `regrant` in a directory of its own, which has the templates and nothing else, with the environment bare. */
export class Place {
  static async make() {
    const place = new Place();
    place.home = await mkdtemp(join(tmpdir(), "regrant-preview-"));
    await cp(join(root, "email_templates"), place.path("email_templates"), { recursive: true });
    return place;
  }

  path(...parts) {
    return join(this.home, ...parts);
  }

  template(file) {
    return this.path("email_templates", file);
  }

  read(file) {
    return readFile(this.template(file), "utf8");
  }

  write(file, text) {
    return writeFile(this.template(file), text);
  }

  start(...words) {
    const env = Object.fromEntries(Object.entries(process.env).filter(([name]) => !name.startsWith("REGRANT_")));
    return spawn(regrant, words, { cwd: this.home, env, stdio: ["ignore", "pipe", "pipe"] });
  }

  /** Runs to the end: `{ code, out, err }`. */
  async run(...words) {
    const child = this.start(...words);
    const said = { out: "", err: "" };
    child.stdout.on("data", (data) => (said.out += data));
    child.stderr.on("data", (data) => (said.err += data));
    const [code] = await once(child, "close");
    return { code, ...said };
  }

  /** Starts the page, unless it is there already; `this.url` is where it is. */
  async preview() {
    if (this.server) return;
    this.server = this.start("templates", "preview", "--listen", "127.0.0.1:0");
    let said = "";
    this.server.stderr.on("data", (data) => (said += data));
    this.url = await new Promise((found, failed) => {
      this.server.stdout.on("data", (data) => {
        said += data;
        const [address] = /http:\/\/\S+\//.exec(said) ?? [];
        if (address) found(address);
      });
      this.server.on("close", () => failed(new Error(`the page did not start: ${said}`)));
    });
  }

  /** Ends the page as Ctrl-C would, and gives its exit code. */
  async stop() {
    if (!this.server) return null;
    const ended = this.server.exitCode === null ? once(this.server, "close") : [this.server.exitCode];
    this.server.kill("SIGINT");
    this.server = null;
    return (await ended)[0];
  }

  async remove() {
    await this.stop();
    await rm(this.home, { recursive: true, force: true });
  }
}

export function launch() {
  return chromium.launch({
    executablePath: process.env.REGRANT_CHROMIUM ?? "/usr/bin/chromium",
    // Chromium's own sandbox cannot be set up by root; this one only ever sees the page.
    args: [...(process.getuid() === 0 ? ["--no-sandbox"] : []), "--disable-quic", "--hide-scrollbars"],
  });
}
