// Copies the pinned front-end files out of their npm packages, with licences, digests and precompressed twins.
//
// Run `make vendor` after changing a version in package.json. A fresh machine never needs this: the results are
// committed. Nothing is installed in the repository itself, and no package script runs (.npmrc).
import { execFileSync } from "node:child_process";
import { createHash } from "node:crypto";
import { cpSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { brotliCompressSync, constants, gzipSync } from "node:zlib";

const here = dirname(fileURLToPath(import.meta.url));

const wanted = [
  { package: "htmx.org", from: "dist/htmx.min.js", file: "htmx.min.js", licence: "LICENSE" },
  { package: "plotly.js-basic-dist-min", from: "plotly-basic.min.js", file: "plotly-basic.min.js", licence: "LICENSE" },
];

function install() {
  const folder = mkdtempSync(join(tmpdir(), "portal-vendor-"));
  for (const name of ["package.json", "package-lock.json", ".npmrc"]) cpSync(join(here, name), join(folder, name));
  execFileSync("npm", ["ci"], { cwd: folder, stdio: "inherit" });
  return folder;
}

function compress(body) {
  const brotli = { params: { [constants.BROTLI_PARAM_QUALITY]: 11, [constants.BROTLI_PARAM_LGWIN]: 24 } };
  return { br: brotliCompressSync(body, brotli), gz: gzipSync(body, { level: 9 }) };
}

function vendor(folder, entry) {
  const source = join(folder, "node_modules", entry.package);
  // A source-map comment names a file that is not shipped: browsers would ask for it and log the 404.
  const text = readFileSync(join(source, entry.from), "utf8").replace(/\n?(\/\/|\/\*)# sourceMappingURL=\S+( \*\/)?\s*$/, "\n");
  const body = Buffer.from(text, "utf8");
  writeFileSync(join(here, entry.file), body);
  for (const [ending, packed] of Object.entries(compress(body))) writeFileSync(join(here, `${entry.file}.${ending}`), packed);
  cpSync(join(source, entry.licence), join(here, `${entry.package}.LICENSE`));
  const about = JSON.parse(readFileSync(join(source, "package.json"), "utf8"));
  return {
    file: entry.file,
    package: entry.package,
    version: about.version,
    licence: about.license,
    size: body.length,
    sha384: createHash("sha384").update(body).digest("base64"),
  };
}

const folder = install();
try {
  const listed = wanted.map((entry) => vendor(folder, entry));
  writeFileSync(join(here, "vendor.json"), `${JSON.stringify(listed, null, 2)}\n`);
  for (const entry of listed) console.log(`${entry.file}  ${entry.version}  ${entry.size} bytes`);
} finally {
  rmSync(folder, { recursive: true, force: true });
}
