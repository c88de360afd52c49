// Builds dist/esm and dist/cjs, each with its types, and the conformance testee, which is no part of the package.
import { execFileSync } from "node:child_process";
import { rmSync, writeFileSync } from "node:fs";
import { createRequire } from "node:module";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { build } from "esbuild";

const root = dirname(dirname(fileURLToPath(import.meta.url)));
const tsc = createRequire(import.meta.url).resolve("typescript/bin/tsc");

for (const [format, type] of [
  ["esm", "module"],
  ["cjs", "commonjs"],
]) {
  rmSync(join(root, "dist", format), { recursive: true, force: true });
  execFileSync(process.execPath, [tsc, "-p", `tsconfig.${format}.json`], { cwd: root, stdio: "inherit" });
  writeFileSync(join(root, "dist", format, "package.json"), `${JSON.stringify({ type }, null, 2)}\n`);
}

await build({
  absWorkingDir: root,
  entryPoints: ["testee/main.ts"],
  outfile: "dist/testee/main.js",
  bundle: true,
  packages: "external",
  platform: "node",
  format: "esm",
  target: "es2022", // decorators are lowered
  sourcemap: true,
  logLevel: "warning",
});
