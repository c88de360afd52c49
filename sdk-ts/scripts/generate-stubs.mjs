// Generates the stubs in src/gen from ../proto, or, with --check, says whether those checked in are current.
// Needs no network: the compiler is the repository's `buf` (or one on PATH, or $BUF), the plug-in is a dev dependency.
import { execFileSync } from "node:child_process";
import { existsSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join, relative } from "node:path";
import { fileURLToPath } from "node:url";

const root = dirname(dirname(fileURLToPath(import.meta.url)));
const repository = dirname(root);
const stubs = join(root, "src", "gen");

function compiler() {
  const own = join(repository, ".venv", "bin", "buf");
  return process.env.BUF ?? (existsSync(own) ? own : "buf");
}

function contents(folder) {
  const found = new Map();
  for (const path of existsSync(folder) ? readdirSync(folder, { recursive: true }) : []) {
    if (String(path).endsWith(".ts")) found.set(String(path), readFileSync(join(folder, String(path)), "utf8"));
  }
  return found;
}

const out = mkdtempSync(join(tmpdir(), "amx-stubs-"));
try {
  const template = {
    version: "v2",
    plugins: [
      {
        local: [process.execPath, join(root, "node_modules", "@bufbuild", "protoc-gen-es", "bin", "protoc-gen-es")],
        out,
        opt: ["target=ts", "import_extension=js"],
      },
    ],
  };
  execFileSync(compiler(), ["generate", "--template", JSON.stringify(template)], { cwd: repository, stdio: "inherit" });
  const fresh = contents(out);
  const current = contents(stubs);
  if (process.argv.includes("--check")) {
    const names = new Set([...fresh.keys(), ...current.keys()]);
    const old = [...names].filter((name) => fresh.get(name) !== current.get(name));
    if (old.length) {
      console.error(`These stubs are old: ${old.join(", ")}. Run \`npm run stubs\` in sdk-ts and commit src/gen.`);
      process.exitCode = 1;
    } else {
      console.log(`${fresh.size} stub files agree with proto/`);
    }
  } else {
    rmSync(stubs, { recursive: true, force: true });
    for (const [name, text] of fresh) {
      mkdirSync(dirname(join(stubs, name)), { recursive: true });
      writeFileSync(join(stubs, name), text);
    }
    console.log(`wrote ${fresh.size} stub files below ${relative(repository, stubs)}`);
  }
} finally {
  rmSync(out, { recursive: true, force: true });
}
