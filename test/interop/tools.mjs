// The stock tools of the matrix: found or installed, run in one folder, their refusals in words that stay the same from run to run.
import { spawn, spawnSync } from "node:child_process";
import { accessSync, constants, existsSync, readFileSync, writeFileSync } from "node:fs";
import { delimiter, join } from "node:path";
import { createInterface } from "node:readline";

const jars = ["bcmail", "bcpkix", "bcutil", "bcprov", "javax.mail", "javax.activation"].map((name) => `/usr/share/java/${name}.jar`);

/** What the matrix runs, and the Debian package that brings it. */
const packages = {
  openssl: "openssl",
  cmsutil: "libnss3-tools",
  certutil: "libnss3-tools",
  pk12util: "libnss3-tools",
  javac: "default-jdk-headless", // java alone does not run a source file
  [jars[0]]: "libbcmail-java", // brings the others
};

function isThere(command) {
  if (command.endsWith(".jar")) return existsSync(command);
  return (process.env.PATH ?? "").split(delimiter).some((folder) => {
    try {
      accessSync(join(folder, command), constants.X_OK);
      return true;
    } catch {
      return false;
    }
  });
}

const missingPackages = () => [
  ...new Set(
    Object.keys(packages)
      .filter((command) => !isThere(command))
      .map((command) => packages[command]),
  ),
];

/** Installs what is missing where we may; otherwise names it and ends. */
export function installTools() {
  const missing = missingPackages();
  if (missing.length > 0 && process.getuid?.() === 0 && isThere("apt-get")) {
    console.error(`Installing the tools the matrix runs (once): ${missing.join(" ")} ...`);
    const env = { ...process.env, DEBIAN_FRONTEND: "noninteractive" };
    const apt = (...args) => spawnSync("apt-get", args, { env, stdio: ["ignore", 2, 2] }).status === 0;
    if (apt("update", "-q")) apt("install", "-q", "-y", "--no-install-recommends", ...missing);
  }
  const wanting = missingPackages();
  if (wanting.length === 0) return;
  console.error("The matrix runs stock tools. Please install them, then run npm run interop again:");
  console.error(`  sudo apt-get install --no-install-recommends ${wanting.join(" ")}`);
  process.exit(1);
}

/** A tool did not do what it was asked; the message is its own reason. */
export class ToolSaid extends Error {}

/** The folder all tools share. Files have names without a path, so that no reason of a tool holds one. */
export class Bench {
  #count = 0;

  constructor(folder) {
    this.folder = folder;
  }

  name(ending = "der") {
    return `file-${++this.#count}.${ending}`;
  }

  put(octets, name = this.name()) {
    writeFileSync(join(this.folder, name), octets);
    return name;
  }

  get(name) {
    return readFileSync(join(this.folder, name));
  }

  /** Runs a command; returns what it wrote to standard output. @throws ToolSaid */
  run(command, args, reasonOf, input) {
    const done = spawnSync(command, args, { cwd: this.folder, maxBuffer: 64 << 20, timeout: 60_000, ...(input && { input }) });
    if (done.error) throw done.error;
    if (done.status !== 0) throw new ToolSaid(reasonOf(`${done.stderr}`) ?? `exit ${done.status}`);
    return done.stdout;
  }

  openssl(...args) {
    return this.run("openssl", args, opensslReason);
  }

  nss(command, ...args) {
    return this.run(command, [...args, "-d", "sql:nss"], nssReason);
  }
}

/** The innermost reason of OpenSSL's error queue: "digital envelope routines: wrong tag". */
function opensslReason(stderr) {
  const queue = [...stderr.matchAll(/:error:[0-9A-F]+:([^:]*):[^:]*:([^:\n]*):[^\n]*?(?::\d+:)([^\n]*)/gu)];
  const [, room, words, detail] = queue[0] ?? [];
  if (room) return `${room}: ${words}${detail?.startsWith("Verify error") ? `: ${detail}` : ""}`;
  const line = stderr.split("\n").find((text) => text.trim() !== "");
  return line?.replace(/^(?:cms|openssl): /u, "");
}

/** NSS names its error in capitals, and says the state of a signature that does not hold. */
function nssReason(stderr) {
  const name = /\b(?:SEC|SSL|PR|XP)_[A-Z_]{6,}\b/u.exec(stderr)?.[0];
  const state = /status = (\w+)/u.exec(stderr)?.[1];
  return [name, state].filter(Boolean).join(", ") || undefined;
}

/** One JVM for all jobs of BouncyCastle. */
export class Bouncy {
  #child;
  #lines;

  constructor(bench) {
    const source = join(import.meta.dirname, "Bouncy.java");
    this.#child = spawn("java", ["-cp", jars.join(delimiter), source], { cwd: bench.folder, stdio: ["pipe", "pipe", "inherit"] });
    this.#lines = createInterface({ input: this.#child.stdout })[Symbol.asyncIterator]();
  }

  /** @throws ToolSaid */
  async run(...job) {
    this.#child.stdin.write(`${job.join("\t")}\n`);
    const { value, done } = await this.#lines.next();
    if (done) throw new Error("BouncyCastle ended");
    const [state, words] = value.split("\t");
    if (state !== "ok") throw new ToolSaid(words);
    return words;
  }

  close() {
    this.#child.stdin.end();
  }
}

/** Name and major.minor of each tool. */
export async function versions(bench, bouncy) {
  const short = (text) => /\d+\.\d+/u.exec(text)?.[0] ?? "unknown";
  const nss = spawnSync("dpkg-query", ["-W", "-f", "${Version}", "libnss3-tools"], { encoding: "utf8" });
  return [
    ["OpenSSL", short(`${bench.openssl("version")}`)],
    ["BouncyCastle", short(await bouncy.run("version"))],
    ["NSS (cmsutil)", short((nss.stdout ?? "").replace(/^\d+:/u, ""))],
  ];
}
