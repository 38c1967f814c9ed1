// The page of `regrant templates preview`, in a real browser. Run by script/test; alone:
//   node --test tests/preview/*.test.mjs
import assert from "node:assert/strict";
import { mkdir, readdir, readFile, rm, writeFile } from "node:fs/promises";
import { request } from "node:http";
import { after, afterEach, before, beforeEach, describe, test } from "node:test";
import { Place, axeSource, launch } from "./harness.mjs";

let browser, place, page, foreign, errors;

before(async () => {
  browser = await launch();
});
after(() => browser?.close());

async function open(path = "/", options = {}) {
  await place.preview();
  const context = await browser.newContext({ viewport: { width: 1440, height: 900 }, reducedMotion: "reduce", ...options });
  page = await context.newPage();
  page.setDefaultTimeout(15_000);
  page.on("request", (asked) => asked.url().startsWith(place.url) || foreign.add(asked));
  // The policy stopped those before they left.
  page.on("requestfailed", (asked) => asked.failure().errorText === "csp" && foreign.delete(asked));
  page.on("pageerror", (error) => errors.push(error.message));
  await page.goto(new URL(path, place.url).href);
  await page.locator("h1").waitFor();
  return page;
}

beforeEach(async () => {
  [foreign, errors] = [new Set(), []];
  place = await Place.make();
});
afterEach(async () => {
  await page?.context().close();
  page = null;
  await place.remove();
  assert.deepEqual(errors, [], "errors of the page's scripts");
  assert.deepEqual([...foreign].map((asked) => asked.url()), [], "something was asked for elsewhere");
});

const mail = (title = "The email at desktop width") => page.frameLocator(`iframe[title="${title}"]:not(.coming)`);

/** Whether the page is still the one that was opened: it is never loaded anew. */
const mark = () => page.evaluate(() => (window.marked = true));
const marked = () => page.evaluate(() => window.marked === true);

describe("looking at emails", () => {
  test("the gallery shows every email, and opens them", async () => {
    await open();
    const names = await page.getByRole("main").getByRole("heading", { level: 2 }).allTextContents();
    const directories = (await readdir(place.template(""), { withFileTypes: true })).filter((entry) => entry.isDirectory());
    const templates = directories.map((entry) => entry.name).filter((name) => !["partials", "sites"].includes(name));
    assert.deepEqual(names.map((name) => name.toLowerCase().replaceAll(" ", "_")).sort(), templates.sort());
    await page.getByText("All good").waitFor();
    await page.getByRole("main").getByRole("link", { name: "Password reset link" }).click();
    await page.getByRole("heading", { level: 1, name: "Password reset link" }).waitFor();
    await mail().getByRole("link", { name: "Choose a new password" }).waitFor();
    await mail("The email at phone width").getByText("Hello Ada Lovelace").waitFor();
    await page.goBack();
    await page.getByRole("heading", { level: 1, name: "All emails" }).waitFor();
  });

  test("a person and a situation can be chosen, and names are text", async () => {
    await open("/?template=password_reset_link");
    await page.getByLabel("Person").selectOption({ label: "Markup in the name" });
    await mail().getByText("Hello <b>Bobby</b>").waitFor();
    assert.equal(await mail().locator("b").count(), 0);
    await page.getByLabel("Person").selectOption({ label: "No display name" });
    await mail().getByText("Hello s.ramanujan").waitFor();
    await page.getByLabel("Situation").selectOption({ label: "Support did it" });
    await mail().getByText("Our support team has sent you this link").waitFor();
    // What was chosen stands in the address, and goes with you.
    await page.reload();
    await mail().getByText("Hello s.ramanujan").waitFor();
    await page.getByRole("navigation").getByRole("link", { name: "Invite" }).click();
    await mail().getByText("Hello s.ramanujan").waitFor();
  });

  test("sites and languages with files of their own", async () => {
    await place.write("invite/subject.hbs", "You are invited to {{site.name}}");
    await mkdir(place.template("sites/north/invite/sv"), { recursive: true });
    await place.write("sites/north/invite/sv/subject.hbs", "Välkommen till {{site.name}}");
    await open("/?template=invite");
    await page.getByLabel("Site").selectOption("north");
    await page.getByLabel("Language").selectOption("sv");
    await page.getByText("Files of site north, sv").waitFor();
    await page.locator(".inbox-line").getByText("Välkommen till Example").waitFor();
    await page.getByRole("tab", { name: "Template files" }).click();
    await page.getByRole("heading", { name: "sites/north/invite/sv/subject.hbs" }).waitFor();
  });

  test("dark and light, whatever the browser prefers, and both widths", async () => {
    for (const colorScheme of ["light", "dark"]) {
      await open("/?template=password_reset_link", { colorScheme });
      const ground = () => mail().locator("body").evaluate((body) => getComputedStyle(body).backgroundColor);
      await mail().locator("body").waitFor();
      const light = await ground();
      await page.getByRole("radio", { name: "Dark" }).check();
      await page.waitForFunction(() => document.querySelectorAll(".coming").length === 0);
      const dark = await ground();
      assert.equal(light, "rgb(238, 241, 245)", colorScheme);
      assert.equal(dark, "rgb(15, 19, 24)", colorScheme);
      const width = await mail("The email at phone width").locator("html").evaluate((html) => html.clientWidth);
      assert.equal(width, 375);
      await page.getByRole("radio", { name: "Phone" }).check();
      assert.equal(await page.locator("figure.desktop").isVisible(), false);
      await page.context().close();
    }
    page = null;
  });

  test("text, source, headers and the message itself", async () => {
    await open("/?template=invite");
    const shown = async (tab) => {
      await page.getByRole("tab", { name: tab, exact: true }).click();
      return page.getByRole("tabpanel").innerText();
    };
    assert.match(await shown("Plain text"), /^[\s\S]*Hello Ada Lovelace,\n/);
    assert.match(await shown("HTML source"), /<!doctype html>/);
    assert.match(await shown("Headers"), /Auto-Submitted\s+auto-generated/);
    assert.match(await shown("Placeholders"), /\{\{invite_link\}\} Must be shown/);
    const [download] = await Promise.all([page.waitForEvent("download"), page.getByRole("link", { name: "Download .eml" }).click()]);
    assert.equal(download.suggestedFilename(), "invite-default.eml");
    const message = await readFile(await download.path(), "utf8");
    assert.match(message, /^To: "?Ada Lovelace"? <ada@example\.com>\r$/m);
    assert.match(message, /^Content-Type: multipart\/alternative/m);
  });
});

describe("mending a template", () => {
  test("a problem comes when a file is broken and goes when it is mended, without loading the page anew", async () => {
    await open("/?template=invite");
    await mark();
    const good = await place.read("invite/body.txt.hbs");
    const lines = good.split("\n");
    const at = lines.findIndex((line) => line.includes("{{user.username}}"));
    const wrong = lines.with?.(at, "You: {{user.usrname}}") ?? lines.map((line, index) => (index === at ? "You: {{user.usrname}}" : line));
    await place.write("invite/body.txt.hbs", wrong.join("\n"));

    const problems = page.getByRole("region", { name: /to mend/ });
    await problems.getByText("did you mean", { exact: false }).first().waitFor();
    const card = problems.getByRole("listitem").filter({ hasText: "unknown-placeholder" });
    const text = await card.innerText();
    assert.ok(text.includes(`invite/body.txt.hbs:${at + 1}:8`), text);
    assert.match(text, /user\.username/);
    // The mark stands under the name, in the line as it is in the file.
    const [line, caret] = (await card.locator("pre").textContent()).split("\n");
    assert.ok(line.endsWith("You: {{user.usrname}}"), line);
    assert.equal(line.indexOf("user.usrname"), caret.indexOf("^"));
    assert.equal(caret.trim().length, "user.usrname".length);
    // The version before it is still there, and says what it is.
    await page.getByText("This is the last good version.").waitFor();
    await mail().getByText("Hello Ada Lovelace").waitFor();
    await page.getByRole("navigation").getByRole("link", { name: /Invite \(\d+ problem/ }).waitFor();
    assert.match(await page.getByRole("status").innerText(), /problem/);

    await card.getByRole("button", { name: /invite\/body\.txt\.hbs/ }).click();
    const focused = await page.evaluate(() => document.activeElement.innerText.trim());
    assert.match(focused, /user\.usrname/);
    await page.getByRole("tabpanel").locator(".note").first().waitFor();

    await place.write("invite/body.txt.hbs", good);
    await page.getByText("All good").waitFor();
    assert.equal(await problems.count(), 0);
    assert.equal(await page.getByText("This is the last good version.").count(), 0);
    assert.match(await page.getByRole("status").innerText(), /mended/);
    assert.ok(await marked());
  });

  test("a saved file is seen at once, and the reader stays where they were", async () => {
    await open("/?template=invite&width=desktop");
    await mark();
    await mail().getByText("Welcome to Example").waitFor();
    await page.mouse.wheel(0, 300);
    await page.waitForFunction(() => scrollY > 200);
    const before = await page.evaluate(() => scrollY);
    const body = await place.read("invite/body.html.hbs");
    await place.write("invite/body.html.hbs", body.replace("Welcome to", "Come in to"));
    await mail().getByText("Come in to Example").waitFor();
    assert.equal(await page.evaluate(() => scrollY), before);
    assert.ok(await marked());
  });

  test("what is broken from the start is said to be so, and shown once it is mended", async () => {
    const good = await place.read("invite/body.html.hbs");
    await place.write("invite/body.html.hbs", "{{#if");
    await open("/?template=invite");
    await page.getByText("There is nothing to show yet.").waitFor();
    assert.equal(await page.locator("iframe").count(), 0);
    await place.write("invite/body.html.hbs", good);
    await mail().getByText("Hello Ada Lovelace").waitFor();
  });

  test("a name at the beginning of a message stays as it is written", async () => {
    await open();
    await rm(place.template("password_reset_link/body.txt.hbs"));
    await page.getByText("password_reset_link has no plain text body").first().waitFor();
  });

  test("a file that no email uses is said in the gallery", async () => {
    await open();
    await place.write("invite/body.htm.hbs", "x");
    const stray = page.getByRole("region", { name: "Files that no email uses" });
    await stray.getByText("invite/body.htm.hbs").first().waitFor();
  });

  test("when the program ends, the page says so; Ctrl-C is no failure", async () => {
    await open("/?template=invite");
    await page.getByText("All good").waitFor();
    assert.equal(await place.stop(), 0);
    await page.getByRole("alert").getByText("still running?").waitFor();
    assert.equal(await page.getByText("All good").isVisible(), false);
  });
});

describe("without a mouse", () => {
  const focused = () => page.evaluate(() => document.activeElement.textContent.trim());
  const press = async (...keys) => {
    for (const key of keys) await page.keyboard.press(key);
  };
  /** Tabs on until the element with the focus has that text. */
  async function tabTo(text) {
    for (let step = 0; step < 60; step++) {
      await press("Tab");
      if ((await focused()).includes(text)) return;
    }
    assert.fail(`Tab does not lead to ${text}`);
  }

  test("every part is reached and worked with keys", async () => {
    await open();
    await press("Tab");
    assert.equal(await focused(), "Skip to the content");
    await tabTo("Account locked");
    await press("Enter");
    await page.getByRole("heading", { level: 1, name: "Account locked" }).waitFor();
    // The title has the focus: a screen reader says where you are.
    await page.waitForFunction(() => document.activeElement.tagName === "H1");
    await tabTo("Preview");
    await press("ArrowRight");
    assert.equal(await page.getByRole("tab", { selected: true }).innerText(), "Plain text");
    await press("ArrowLeft", "ArrowLeft");
    assert.equal(await page.getByRole("tab", { selected: true }).innerText(), "Placeholders");
    await press("Home", "Tab", "ArrowRight");
    await page.waitForFunction(() => document.querySelector('[name="width"]:checked').value === "desktop");
    // Every stop is seen: an outline is drawn around what has the focus.
    await press("Shift+Tab");
    const outline = await page.evaluate(() => getComputedStyle(document.activeElement).outlineStyle);
    assert.notEqual(outline, "none");
  });

  test("the title has the focus also when something is saved on the way there", async () => {
    await open();
    let answer;
    const held = new Promise((resolve) => (answer = resolve));
    let asked = 0;
    await page.route("**/api/mail/**", async (route) => {
      if (++asked === 1) await held;
      await route.continue();
    });
    await page.getByRole("main").getByRole("link", { name: "Account locked" }).click();
    await place.write("invite/subject.hbs", "Another subject for {{site.name}}");
    await page.getByRole("heading", { level: 1, name: "Account locked" }).waitFor();
    answer();
    await page.waitForFunction(() => document.activeElement.tagName === "H1");
  });

  test("the focus stays where it was when something is saved", async () => {
    await open("/?template=invite");
    await page.getByLabel("Person").focus();
    await place.write("invite/subject.hbs", "Another subject for {{site.name}}");
    await page.locator(".inbox-line").getByText("Another subject").waitFor();
    assert.equal(await page.evaluate(() => document.activeElement.name), "person");
  });
});

describe("for everyone to read", () => {
  const [views, panels] = [["/", "/?template=invite", "/?template=invite&view=files"], ["headers", "placeholders", "text"]];
  for (const [what, options] of Object.entries({
    "in light colours": { colorScheme: "light" },
    "in dark colours": { colorScheme: "dark" },
    "on a phone": { colorScheme: "light", viewport: { width: 390, height: 800 } },
  })) {
    test(`axe finds nothing, ${what}`, async () => {
      // With something to say: problems, a last good version, a stray file, one that is switched off.
      await open("/", { ...options, bypassCSP: true });
      await place.write("invite/body.txt.hbs", "{{user.usrname}}");
      await place.write("invite/body.htm.hbs", "x");
      await page.getByText("Last good version").first().waitFor();
      // Tables and texts are in the same colours as all else: once is enough.
      const all = what === "in light colours" ? [...views, ...panels.map((view) => `/?template=invite&view=${view}`)] : views;
      for (const view of all) {
        await page.goto(new URL(view, place.url).href);
        await page.locator("main h1").waitFor();
        await page.waitForFunction(() => document.querySelectorAll(".coming").length === 0);
        await page.evaluate(axeSource);
        // Not into the frames: what is in there are the templates, and no script may run in them.
        const { violations } = await page.evaluate(() => axe.run(document, { iframes: false }));
        const found = violations.map((v) => `${v.impact} ${v.id}: ${v.nodes.map((node) => node.html).slice(0, 3).join(" | ")}`);
        assert.deepEqual(found, [], view);
        // Nothing sticks out sideways.
        const wide = await page.evaluate(() => document.documentElement.scrollWidth - document.documentElement.clientWidth);
        assert.equal(wide, 0, view);
      }
    });
  }
});

describe("the mails themselves", () => {
  test("none is wider than a narrow phone, however long the names are", async () => {
    await open("/");
    const { templates, locales } = await (await fetch(new URL("/api/overview", place.url))).json();
    const narrow = await (await browser.newContext({ viewport: { width: 320, height: 700 } })).newPage();
    const wide = [];
    for (const locale of ["", ...locales]) {
      for (const { name } of templates) {
        const asked = new URL(`/api/mail/${name}?person=long-names&locale=${locale}`, place.url);
        const { shown } = await (await fetch(asked)).json();
        await narrow.setContent(shown.html);
        const width = await narrow.evaluate(() => document.documentElement.scrollWidth);
        if (width > 320) wide.push(`${name} ${locale}: ${width}`);
      }
    }
    await narrow.context().close();
    assert.deepEqual(wide, []);
  });
});

describe("on a workstation", () => {
  // As bad as a template can be, put into the answer behind the check's back.
  const hostile = `<img src="data:," onerror="top.ran = 'handler'"><script>top.ran = "script"; document.title = "ran"</script>
    <img src="https://pixel.invalid/x.png"><link rel="stylesheet" href="https://pixel.invalid/x.css">
    <meta http-equiv="refresh" content="0;url=https://pixel.invalid/"><iframe src="https://pixel.invalid/"></iframe>
    <form action="https://pixel.invalid/" id="f"><button id="submit">Send</button></form>
    <a href="https://pixel.invalid/" id="out">out</a><a href="https://pixel.invalid/" target="_top" id="top">top</a>
    <a href="javascript:top.ran='link'" id="js">js</a><p id="end">end</p>`;

  async function poison(strip = []) {
    await page.route((url) => url.pathname === "/mail/invite", async (route) => {
      const response = await route.fetch();
      const headers = { ...response.headers() };
      for (const name of strip) delete headers[name];
      delete headers["content-length"];
      await route.fulfill({ response, headers, body: (await response.text()).replace("</body>", `${hostile}</body>`) });
    });
  }

  /** A real click on something in the mail, and that it has arrived. */
  async function click(id) {
    const at = await page.evaluate(async (id) => {
      const frame = document.querySelector("iframe");
      const element = frame.contentDocument.getElementById(id);
      element.scrollIntoView({ block: "center" });
      // What is drawn, not what is to be drawn next, is what is clicked on.
      for (let drawn = 0; drawn < 3; drawn++) await new Promise(requestAnimationFrame);
      const [outer, inner] = [frame.getBoundingClientRect(), element.getBoundingClientRect()];
      return [outer.x + inner.x + inner.width / 2, outer.y + inner.y + inner.height / 2];
    }, id);
    await page.mouse.click(...at);
    assert.equal(await page.evaluate(() => document.querySelector("iframe").contentDocument.activeElement.id), id);
  }

  async function nothingRan() {
    await mail().locator("#end").waitFor();
    for (const id of ["submit", "out", "top", "js"]) await click(id);
    // The page tells where the last one would have led.
    assert.match(await page.locator(".hint").innerText(), /^javascript:/);
    await page.evaluate(() => new Promise((done) => setTimeout(done, 300)));
    assert.equal(await page.evaluate(() => window.ran), undefined);
    assert.equal(page.context().pages().length, 1);
    assert.ok(page.url().startsWith(place.url));
    await mail().locator("#end").waitFor();
  }

  test("a script in a mail does not run, nothing is loaded, no link leads away", async () => {
    await open("/");
    await poison();
    await page.goto(new URL("/?template=invite&width=desktop", place.url).href);
    await nothingRan();
  });

  test("the sandbox alone keeps scripts from running, and the policy alone too", async () => {
    await open("/");
    await poison(["content-security-policy"]);
    await page.goto(new URL("/?template=invite&width=desktop", place.url).href);
    await mail().locator("#end").waitFor();
    assert.equal(await page.evaluate(() => window.ran), undefined);
    // Without its policy a mail loads pictures; that is what the policy is for.
    assert.ok(foreign.size > 0);
    await page.context().close();
    foreign.clear();

    await open("/");
    await poison();
    await page.goto(new URL("/mail/invite", place.url).href);
    await page.locator("#end").waitFor();
    assert.equal(await page.evaluate(() => window.ran), undefined);
    assert.notEqual(await page.title(), "ran");
  });

  test("only its own names are answered, and only to look", async () => {
    await place.preview();
    const { port } = new URL(place.url);
    const ask = (options) => new Promise((answered, failed) => {
      request({ host: "127.0.0.1", port, path: "/api/overview", ...options }, (answer) => {
        answer.resume();
        answered(answer.statusCode);
      }).on("error", failed).end();
    });
    assert.equal(await ask({ headers: { host: `localhost:${port}` } }), 200);
    assert.equal(await ask({ headers: { host: "evil.example" } }), 421);
    assert.equal(await ask({ headers: { host: `127.0.0.1.evil.example:${port}` } }), 421);
    assert.equal(await ask({ method: "POST" }), 405);
    assert.equal(await ask({ headers: { "sec-fetch-site": "cross-site", "sec-fetch-mode": "cors" } }), 403);
  });

  test("it listens on this machine only", async () => {
    for (const address of ["0.0.0.0:0", "[::]:0", "192.0.2.1:8099"]) {
      const { code, err } = await place.run("templates", "preview", "--listen", address);
      assert.notEqual(code, 0);
      assert.match(err, /for this machine only: listen on 127\.0\.0\.1/);
    }
    await place.preview();
    const taken = await place.run("templates", "preview", "--listen", new URL(place.url).host);
    assert.equal(taken.code, 1);
    assert.match(taken.err, /choose another port/);
  });
});

describe("regrant templates send", () => {
  const configuration = '[mail]\ntransport = "file"\n[sites.default]\nname = "Example"\n[sites.north]\nname = "North"\n';

  test("sends a sample that says it is a test", async () => {
    await writeFile(place.path("regrant.toml"), configuration);
    const sent = await place.run("templates", "send", "--to", "me@example.org", "--template", "invite", "--site", "north");
    assert.equal(sent.code, 0, sent.err);
    const [file] = await readdir(place.path("outbox"));
    const message = await readFile(place.path("outbox", file), "utf8");
    assert.match(message, /^Subject: \[Test\] .*North\r$/m);
    assert.match(message, /^X-Regrant-Test: yes\r$/m);
    assert.match(message, /^To: .*<me@example\.org>\r$/m);
    assert.match(message, /sample-link-that-opens-nothing/);
  });

  test("says what it does not know", async () => {
    await writeFile(place.path("regrant.toml"), configuration);
    const cases = [
      [["--to", "me@example.org", "--template", "invites"], /no email template `invites`/],
      [["--to", "me@example.org", "--template", "invite", "--site", "south"], /no site `south`; there are: default, north/],
      [["--to", "me", "--template", "invite"], /recipient's address/],
      [["--to", "me@example.org", "--template", "invite", "--locale", "x"], /--locale x: not a language tag/],
    ];
    for (const [words, said] of cases) {
      const { code, err } = await place.run("templates", "send", ...words);
      assert.notEqual(code, 0);
      assert.match(err, said);
    }
  });
});
