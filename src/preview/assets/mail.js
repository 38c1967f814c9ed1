// One email: how it looks, what is wrong with it, what it is made of.
import { badges, count, fill, h, say, segments } from "./dom.js";
import { Frame, preheader } from "./frame.js";
import { lineId, problemCard, sourceFile } from "./problems.js";

const VIEWS = [
  ["look", "Preview"],
  ["text", "Plain text"],
  ["html", "HTML source"],
  ["headers", "Headers"],
  ["files", "Template files"],
  ["placeholders", "Placeholders"],
];
const WIDTHS = [["both", "Both"], ["desktop", "Desktop"], ["phone", "Phone"]];
const SCHEMES = [["light", "Light"], ["dark", "Dark"]];

/** A header that had to be encoded (RFC 2047), as people read it. */
function inWords(value) {
  const words = value.replace(/=\?utf-8\?b\?([^?]*)\?=\s*/gi, (_, base64) =>
    new TextDecoder().decode(Uint8Array.from(atob(base64), (c) => c.charCodeAt(0))));
  return words !== value && h("div", { class: "quiet" }, words);
}

/** Makes the view of one email. `set` changes what the address of the page says; `address` is that of a mail's frame. */
export function mailView({ set, address, download }) {
  let data = null;
  let state = null;
  const slots = Object.fromEntries(["head", "banner", "inbox", "problems"].map((name) => [name, h("div", { class: name })]));
  const hint = h("p", { class: "hint", "aria-live": "off" });
  const snippet = h("span", { class: "snippet" });

  function loaded(mail) {
    snippet.textContent = preheader(mail);
    // Where a link leads, as a browser shows it below the page.
    const show = (event) => {
      const link = event.target.closest?.("a[href]");
      hint.textContent = link ? `${link.getAttribute("href")}  (opens nothing here)` : "";
    };
    for (const kind of ["mouseover", "focusin", "click"]) mail.addEventListener(kind, show);
    mail.addEventListener("mouseleave", () => (hint.textContent = ""));
  }
  const desktop = new Frame("The email at desktop width", { fit: true, loaded });
  const phone = new Frame("The email at phone width");

  const controls = h("div", { class: "controls" });
  const stage = h("div", { class: "stage" },
    h("figure", { class: "desktop" }, h("figcaption", null, "Desktop"), desktop.element),
    h("figure", { class: "phone" }, h("figcaption", null, "Phone · 375 × 720"), phone.element));
  const empty = h("p", { class: "empty-note" });
  const panels = Object.fromEntries(VIEWS.map(([name]) => [name, h("div", {
    role: "tabpanel", id: `panel-${name}`, "aria-labelledby": `tab-${name}`, class: `panel ${name}`, tabindex: name === "look" ? null : "0",
  })]));
  panels.look.append(controls, empty, stage, hint);

  const tabs = VIEWS.map(([name, text]) => h("button", {
    role: "tab", type: "button", id: `tab-${name}`, "aria-controls": `panel-${name}`, onclick: () => set({ view: name }),
  }, text));
  const tablist = h("div", { role: "tablist", class: "tabs", "aria-label": "Ways to look at it", onkeydown: byArrows }, tabs);
  const element = h("article", { class: "mail" },
    slots.head, slots.banner, slots.inbox, slots.problems, tablist, Object.values(panels));

  function byArrows(event) {
    const at = tabs.indexOf(document.activeElement);
    const to = { ArrowRight: at + 1, ArrowLeft: at - 1, Home: 0, End: tabs.length - 1 }[event.key];
    if (to === undefined || at < 0) return;
    event.preventDefault();
    const tab = tabs[(to + tabs.length) % tabs.length];
    tab.focus();
    tab.click();
  }

  function go(problem) {
    set({ view: "files" });
    const line = document.getElementById(lineId(problem.file, problem.line));
    (line ?? panels.files).focus();
    line?.scrollIntoView({ block: "center" });
  }

  function served({ site, locale }) {
    const whose = [site && `site ${site}`, locale].filter(Boolean).join(", ");
    return whose ? `Files of ${whose}` : "Files for everyone";
  }

  function drawHead() {
    const good = data.shown.subject !== undefined;
    fill(slots.head,
      h("a", { href: "/", "data-link": true, class: "back", "data-key": "back" }, "All emails"),
      h("div", { class: "title" },
        h("h1", { tabindex: "-1", "data-key": "title" }, data.title),
        h("p", { class: "badges" }, badges(data), h("span", { class: "badge plain" }, served(data.variant))),
        good && h("a", { class: "button", href: download(), download: true, "data-key": "download" }, "Download .eml")),
      h("p", { class: "lead" }, data.about));
    const wrong = count(data.problems.length, "problem");
    const told = {
      good: null,
      last_good: ["warn", "This is the last good version. ", `The saved files have ${wrong}; until they are mended, a running daemon goes on with its last good version too.`],
      faulty: ["bad", "There is nothing to show yet. ", `The files have ${wrong}, and have had since this page was started. The daemon would not start with them.`],
    }[data.standing];
    const off = data.awaited ? "Switched off. People wait for this email in vain." : "Switched off: this email is not sent.";
    fill(slots.banner,
      told && h("p", { class: `notice ${told[0]}` }, h("strong", null, told[1]), told[2]),
      !data.enabled && h("p", { class: "notice" }, off, " Set ", h("code", null, "enabled = true"), " in its ", h("code", null, "template.toml"), "."));
  }

  function drawInbox() {
    const { subject, subject_length: length } = data.shown;
    const name = data.from.name ?? data.from.address;
    fill(slots.inbox, subject !== undefined && [
      h("div", { class: "inbox-line", role: "group", "aria-label": "In the inbox" },
        h("span", { class: "avatar", "aria-hidden": "true" }, [...data.site][0]),
        h("span", { class: "sender" }, name),
        h("span", { class: "words" }, h("span", { class: "subject" }, subject), " ", snippet),
        h("span", { class: "time" }, "14:02")),
      h("p", { class: "measure" },
        h("span", null, `From ${name} <${data.from.address}>`),
        h("span", null, `Subject: ${count(length, "character")}`, length > 60 && ", which phones cut off"),
        h("span", null, `Message ${(data.shown.size / 1024).toFixed(1)} KB`))]);
  }

  function drawProblems() {
    fill(slots.problems, data.problems.length > 0 && h("section", { class: "problems", "aria-labelledby": "problems-title" },
      h("h2", { id: "problems-title" }, data.problems.length === 1 ? "A problem to mend" : `${data.problems.length} problems to mend`),
      h("ul", null, data.problems.map((problem) => problemCard(problem, go)))));
  }

  function drawLook() {
    if (!controls.hasChildNodes()) {
      controls.append(segments("Width", "width", WIDTHS, state.width, (width) => set({ width })),
        segments("Colours of the reader", "scheme", SCHEMES, state.scheme, (scheme) => set({ scheme })));
    }
    for (const input of controls.querySelectorAll("input")) input.checked = state[input.name] === input.value;
    const good = data.shown.html !== undefined;
    empty.hidden = good;
    stage.hidden = !good;
    empty.textContent = good ? "" : "Nothing to show until its problems are mended.";
    stage.className = `stage ${state.width} ${state.scheme}`;
    if (!good) return [desktop, phone].forEach((frame) => frame.clear());
    // The hidden phone frame is not loaded. The desktop one always is: the inbox line needs its text.
    desktop.show(address(), data.shown.html, state.scheme);
    if (state.width !== "desktop") phone.show(address(), data.shown.html, state.scheme);
  }

  function copy(text, what) {
    const button = h("button", { type: "button", class: "button copy", "data-key": `copy ${what}`, onclick: async () => {
      await navigator.clipboard.writeText(text);
      button.textContent = "Copied";
      say(`${what} copied`);
      setTimeout(() => (button.textContent = "Copy"), 1500);
    } }, "Copy");
    return button;
  }

  function drawPanels() {
    const { shown } = data;
    const nothing = h("p", { class: "empty-note" }, shown.reason);
    const text = (content, what, kind) => (content === undefined ? nothing.cloneNode(true)
      : [copy(content, what), h("pre", { class: kind, tabindex: "0", role: "group", "aria-label": what }, content)]);
    fill(panels.text, text(shown.text, "Plain text", "letter"));
    fill(panels.html, text(shown.html, "HTML source", "code"));
    fill(panels.headers, shown.headers === undefined ? nothing : [
      h("table", null, h("caption", { class: "unseen" }, "Headers of the message"), h("tbody", null,
        shown.headers.map(([name, value]) => h("tr", null, h("th", { scope: "row" }, name), h("td", null, value, inWords(value)))))),
      h("p", { class: "quiet" }, "As it would leave, but for a DKIM signature: that needs the real key.")]);
    fill(panels.files, data.files.map((file) => sourceFile(file, data.problems)));
    const mark = (p) => (p.required ? h("span", { class: "badge" }, "Must be shown") : p.may_be_absent && h("span", { class: "badge plain" }, "May be missing"));
    fill(panels.placeholders, h("table", null,
      h("caption", { class: "unseen" }, "What this email may show"),
      h("thead", null, h("tr", null, ["Placeholder", "What it is", "Here"].map((name) => h("th", { scope: "col" }, name)))),
      h("tbody", null, data.placeholders.map((p) => h("tr", null,
        h("th", { scope: "row" }, h("code", null, `{{${p.name}}}`), " ", mark(p)),
        h("td", null, p.about, h("span", { class: "quiet" }, ` · ${p.kind}`)),
        h("td", { class: "value" }, p.value || h("span", { class: "quiet" }, "missing")))))));
  }

  function drawTabs() {
    VIEWS.forEach(([name, text], index) => {
      const chosen = name === state.view;
      tabs[index].setAttribute("aria-selected", `${chosen}`);
      tabs[index].tabIndex = chosen ? 0 : -1;
      tabs[index].textContent = text;
      if (name === "files" && data.problems.length) tabs[index].append(" ", h("span", { class: "badge bad" }, `${data.problems.length}`));
      panels[name].hidden = !chosen;
    });
  }

  /** `fresh` is new data; without it only the ways to look at it have changed. */
  function update(next, fresh) {
    state = next;
    if (fresh) {
      data = fresh;
      [drawHead, drawInbox, drawProblems, drawPanels].forEach((draw) => draw());
    }
    drawTabs();
    drawLook();
  }

  return { element, update };
}
