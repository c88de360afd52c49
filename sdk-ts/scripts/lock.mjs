// Resolves the dependencies again and writes package-lock.json, complete for every platform, without registry addresses.
// A registry that holds the binaries of some platforms only leaves the others out, and `npm ci` then refuses the lock
// file: their entries are added here, by name and version.
import { execFileSync } from "node:child_process";
import { copyFileSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";

const root = dirname(dirname(fileURLToPath(import.meta.url)));
const OS = "aix|android|darwin|freebsd|linux|netbsd|openbsd|openharmony|sunos|win32";
const CPU = "arm64|arm|ia32|loong64|mips64el|ppc64|riscv64|s390x|x64";
const PLATFORM = new RegExp(`(${OS})-(${CPU})(?:-(musl|gnu|msvc|gnueabihf|musleabihf|eabi))?$`);

function entryOf(name, version) {
  const entry = { version, optional: true, dev: true };
  if (name === "fsevents") return { ...entry, os: ["darwin"] };
  const found = PLATFORM.exec(name);
  if (found === null) throw new Error(`${name} is optional, was not found, and is for no platform`);
  const [, os, cpu, abi = ""] = found;
  const libc = os !== "linux" ? "" : abi.startsWith("musl") ? "musl" : abi.startsWith("gnu") ? "glibc" : "";
  return { ...entry, os: [os], cpu: [cpu], ...(libc ? { libc: [libc] } : {}) };
}

const folder = mkdtempSync(join(tmpdir(), "amx-lock-"));
try {
  for (const name of ["package.json", ".npmrc"]) copyFileSync(join(root, name), join(folder, name));
  execFileSync("npm", ["install", "--package-lock-only", "--no-audit", "--no-fund"], { cwd: folder, stdio: "inherit" });
  const lock = JSON.parse(readFileSync(join(folder, "package-lock.json"), "utf8"));
  for (const { optionalDependencies } of Object.values(lock.packages)) {
    for (const [name, version] of Object.entries(optionalDependencies ?? {})) {
      lock.packages[`node_modules/${name}`] ??= entryOf(name, version.replace(/^[~^]/, ""));
    }
  }
  lock.packages = Object.fromEntries(Object.entries(lock.packages).sort(([a], [b]) => (a < b ? -1 : 1)));
  writeFileSync(join(root, "package-lock.json"), `${JSON.stringify(lock, null, 2)}\n`);
} finally {
  rmSync(folder, { recursive: true, force: true });
}
