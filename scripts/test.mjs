// npm test: makes the clone ready, installs the real servers where they are missing, checks the code, and runs the tests.
// A file in which a test failed is run once more, alone, and named. "npm test -- test/mime" runs only these tests, once, and no check. The last line counts: N passed, N failed[, N skipped].
import { spawnSync } from "node:child_process";
import { accessSync, constants, existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { delimiter, dirname, join, relative } from "node:path";
import { fileURLToPath } from "node:url";
import { build, install } from "./ready.mjs";

const root = join(dirname(fileURLToPath(import.meta.url)), "..");

/** What the tests run, and the Debian package that brings it. */
const packages = {
  "redis-server": "redis-server",
  "/usr/lib/dovecot/imap": "dovecot-imapd",
  "/usr/lib/dovecot/lmtp": "dovecot-lmtpd",
  postfix: "postfix",
  swaks: "swaks",
  "perl -MNet::SSLeay": "libnet-ssleay-perl", // swaks only recommends it, and cannot speak TLS without
  openssl: "openssl",
  "s-nail": "s-nail",
  strace: "strace",
  xmllint: "libxml2-utils",
  mandoc: "mandoc",
  "systemd-analyze": "systemd",
  promtool: "prometheus",
};

/** What some tests run that are skipped without it. */
const optional = { zsh: "zsh", fish: "fish", script: "bsdutils" };

function isThere(command) {
  if (command.startsWith("perl ")) return spawnSync("perl", [...command.split(" ").slice(1), "-e", "1"]).status === 0;
  const folders = command.startsWith("/") ? [""] : [...(process.env.PATH ?? "").split(delimiter), "/usr/sbin"];
  return folders.some((folder) => {
    try {
      accessSync(join(folder, command), constants.X_OK);
      return true;
    } catch {
      return false;
    }
  });
}

function missingPackages(wanted = packages) {
  return Object.keys(wanted)
    .filter((command) => !isThere(command))
    .map((command) => wanted[command]);
}

/** While this listens, Ctrl-C ends apt-get but not us. */
function finishFirst() {}

/** Debian starts a service as soon as it is installed; while a policy says 101 it does not. One that is there already stays. */
function withoutStartingServices(work) {
  const policy = "/usr/sbin/policy-rc.d";
  if (existsSync(policy)) return work();
  process.on("SIGINT", finishFirst).on("SIGTERM", finishFirst);
  writeFileSync(policy, "#!/bin/sh\nexit 101\n", { mode: 0o755 });
  try {
    return work();
  } finally {
    rmSync(policy);
    process.off("SIGINT", finishFirst).off("SIGTERM", finishFirst);
  }
}

function installServers() {
  const missing = missingPackages();
  const welcome = missingPackages(optional);
  if (missing.length + welcome.length === 0) return;
  if (process.getuid?.() === 0 && isThere("apt-get")) {
    console.error(`Installing what the tests run (once): ${[...missing, ...welcome].join(" ")} ...`);
    const env = { ...process.env, DEBIAN_FRONTEND: "noninteractive" };
    const apt = (...args) => spawnSync("apt-get", args, { env, stdio: ["ignore", 2, 2] }).status === 0;
    const install = (...names) => names.length === 0 || apt("install", "-q", "-y", "--no-install-recommends", ...names);
    withoutStartingServices(() => apt("update", "-q") && install(...missing) && install(...welcome));
  }
  const wanting = missingPackages();
  if (wanting.length === 0) return;
  console.error("The tests run real servers. Please install them, then run npm test again:");
  console.error(`  sudo apt-get install --no-install-recommends ${wanting.join(" ")}`);
  process.exit(1);
}

function check() {
  return spawnSync(process.execPath, [join("scripts", "check.mjs")], { cwd: root, stdio: ["ignore", "inherit", "inherit"] }).status === 0;
}

/** Runs jest; "report" is empty when it did not come as far as writing one. */
function runTests(args, workers = 2) {
  const folder = mkdtempSync(join(tmpdir(), "kakitome-report-"));
  const file = join(folder, "report.json");
  try {
    const jest = ["--experimental-vm-modules", join("node_modules", "jest", "bin", "jest.js")];
    const options = [`--maxWorkers=${workers}`, "--json", `--outputFile=${file}`];
    const env = { ...process.env, NODE_NO_WARNINGS: "1" };
    const done = spawnSync(process.execPath, [...jest, ...options, ...args], { cwd: root, env, stdio: "inherit" });
    return { good: done.status === 0, report: existsSync(file) ? JSON.parse(readFileSync(file, "utf8")) : {} };
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

/** Where they are few. */
const MOST_REPEATED = 8;

/**
 * Runs the files in which a test failed once more, alone: the whole suite keeps the machine so busy that a process can miss its time. What
 * fails then has failed; what passes then is named.
 */
function repeat({ report }) {
  const failed = (report.testResults ?? []).filter(({ status }) => status === "failed").map(({ name }) => relative(root, name));
  if (failed.length === 0 || failed.length > MOST_REPEATED) return undefined;
  console.error(`\nOnce more, each alone, because a test in it failed: ${failed.join(" ")}\n`);
  const again = runTests(["--runTestsByPath", ...failed], 1);
  const of = (wanted) => again.report.testResults?.filter(({ status }) => status === wanted).map(({ name }) => relative(root, name)) ?? [];
  return { ...again, unsteady: of("passed") };
}

/** Each file as it went last. */
function resultsOf(...runs) {
  const results = runs.flatMap((run) => run?.report.testResults ?? []);
  return [...new Map(results.map((result) => [result.name, result])).values()];
}

install();
build();
installServers();

const args = process.argv.slice(2);
const checked = args.length > 0 || check();
const first = runTests(args);
const second = args.length > 0 || first.good ? undefined : repeat(first);
const good = second?.good ?? first.good;

const results = resultsOf(first, second);
const count = (...statuses) => results.flatMap((file) => file.assertionResults).filter(({ status }) => statuses.includes(status)).length;
const cannotRun = results.filter((file) => file.status === "failed" && file.assertionResults.every(({ status }) => status !== "failed"));
const [passed, failed, skipped] = [count("passed"), count("failed") + cannotRun.length, count("pending", "skipped", "todo", "disabled")];

if (!checked) console.error("The check failed: see above.");
if (first.report.numTotalTests === undefined) console.error("Jest did not run to its end.");
else if (passed + failed === 0) console.error("No test ran.");
if (second?.unsteady.length > 0) console.error(`Failed, and passed when run again, alone: ${second.unsteady.join(" ")}`);
console.log(`${passed} passed, ${failed} failed${skipped > 0 ? `, ${skipped} skipped` : ""}`);
process.exitCode = checked && good && failed === 0 && passed > 0 ? 0 : 1;
