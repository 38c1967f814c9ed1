// Every email at a glance.
import { badges, fill, h } from "./dom.js";
import { Frame } from "./frame.js";
import { problemCard } from "./problems.js";

/** Makes the gallery; `address` gives the address of a mail's frame, `page` that of its page here. */
export function gallery({ address, page }) {
  const cards = new Map();
  const grid = h("ul", { class: "cards" });
  const other = h("div");
  const lead = h("p", { class: "lead" });
  const element = h("div", { class: "gallery" },
    h("div", { class: "title" }, h("h1", { tabindex: "-1" }, "All emails")), lead, other, grid);

  function card(template) {
    const frame = new Frame(template.title, { thumbnail: true });
    const picture = h("div", { class: "picture", "aria-hidden": "true", inert: true }, frame.element,
      h("p", { class: "nothing" }, "Nothing to show until its problems are mended"));
    const words = h("div", { class: "words" });
    const element = h("li", { class: "card" }, picture, words);
    grid.append(element);
    return { frame, picture, words };
  }

  function update({ overview, revision, scheme }) {
    lead.textContent = `${overview.templates.length} emails in ${overview.directory}, shown to made-up people. Links open nothing.`;
    for (const template of overview.templates) {
      if (!cards.has(template.name)) cards.set(template.name, card(template));
      const { frame, picture, words } = cards.get(template.name);
      const nothing = template.standing === "faulty";
      picture.classList.toggle("empty", nothing);
      if (nothing) frame.clear();
      else frame.show(address(template.name), revision, scheme);
      fill(words,
        h("h2", null, h("a", { href: page(template.name), "data-link": true, "data-key": template.name }, template.title)),
        h("p", { class: "subject" }, template.subject ?? "No subject yet"),
        h("p", { class: "about" }, template.about),
        h("p", { class: "badges" }, badges(template)));
    }
    // Problems of an email are shown at the email; these belong to none.
    const stray = overview.problems.filter((problem) => problem.affects.length === 0);
    fill(other, stray.length > 0 && h("section", { class: "problems", "aria-labelledby": "stray" },
      h("h2", { id: "stray" }, "Files that no email uses"),
      h("ul", null, stray.map((problem) => problemCard(problem)))));
  }

  return { element, update };
}
