// Runs a TypeScript program against the sources of this package: `npm run example hello`, or the path of a file.
// Node 20 does not run TypeScript; a project of your own compiles with tsc, or runs with tsx.
import { spawnSync } from "node:child_process";
import { existsSync } from "node:fs";
import { basename, dirname, join, resolve } from "node:path";
import { fileURLToPath } from "node:url";
import { build } from "esbuild";

const root = dirname(dirname(fileURLToPath(import.meta.url)));
const [name = "hello", ...rest] = process.argv.slice(2);
const named = join(root, "examples", `${name}.ts`);
const entry = existsSync(named) ? named : resolve(process.env.INIT_CWD ?? ".", name);
const outfile = join(root, "dist", "examples", `${basename(entry, ".ts")}.mjs`);

await build({
  absWorkingDir: root,
  entryPoints: [entry],
  outfile,
  bundle: true,
  platform: "node",
  format: "esm",
  target: "es2022", // decorators are lowered
  sourcemap: true,
  logLevel: "warning",
  alias: {
    "@aimatrix/amx-engine-ts/testing": join(root, "src/testing/index.ts"),
    "@aimatrix/amx-engine-ts": join(root, "src/index.ts"),
  },
  external: ["@bufbuild/*", "@grpc/*", "openai", "yaml", "zod"],
});
process.exit(spawnSync(process.execPath, ["--enable-source-maps", outfile, ...rest], { stdio: "inherit" }).status ?? 1);
