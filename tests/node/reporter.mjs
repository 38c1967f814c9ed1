// Says how tests went in the words of `cargo test`, so that script/test counts all tests in one way.
export default async function* report(source) {
  const counts = { passed: 0, failed: 0 };
  const path = [];
  for await (const { type, data } of source) {
    if (type === "test:start") path[data.nesting] = data.name;
    if (type === "test:stdout" || type === "test:stderr") yield data.message;
    if ((type !== "test:pass" && type !== "test:fail") || data.details?.type === "suite" || data.skip !== undefined) continue;
    const name = [...path.slice(0, data.nesting), data.name].join(": ");
    if (type === "test:pass") {
      counts.passed++;
      yield `test ${name} ... ok\n`;
    } else {
      counts.failed++;
      const { error } = data.details;
      yield `test ${name} ... FAILED\n${(error.cause?.stack ?? error.cause ?? error.stack ?? error.message ?? "").toString().replace(/^/gm, "    ")}\n`;
    }
  }
  yield `test result: ${counts.failed ? "FAILED" : "ok"}. ${counts.passed} passed; ${counts.failed} failed\n`;
}
