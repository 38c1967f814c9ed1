// The page as a whole: what its address says, what it asks the server for, and when.
import { badges, count, fill, h, say } from "./dom.js";
import { gallery } from "./gallery.js";
import { mailView } from "./mail.js";

const CHOICES = { site: "default", locale: "", person: "usual", situation: "person" };
const WAYS = { view: "look", width: "both", scheme: "light" };
const DEFAULTS = { template: "", ...CHOICES, ...WAYS };

const $ = (id) => document.getElementById(id);
const views = { gallery: null, mail: null, of: null };
let state = read();
let overview = null;
let revision = "";
let asked = 0;
/** What an earlier request still wanted done, when a later one overtook it. */
let owed = { moved: false, saved: false };

function read() {
  const said = new URLSearchParams(location.search);
  return Object.fromEntries(Object.entries(DEFAULTS).map(([name, usual]) => [name, said.get(name) ?? usual]));
}

/** The query string: only values that differ from the defaults, so that addresses stay short. */
function query(of, names = Object.keys(DEFAULTS)) {
  const said = new URLSearchParams(names.filter((name) => of[name] !== DEFAULTS[name]).map((name) => [name, of[name]]));
  return said.size ? `?${said}` : "";
}
const choices = () => query(state, Object.keys(CHOICES));
const page = (template) => `/${query({ ...state, template, view: DEFAULTS.view })}`;

async function ask(path) {
  const answer = await fetch(path);
  if (!answer.ok) throw new Error((await answer.text()).trim());
  return answer.json();
}

/** Changes what is shown. Width and colour scheme need nothing new from the server. */
function set(changes) {
  const next = { ...state, ...changes };
  const moved = next.template !== state.template;
  state = next;
  history[moved ? "pushState" : "replaceState"](null, "", `/${query(state)}`);
  if (Object.keys(changes).every((name) => name in WAYS) && views.of) {
    views.mail.update(state);
    return;
  }
  show({ moved });
}

/** Fetches everything that is to be seen, and shows it; answers to earlier requests that arrive later are ignored. */
async function show(why = {}) {
  const mine = ++asked;
  owed = { moved: owed.moved || !!why.moved, saved: owed.saved || !!why.saved };
  const { template } = state;
  try {
    const [all, mail] = await Promise.all([
      ask(`/api/overview${choices()}`),
      template ? ask(`/api/mail/${encodeURIComponent(template)}${choices()}`) : null,
    ]);
    if (mine !== asked) return;
    const before = overview;
    overview = all;
    drawShell();
    if (mail) showMail(mail);
    else showGallery();
    const { moved, saved } = owed;
    owed = { moved: false, saved: false };
    if (moved) {
      scrollTo(0, 0);
      $("main").querySelector("h1").focus({ preventScroll: true });
    }
    if (saved) announce(before);
  } catch (error) {
    if (mine !== asked) return;
    owed = { moved: false, saved: false };
    // An old address may name a site or language that is gone, or an unknown email.
    views.of = null;
    fill($("main"), h("div", { class: "lost" }, h("h1", { tabindex: "-1" }, "This is not here"), h("p", null, error.message),
      h("p", null, h("a", { class: "button", href: "/", "data-link": true }, "All emails"))));
  }
}

function showMail(mail) {
  if (views.of !== mail.template) {
    views.of = mail.template;
    const address = () => `/mail/${mail.template}${choices()}`;
    views.mail = mailView({ set, address, download: () => `/message/${mail.template}${choices()}` });
    views.gallery = null;
    fill($("main"), views.mail.element);
  }
  document.title = `${mail.problems.length ? `(${mail.problems.length}) ` : ""}${mail.title} · regrant emails`;
  views.mail.update(state, mail);
}

function showGallery() {
  if (!views.gallery) {
    views.of = null;
    views.gallery = gallery({ page, address: (template) => `/mail/${template}${choices()}` });
    fill($("main"), views.gallery.element);
  }
  document.title = "Email templates · regrant";
  views.gallery.update({ overview, revision, scheme: state.scheme });
}

function drawShell() {
  const select = (name, label, options) => h("div", { class: "choice" }, h("label", { for: `choose-${name}` }, label),
    h("select", { id: `choose-${name}`, name, "data-key": name, onchange: (event) => set({ [name]: event.target.value }) },
      options.map(([value, text]) => h("option", { value, selected: value === state[name] }, text))));
  const site = overview.sites.find((known) => known.id === state.site);
  const names = new Intl.DisplayNames(["en"], { type: "language" });
  const language = (tag) => `${names.of(tag)} (${tag})`;
  const locales = overview.locales.includes(state.locale) || !state.locale ? overview.locales : [...overview.locales, state.locale];
  fill($("choices"),
    select("site", "Site", overview.sites.map(({ id, label }) => [id, label.toLowerCase() === id ? label : `${label} (${id})`])),
    select("locale", "Language", [["", site?.locale ? `The site’s: ${language(site.locale)}` : "Default"], ...locales.map((tag) => [tag, language(tag)])]),
    select("person", "Person", overview.people.map(({ id, label }) => [id, label])),
    select("situation", "Situation", overview.situations.map(({ id, label }) => [id, label])));

  const entry = (href, current, name, ...content) => h("li", null,
    h("a", { href, "data-link": true, "data-key": name, "aria-current": current && "page" }, content));
  fill($("list"),
    entry(`/${query({ ...state, template: "", view: DEFAULTS.view })}`, !state.template, "all", h("span", { class: "name" }, "All emails")),
    overview.templates.map((template) => {
      const wrong = template.standing !== "good";
      const said = wrong ? count(template.problems, "problem") : template.enabled ? "good" : "switched off";
      return entry(page(template.name), state.template === template.name, template.name,
        h("span", { class: `dot ${wrong ? "bad" : template.enabled ? "good" : "off"}`, "aria-hidden": "true" }),
        h("span", { class: "name" }, template.title, h("span", { class: "unseen" }, ` (${said})`)),
        wrong && h("span", { class: "number", "aria-hidden": "true" }, `${template.problems}`));
    }));
  fill($("about"), "Made-up people only. Saved files show up by themselves. ",
    h("span", { class: "path" }, overview.configuration ? `Sites from ${overview.configuration}` : "No configuration: sample values for sites"));

  const number = overview.problems.length;
  fill($("health"), h("a", { href: firstProblem(), "data-link": true, "data-key": "health", class: number ? "pill bad" : "pill good" },
    h("span", { class: "dot", "aria-hidden": "true" }), number ? count(number, "problem") : "All good"));
  $("unreadable").hidden = !overview.unreadable;
  $("unreadable").textContent = overview.unreadable ? `The templates cannot be read; what you see is as it was before: ${overview.unreadable}` : "";
  // Links on every page keep the chosen site, language and person.
  for (const link of document.querySelectorAll(".brand")) link.href = `/${query({ ...state, template: "", view: DEFAULTS.view })}`;
}

/** Leads to an email with problems, if there is one, or to the gallery. */
function firstProblem() {
  const wrong = overview.templates.find((template) => template.problems > 0);
  return wrong ? page(wrong.name) : `/${query({ ...state, template: "", view: DEFAULTS.view })}`;
}

function announce(before) {
  const was = before?.problems.length ?? 0;
  const now = overview.problems.length;
  if (now === 0) say(was ? "Saved and read: all problems are mended." : "Saved and read: all templates are good.");
  else say(`Saved and read: ${count(now, "problem")}. ${overview.problems[0].message}`);
}

let changes = null;

/** The server says when something was saved. */
function follow() {
  changes = new EventSource("/api/changes");
  changes.addEventListener("revision", (event) => {
    $("offline").hidden = true;
    $("health").hidden = false;
    if (event.data === revision) return;
    const saved = revision !== "";
    revision = event.data;
    show({ saved });
  });
  changes.addEventListener("error", () => {
    $("offline").textContent = "No connection: is “regrant templates preview” still running? What you see may be old.";
    $("offline").hidden = false;
    // Whether all is good is not known any more.
    $("health").hidden = true;
  });
}

// A browser opens at most six connections to one server: pages in the background close theirs.
document.addEventListener("visibilitychange", () => {
  if (document.hidden) changes?.close();
  else if (changes?.readyState === EventSource.CLOSED) follow();
});

document.addEventListener("click", (event) => {
  const link = event.target.closest("a[data-link]");
  if (!link || event.button !== 0 || event.metaKey || event.ctrlKey || event.shiftKey || event.altKey) return;
  event.preventDefault();
  const to = new URL(link.href);
  history.pushState(null, "", to.pathname + to.search);
  state = read();
  show({ moved: true });
});
addEventListener("popstate", () => {
  state = read();
  show({ moved: true });
});
// The bar may wrap; elements that stick below it need its height.
const bar = document.querySelector(".bar");
new ResizeObserver(() => document.documentElement.style.setProperty("--bar", `${bar.offsetHeight}px`)).observe(bar);
$("choices").addEventListener("submit", (event) => event.preventDefault());

follow();
