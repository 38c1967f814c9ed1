// Takes the pictures of docs/templates.md: node tests/preview/pictures.mjs [DIRECTORY]
// Without a directory: target/pictures. What is to be committed goes to docs/images.
import { mkdir, writeFile } from "node:fs/promises";
import { join, resolve } from "node:path";
import { Place, launch } from "./harness.mjs";

const to = resolve(process.argv[2] ?? join(process.env.CARGO_TARGET_DIR ?? "target", "pictures"));
await mkdir(to, { recursive: true });
const place = await Place.make();
const browser = await launch();

async function picture(name, path, { size = [1400, 860], colorScheme = "light", ready } = {}) {
  const context = await browser.newContext({ viewport: { width: size[0], height: size[1] }, colorScheme, reducedMotion: "reduce" });
  const page = await context.newPage();
  await page.goto(new URL(path, place.url).href);
  await page.locator("main h1").waitFor();
  await ready?.(page);
  await page.waitForFunction(() => document.querySelectorAll(".coming").length === 0);
  await page.screenshot({ path: join(to, `${name}.png`) });
  await context.close();
}

try {
  await writeFile(place.path("regrant.toml"), '[sites.default]\nname = "Example"\nweb_url = "https://app.example.com"\n');
  await place.preview();
  await picture("gallery", "/");
  await picture("email", "/?template=password_reset_link");
  const greeting = await place.read("password_reset_link/body.html.hbs");
  await place.write("password_reset_link/body.html.hbs", greeting.replace("Hello {{user.display_name}},", "Good to see you, {{user.display_name}}!"));
  await picture("greeting", "/?template=password_reset_link", {
    ready: (page) => page.frameLocator("iframe:not(.coming)").first().getByText("Good to see you, Ada Lovelace!").waitFor(),
  });
  await place.write("password_reset_link/body.html.hbs", greeting);
  await picture("dark", "/?template=password_reset_code&locale=de&scheme=dark", { colorScheme: "dark" });
  const text = await place.read("invite/body.txt.hbs");
  const problem = (page) => page.getByText("This is the last good version.").waitFor();
  await place.write("invite/body.txt.hbs", text.replace("{{invite_link}}", "{{invite_lnk}}"));
  await picture("problem", "/?template=invite", { ready: problem });
  await picture("problem-in-file", "/?template=invite&view=files", {
    ready: async (page) => {
      await problem(page);
      await page.getByRole("button", { name: /invite\/body\.txt\.hbs/ }).first().click();
    },
  });
} finally {
  await browser.close();
  await place.remove();
}
