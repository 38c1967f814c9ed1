// Small things that every part of the page uses. Nodes are made one by one, never from strings: a template's text is data.

/** An element. `props` are attributes; `on…` are listeners; false and null leave an attribute out. */
export function h(tag, props, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(props ?? {})) {
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (value === true) element.setAttribute(name, "");
    else if (value !== false && value != null) element.setAttribute(name, value);
  }
  element.append(...children.flat(Infinity).filter((child) => child != null && child !== false));
  return element;
}

/** Replaces the contents of an element. The focus stays where it was, if the new contents have the same `data-key`. */
export function fill(place, ...nodes) {
  const focused = place.contains(document.activeElement) && document.activeElement !== place
    ? document.activeElement.closest("[data-key]")?.dataset.key ?? ""
    : null;
  place.replaceChildren(...nodes.flat(Infinity).filter((node) => node != null && node !== false));
  if (focused === null) return;
  const again = focused && [...place.querySelectorAll("[data-key]")].find((e) => e.dataset.key === focused);
  (again || document.getElementById("main")).focus({ preventScroll: true });
}

/** Announces a change to screen readers. */
export function say(text) {
  document.getElementById("live").textContent = text;
}

/** Text with its `names` set as code. */
export function prose(text) {
  return text.split(/`([^`]+)`/).map((part, index) => (index % 2 ? h("code", null, part) : part));
}

/** The same, as a sentence of its own. A name such as `password_reset_link` stays as it is written. */
export function sentence(text) {
  return prose(text.replace(/^[a-z](?![a-z]*[_./:])/, (letter) => letter.toUpperCase()));
}

export function count(number, what) {
  return `${number} ${what}${number === 1 ? "" : "s"}`;
}

/** Badges for the state of an email. */
export function badges({ standing, enabled, problems }) {
  const number = Array.isArray(problems) ? problems.length : problems;
  return [
    number > 0 && h("span", { class: "badge bad" }, count(number, "problem")),
    standing === "last_good" && h("span", { class: "badge warn" }, "Last good version"),
    !enabled && h("span", { class: "badge" }, "Switched off"),
  ];
}

/** A group of choices: radio buttons, so that arrow keys and screen readers work. */
export function segments(label, name, options, chosen, choose) {
  return h("fieldset", { class: "segments" },
    h("legend", { class: "unseen" }, label),
    options.map(([value, text]) => h("label", null,
      h("input", { type: "radio", name, value, checked: value === chosen, onchange: () => choose(value) }),
      h("span", null, text))));
}
