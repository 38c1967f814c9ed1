// What is wrong with a template, and its files with the wrong lines marked.
import { count, h, sentence } from "./dom.js";

/** Characters before and after the place that are shown of a long line. */
const AROUND = 48;

function place(problem) {
  return problem.line > 0 ? `${problem.file}:${problem.line}:${problem.column}` : problem.file;
}

/** The line of the file with a mark under the place. */
function excerpt(problem) {
  if (problem.excerpt == null) return null;
  // By characters, as the check counts them, not by UTF-16 units.
  const line = [...problem.excerpt].map((c) => (c < " " ? " " : c));
  const column = Math.max(problem.column - 1, 0);
  const start = Math.max(column - AROUND, 0);
  const length = Math.max(1, Math.min(problem.length, AROUND, line.length - column));
  const before = line.slice(start, column).join("");
  const number = `${problem.line}`;
  return h("pre", { class: "excerpt", tabindex: "0", role: "group", "aria-label": `Line ${number} of ${problem.file}` },
    h("span", { class: "number", "aria-hidden": "true" }, number), before,
    h("mark", null, line.slice(column, column + length).join("")),
    line.slice(column + length, column + AROUND * 2).join(""), "\n",
    h("span", { class: "number", "aria-hidden": "true" }, " ".repeat(number.length)),
    h("span", { class: "caret", "aria-hidden": "true" }, " ".repeat([...before].length) + "^".repeat(length)));
}

/** One problem; `go` leads to its file, if that can be shown here. */
export function problemCard(problem, go) {
  const name = place(problem);
  return h("li", { class: "problem" },
    h("div", { class: "problem-head" },
      go
        ? h("button", { class: "place", type: "button", "data-key": `go ${name} ${problem.rule}`, onclick: () => go(problem) }, name)
        : h("span", { class: "place" }, name),
      h("span", { class: "rule" }, problem.rule)),
    h("p", { class: "message" }, sentence(problem.message)),
    excerpt(problem),
    problem.help && h("p", { class: "help" }, h("span", { class: "label" }, "Help"), h("span", null, sentence(problem.help))));
}

export function lineId(path, line) {
  return `line ${path} ${line}`;
}

/** A file with its lines numbered, and each problem below its line. */
export function sourceFile(file, problems) {
  const own = problems.filter((problem) => problem.file === file.path);
  const at = new Map();
  for (const problem of own) at.set(problem.line, [...(at.get(problem.line) ?? []), problem]);
  const note = (problem) => h("div", { class: "note" },
    h("strong", null, sentence(problem.message), "."), problem.help && [" ", h("span", null, sentence(problem.help))]);
  const lines = file.text.replace(/\n$/, "").split("\n");
  const rows = lines.flatMap((text, index) => {
    const wrong = at.get(index + 1) ?? [];
    return [
      h("div", { class: wrong.length ? "line wrong" : "line", id: lineId(file.path, index + 1), tabindex: wrong.length ? "-1" : null },
        h("span", { class: "number" }, `${index + 1}`), h("code", null, text || "\u200b")),
      wrong.map(note),
    ];
  });
  return h("section", { class: "file", "aria-label": file.path },
    h("header", null, h("h3", null, file.path), h("span", { class: "quiet" }, file.label),
      own.length > 0 && h("span", { class: "badge bad" }, count(own.length, "problem"))),
    (at.get(0) ?? []).map(note),
    h("div", { class: "lines", tabindex: "0", role: "group", "aria-label": `Lines of ${file.path}` }, rows));
}
