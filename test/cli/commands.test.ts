/** The command as an administrator meets it: exit codes, words on the right stream, and files that are changed only when all is well. */
import {
  chownSync,
  linkSync,
  mkdirSync,
  readFileSync,
  readdirSync,
  readlinkSync,
  renameSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { join } from "node:path";
import { beforeEach, describe, expect, test } from "@jest/globals";
import { loadGateway } from "../../config/load.ts";
import { Journal } from "../../gateway/journal.ts";
import { Letters } from "../../gateway/letters.ts";
import { Users } from "../../gateway/users.ts";
import { temporaryFolder } from "../servers/process.ts";
import { kakitome } from "../walks/kakitome.ts";

const CONFIG = join(import.meta.dirname, "..", "..", "config");
let folder: string;
let gateway: string;

beforeEach(async () => {
  folder = await temporaryFolder("cli");
  gateway = join(folder, "gateway.yaml");
});

const GATEWAY = `# Our gateway; ask Zoe before you change it.
name: gateway.a.example
data: data
broker:
  url: https://broker.example:8443 # in the other building
users: [] # nobody yet
mailboxes:
  - address: alice@a.example # Alice
`;

describe("config check", () => {
  test.each(["broker", "gateway"])("says of a valid %s what it is, and exits 0", (kind) => {
    const file = join(CONFIG, `${kind}.example.yaml`);
    expect(kakitome(["config", "check", file])).toEqual({ status: 0, stdout: `${file}: a valid configuration of a ${kind}\n`, stderr: "" });
  });

  test("names every mistake on standard error, and exits 1", () => {
    writeFileSync(gateway, GATEWAY.replace("data: data", "date: data").replace("alice@a.example", "alice"));
    const { status, stdout, stderr } = kakitome(["config", "check", gateway]);
    expect([status, stdout]).toEqual([1, ""]);
    expect(stderr.trimEnd().split("\n")).toEqual([
      `${gateway}:2:1 data is missing`,
      `${gateway}:3:1 unknown key "date" (did you mean "data"?)`,
      `${gateway}:8:14 mailboxes.0.address: not a mail address: "alice"`,
    ]);
  });

  test("of a file that is not there exits 1 without a stack", () => {
    const { status, stderr } = kakitome(["config", "check", join(folder, "none.yaml")]);
    expect(status).toBe(1);
    expect(stderr.trimEnd().split("\n")).toHaveLength(1);
  });
});

test("--version says which one is installed", () => {
  const { version } = JSON.parse(readFileSync(join(import.meta.dirname, "..", "..", "package.json"), "utf8")) as { version: string };
  expect(kakitome(["--version"])).toEqual({ status: 0, stdout: `${version}\n`, stderr: "" });
});

describe("a command line that cannot be meant exits 2 with a hint", () => {
  test.each([
    ["an unknown command", ["nonsense"], /unknown command 'nonsense'/u, "kakitome"],
    ["a command misspelt", ["enroll"], /Did you mean enrol\?/u, "kakitome"],
    ["an unknown option", ["demo", "--fast"], /unknown option '--fast'/u, "kakitome demo"],
    ["an option too few", ["enrol", "--token", "t"], /required option '--fingerprint/u, "kakitome enrol"],
    ["a choice too few", ["broker", "restore", "b.json"], /required option '--unopened/u, "kakitome broker restore"],
  ])("%s", (_why, args, words, command) => {
    const { status, stdout, stderr } = kakitome(args);
    expect([status, stdout]).toEqual([2, ""]);
    expect(stderr).toMatch(words);
    expect(stderr).toContain(`(try: ${command} --help)`);
  });

  test.each(["constructor", "toString", "__proto__"])("the name of what every object has: %s", (name) => {
    const { status, stderr } = kakitome([name]);
    expect([status, stderr.split("\n")[0]]).toEqual([2, `error: unknown command '${name}'`]);
  });

  test("--help exits 0 and names every command", () => {
    const { status, stdout } = kakitome(["--help"]);
    expect(status).toBe(0);
    for (const name of ["demo", "init", "broker", "enrol", "gateway", "user", "config", "status"])
      expect(stdout).toMatch(new RegExp(`^ {2}${name}\\b`, "mu"));
  });
});

describe("a value that cannot be meant is one line on standard error, without a stack", () => {
  beforeEach(() => writeFileSync(gateway, GATEWAY));
  const signed = ["--from", "alice@a.example", "--to", "bob@b.example"];
  const INIT = ["init", "broker", "--url", "https://b.example", "--receipts-from", "r@b.example", "--relay", "127.0.0.1:25"];
  test.each([
    [
      "a broker's address that is none",
      ["enrol", "--broker", "foo", "--fingerprint", "f", "--token", "t"],
      /^--broker foo: write an address/u,
    ],
    ["a broker's address that is empty", ["enrol", "--broker", "", "--fingerprint", "f", "--token", "t"], /^--broker : write an address/u],
    ["a list that is a folder", ["enrol", "--fingerprint", "f", "--all", CONFIG], /config cannot be read$/mu],
    ["a wait longer than a timer", ["reload", "--wait", "99999d"], /^--wait 99999d: at the most 24d$/mu],
    ["a mail that is missing", ["certificate", "learn", "none.eml"], /^none\.eml cannot be read$/mu],
    ["a mail that is a folder", ["certificate", "learn", CONFIG], /config cannot be read$/mu],
    ["a mail without a name", ["certificate", "learn", ""], /^a file without a name cannot be read$/mu],
    ["a mail to explain that is missing", ["policy", "explain", ...signed, "--mail", "none.eml"], /^none\.eml cannot be read$/mu],
  ])("%s", (_why, args, words) => {
    const { status, stdout, stderr } = kakitome([...args, "--config", gateway]);
    expect({ status, stdout, lines: stderr.trimEnd().split("\n").length }).toEqual({ status: 1, stdout: "", lines: 1 });
    expect(stderr).toMatch(words);
  });

  test("a file where a folder is to be made", () => {
    const { status, stderr } = kakitome([...INIT, "--dir", gateway]);
    expect([status, stderr]).toEqual([1, `kakitome: EEXIST: file already exists, mkdir '${gateway}'\n`]);
  });
});

describe("user add", () => {
  const add = (name: string, identity: string, password: string) =>
    kakitome(["user", "add", name, "--identity", identity, "--config", gateway], password);

  beforeEach(() => writeFileSync(gateway, GATEWAY, { mode: 0o640 }));

  test("adds a user who can be let in, and keeps every comment and the file's mode", async () => {
    expect(add("alice", "Alice@A.example", "alice-secret\nsecond line\n").status).toBe(0);
    const text = readFileSync(gateway, "utf8");
    for (const comment of ["# Our gateway; ask Zoe before you change it.", "# in the other building", "# Alice", "# nobody yet"])
      expect(text).toContain(comment);
    expect(text).not.toContain("secret");
    const users = new Users(loadGateway(gateway).users);
    expect(await users.authenticate("alice", "alice-secret")).toMatchObject({ name: "alice", identities: [{ key: "alice@a.example" }] });
  });

  test("gives one who is there a new password and new identities", async () => {
    add("alice", "alice@a.example", "first-secret\n");
    add("bob", "bob@a.example", "bob-secret\n");
    expect(add("alice", "a.liddell@a.example", "second-secret\n").status).toBe(0);
    const { users } = loadGateway(gateway);
    expect(users.map(({ name, identities }) => [name, ...identities.map(({ key }) => key)])).toEqual([
      ["alice", "a.liddell@a.example"],
      ["bob", "bob@a.example"],
    ]);
    expect(await new Users(users).authenticate("alice", "first-secret")).toBeUndefined();
    expect(await new Users(users).authenticate("alice", "second-secret")).toBeDefined();
  });

  test.each([
    ["a short password", "alice", "alice@a.example", "seven77\n", /at least 8 characters/u],
    ["an identity that is no address", "alice", "alice", "alice-secret\n", /not a mail address: "alice"/u],
    ["no name", "", "alice@a.example", "alice-secret\n", /name/u],
  ])("with %s exits 1 and changes nothing", (_why, name, identity, password, words) => {
    const { status, stderr } = add(name, identity, password);
    expect(status).toBe(1);
    expect(stderr).toMatch(words);
    expect(readFileSync(gateway, "utf8")).toBe(GATEWAY);
  });

  test("never leaves half a file: the new one takes the place of the former, behind a symbolic link too, with its mode and owner", () => {
    const [target, former] = [join(folder, "etc", "real.yaml"), join(folder, "former.yaml")];
    mkdirSync(join(folder, "etc"));
    renameSync(gateway, target);
    symlinkSync(join("etc", "real.yaml"), gateway);
    linkSync(target, former);
    const isRoot = process.getuid?.() === 0;
    if (isRoot) chownSync(target, 12_345, 12_346);
    expect(add("alice", "alice@a.example", "alice-secret\n").status).toBe(0);
    expect(readFileSync(former, "utf8")).toBe(GATEWAY); // not a byte was written over it
    expect(readlinkSync(gateway)).toBe(join("etc", "real.yaml"));
    expect(loadGateway(target).users.map(({ name }) => name)).toEqual(["alice"]);
    expect(statSync(target).mode & 0o7777).toBe(0o640);
    if (isRoot) expect(statSync(target)).toMatchObject({ uid: 12_345, gid: 12_346 });
    expect(readdirSync(join(folder, "etc"))).toEqual(["real.yaml"]);
  });

  test("does not write into a file with mistakes", () => {
    const broken = GATEWAY.replace("data: data", "date: data");
    writeFileSync(gateway, broken);
    expect(add("alice", "alice@a.example", "alice-secret\n").status).toBe(1);
    expect(readFileSync(gateway, "utf8")).toBe(broken);
  });
});

describe("status", () => {
  beforeEach(() => writeFileSync(gateway, GATEWAY));
  const status = (...args: string[]) => kakitome(["status", ...args, "--config", gateway]);

  test("of a gateway that sent nothing says nothing, and exits 0", () => {
    expect(status()).toEqual({ status: 0, stdout: "", stderr: "" });
    expect(JSON.parse(status("--json").stdout)).toEqual({ sent: [], notOpened: [] });
  });

  test("of an unknown letter exits 1 and names it", () => {
    expect(status("unknown@a.example")).toEqual({
      status: 1,
      stdout: "",
      stderr: "kakitome: no letter <unknown@a.example> was sent here\n",
    });
  });

  test("names letters with their receipts, and those that were not opened", async () => {
    const letters = new Letters(join(folder, "data", "letters"));
    const journal = new Journal(join(folder, "data", "journal"));
    await Promise.all([letters.prepare(), journal.prepare()]);
    const at = "2026-03-01T12:00:00.000Z";
    const recipient = {
      address: "bob@b.example",
      session: "5".repeat(64),
      commit: "c".repeat(64),
      state: "opened" as const,
      at,
      evidence: "evidence-1",
    };
    await letters.add({ messageId: "<1@a.example>", sender: "alice@a.example", acceptedAt: at, recipients: [recipient] });
    await journal.put({
      session: "6".repeat(64),
      stage: "failed",
      fault: "cannot-open",
      reason: "it was altered",
      mailbox: "alice@a.example",
      messageId: "",
      at,
    });
    expect(status().stdout.trimEnd().split("\n")).toEqual([
      `<1@a.example>  from alice@a.example  ${at}`,
      `  bob@b.example  opened  ${at}`,
      `    receipt: ${join(folder, "data", "letters", "evidence-1.receipt.eml")}`,
      `not opened  alice@a.example  ${at}  session 666666666666  it was altered`,
    ]);
    for (const id of ["<1@a.example>", "1@a.example"]) expect(status(id).stdout).toContain("bob@b.example  opened");
  });
});
