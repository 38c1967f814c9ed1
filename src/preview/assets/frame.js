// The frame that shows a mail. It is sandboxed: no scripts, no forms, no windows, and its answer's policy lets nothing in
// from the network. It is of this origin, so that it can be measured here; without scripts it can make no use of that.
import { h } from "./dom.js";

export class Frame {
  #place = h("div", { class: "sheet" });
  #shown = null;
  #coming = null;
  #key = "";
  #options;

  /**
   * `fit`: the frame is as high as the mail, so that the page scrolls and not the frame. `thumbnail`: it cannot be focused or
   * clicked. `loaded` is called with the document.
   */
  constructor(title, options = {}) {
    this.title = title;
    this.#options = options;
    if (options.fit) new ResizeObserver(() => this.#fit(this.#shown)).observe(this.#place);
  }

  get element() {
    return this.#place;
  }

  /** Shows an address; `key` tells whether anything has changed. The old mail stays until the new one is there. */
  show(address, key, scheme) {
    key = JSON.stringify([address, key, scheme]);
    if (key === this.#key) return;
    this.#key = key;
    this.#coming?.remove();
    const frame = h("iframe", {
      sandbox: "allow-same-origin",
      title: this.title,
      tabindex: this.#options.thumbnail ? "-1" : null,
      class: "coming",
    });
    frame.addEventListener("load", () => this.#arrived(frame, scheme), { once: true });
    frame.src = address;
    this.#coming = frame;
    this.#place.append(frame);
  }

  clear() {
    this.#key = "";
    this.#coming?.remove();
    this.#shown?.remove();
    this.#coming = this.#shown = null;
  }

  #arrived(frame, scheme) {
    if (frame !== this.#coming) return;
    prefer(frame.contentDocument, scheme);
    const before = this.#shown?.contentWindow?.scrollY ?? 0;
    this.#fit(frame);
    frame.classList.remove("coming");
    frame.contentWindow.scrollTo(0, before);
    this.#shown?.remove();
    this.#shown = frame;
    this.#coming = null;
    this.#options.loaded?.(frame.contentDocument);
  }

  #fit(frame) {
    const root = frame?.contentDocument?.documentElement;
    if (!this.#options.fit || !root) return;
    frame.style.height = "0";
    frame.style.height = `${Math.max(root.scrollHeight, 120)}px`;
  }
}

/** Makes a mail look as it does to a reader who prefers that colour scheme, whatever this browser prefers. */
function prefer(mail, scheme) {
  const decided = (media) => media.replace(/\(\s*prefers-color-scheme\s*:\s*(dark|light)\s*\)/gi,
    (_, asked) => (asked.toLowerCase() === scheme ? "(min-width: 0)" : "(max-width: 0)"));
  const decide = (rule) => {
    if (rule.media?.mediaText.includes("prefers-color-scheme")) rule.media.mediaText = decided(rule.media.mediaText);
    for (const inner of rule.cssRules ?? []) decide(inner);
  };
  // Linked style sheets are not loaded, and could not be read.
  for (const sheet of mail.styleSheets) if (!sheet.href) decide(sheet);
  for (const source of mail.querySelectorAll("source[media]")) source.media = decided(source.media);
  // Default background and text colours; dark ones only if the mail declares that it supports them.
  const root = mail.documentElement;
  const made = `${getComputedStyle(root).colorScheme} ${mail.querySelector("meta[name=color-scheme]")?.content ?? ""}`;
  root.style.colorScheme = made.includes(scheme) ? scheme : "light";
}

/** The preheader that an inbox shows beside the subject: the mail's first words, hidden ones included. */
export function preheader(mail) {
  const walker = mail.createTreeWalker(mail.body, NodeFilter.SHOW_TEXT);
  let words = "";
  while (words.length < 160 && walker.nextNode()) {
    if (walker.currentNode.parentElement?.closest("style, title, script")) continue;
    // Drops invisible fillers, which keep an inbox from showing what comes after the preheader.
    words += walker.currentNode.data.replace(/[\u034f\u200b-\u200d\u00ad\ufeff]/g, "") + " ";
  }
  return words.replace(/\s+/g, " ").trim().slice(0, 160);
}
