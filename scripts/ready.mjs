// Makes a bare clone ready to run: installs the npm packages the lock file names and compiles into dist/.
// Both steps are skipped when their inputs have not changed since the last time.
import { createHash } from "node:crypto";
import { cpSync, existsSync, mkdirSync, readFileSync, readdirSync, rmSync, statSync, writeFileSync } from "node:fs";
import { spawnSync } from "node:child_process";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";

const root = join(dirname(fileURLToPath(import.meta.url)), "..");
const rooms = ["mime", "config", "broker", "gateway", "cli"];
const copied = [".lua", ".yaml", ".service"];

function run(command, args) {
  const done = spawnSync(command, args, { cwd: root, stdio: ["ignore", 2, 2] });
  if (done.status !== 0) {
    console.error(`${command} ${args.join(" ")} failed`);
    process.exit(done.status ?? 1);
  }
}

function digestOf(files) {
  const hash = createHash("sha256");
  for (const file of files)
    hash
      .update(file)
      .update("\0")
      .update(readFileSync(join(root, file)))
      .update("\0");
  return hash.digest("hex");
}

function unchanged(stamp, digest) {
  return existsSync(stamp) && readFileSync(stamp, "utf8") === digest;
}

function sourcesBelow(folder) {
  return readdirSync(join(root, folder)).flatMap((name) => {
    const path = join(folder, name);
    return statSync(join(root, path)).isDirectory() ? sourcesBelow(path) : [path];
  });
}

/** Installs exactly what package-lock.json names, once for each lock file. */
export function install() {
  const stamp = join(root, "node_modules", ".kakitome-lock");
  const digest = digestOf(["package-lock.json"]);
  if (unchanged(stamp, digest)) return;
  const [major, minor] = process.versions.node.split(".").map(Number);
  if (major < 20 || (major === 20 && minor < 19)) {
    console.error(`Kakitome needs Node.js 20.19 or newer; this is ${process.versions.node}.`);
    process.exit(1);
  }
  // npm takes a package of which a former installation wrote the half for installed.
  const [modules, underWay] = [join(root, "node_modules"), join(root, "node_modules", ".kakitome-installing")];
  if (existsSync(underWay)) rmSync(modules, { recursive: true, force: true });
  mkdirSync(modules, { recursive: true });
  writeFileSync(underWay, "");
  console.error("Installing the npm packages (once) ...");
  // Not `npm ci`: it refuses a lock file without the optional packages of other platforms, which not every registry holds.
  run("npm", ["install", "--no-save", "--no-audit", "--no-fund", "--loglevel=error"]);
  writeFileSync(stamp, digest);
  rmSync(underWay, { force: true });
}

/** Compiles the rooms into dist/ and copies what the compiler leaves: the Redis functions the example configurations and the units. */
export function build() {
  const sources = rooms.flatMap(sourcesBelow).sort((a, b) => (a < b ? -1 : 1));
  const dist = join(root, "dist");
  const stamp = join(dist, ".built-from");
  const digest = digestOf([...sources, "tsconfig.json", "tsconfig.build.json", "package.json", "package-lock.json"]);
  if (unchanged(stamp, digest)) return;
  console.error("Compiling ...");
  rmSync(dist, { recursive: true, force: true });
  run(process.execPath, [join("node_modules", "typescript", "bin", "tsc"), "-p", "tsconfig.build.json"]);
  for (const file of sources.filter((name) => copied.some((ending) => name.endsWith(ending)))) {
    mkdirSync(dirname(join(dist, file)), { recursive: true });
    cpSync(join(root, file), join(dist, file));
  }
  writeFileSync(stamp, digest);
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  install();
  build();
}
