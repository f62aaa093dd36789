/** `kakitome init gateway`: from nothing to a configuration that loads, a door that TLS clients can check, and a unit with these paths. */
import { execFileSync, spawnSync } from "node:child_process";
import { existsSync, mkdirSync, readFileSync, readdirSync, rmdirSync, statSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { beforeEach, describe, expect, test } from "@jest/globals";
import { loadGateway } from "../../config/load.ts";
import { temporaryFolder } from "../servers/process.ts";
import { kakitome, must } from "../walks/kakitome.ts";
import { atTerminal, CTRL_D, hasTerminal } from "../walks/terminal.ts";

let folder: string;
beforeEach(async () => {
  folder = join(await temporaryFolder("init"), "gateway");
});

const FIXED = ["--name", "gateway.a.example", "--broker", "https://broker.example:8443", "--imap", "imap.a.example:993"];
const MAILBOXES = ["--mailbox", "alice@a.example", "--mailbox", "carol@a.example"];
const order = (...more: string[]): string[] => ["init", "gateway", "--dir", folder, ...FIXED, ...MAILBOXES, ...more];

test("writes the example with the answers in it: it loads, and every setting stays explained", () => {
  const said = must(order("--relay", "mail.a.example:587", "--relay-user", "gateway"));
  const file = join(folder, "gateway.yaml");
  const config = loadGateway(file);
  expect(config).toMatchObject({
    name: "gateway.a.example",
    relay: { host: "mail.a.example", port: 587, tls: "starttls", user: "gateway" },
  });
  expect(config.mailboxes.map(({ address, imap }) => [address.address, imap?.user, imap?.port])).toEqual([
    ["alice@a.example", "alice@a.example", 993],
    ["carol@a.example", "carol@a.example", 993],
  ]);
  const comments = (text: string): number => text.split("\n").filter((line) => line.includes("# ")).length;
  const example = readFileSync(join(import.meta.dirname, "..", "..", "config", "gateway.example.yaml"), "utf8");
  expect(comments(readFileSync(file, "utf8"))).toBeGreaterThanOrEqual(comments(example) - 3); // the two of relay's password and authority
  for (const step of [
    "alice@a.example.password",
    "relay.password",
    "kakitome user add alice@a.example",
    "kakitome enrol",
    "systemctl enable",
  ])
    expect(said).toContain(step);
});

test.each([1, 2, 3])("of %i mailboxes: a comment stands as deep, and before the same section, as in the example", (count) => {
  const mailboxes = ["alice", "bob", "carol"].slice(0, count).flatMap((name) => ["--mailbox", `${name}@a.example`]);
  must(["init", "gateway", "--dir", folder, ...FIXED, ...mailboxes, "--relay", "mail.a.example:587"]);
  const text = readFileSync(join(folder, "gateway.yaml"), "utf8");
  expect(text).toMatch(/^# Made by kakitome init gateway\. /u);
  const file = join(folder, "uncommented.yaml");
  writeFileSync(
    file,
    text.replace("# policy:", "policy:").replace("#   expiry: 30d", "  expiry: 7d").replace("# retention: 30d", "retention: 7d"),
  );
  const { policy, retention } = loadGateway(file);
  expect([policy?.expiry, retention]).toEqual([7 * 86_400_000, 7 * 86_400_000]);
  const sections = (all: string): string[] => all.split("\n").filter((line) => /^(?:# )?[a-z]\S*:|^# [A-Z]/u.test(line));
  const example = readFileSync(join(import.meta.dirname, "..", "..", "config", "gateway.example.yaml"), "utf8");
  expect(sections(text).slice(1).map(nameOf)).toEqual(sections(example).slice(1).map(nameOf));
});

const nameOf = (line: string): string => line.replace(/:.*/u, "");

test("keys and configuration can be read by their owner alone, and the door's certificate holds for its name", () => {
  must(order("--relay", "mail.a.example:587"));
  const open = readdirSync(folder).filter((name) => (statSync(join(folder, name)).mode & 0o077) !== 0);
  expect(open.toSorted()).toEqual(["door-ca.crt.pem", "door.crt.pem", "kakitome-gateway.service"]);
  const check = ["verify", "-CAfile", join(folder, "door-ca.crt.pem"), "-purpose", "sslserver", "-verify_hostname"];
  const verify = (name: string) => spawnSync("openssl", [...check, name, join(folder, "door.crt.pem")]).status;
  expect([verify("gateway.a.example"), verify("other.example")]).toEqual([0, 2]);
});

test("the unit names these paths, is one that systemd takes, and stays closed", () => {
  const { unit, config } = JSON.parse(must(order("--relay", "mail.a.example:587", "--json"))) as { unit: string; config: string };
  expect(readFileSync(unit, "utf8")).toContain(`gateway run --config ${config}\n`);
  expect(execFileSync("systemd-analyze", ["verify", "--man=no", unit], { encoding: "utf8" })).toBe("");
});

test("behind Postfix it stands as the page says", () => {
  const said = must(order("--postfix"));
  const { submission, relay } = loadGateway(join(folder, "gateway.yaml"));
  expect(submission).toMatchObject({ listen: [{ address: { host: "127.0.0.1", port: 10_025 } }], others: "pass" });
  expect(submission?.trustedNetworks).toEqual([{ address: "127.0.0.1", prefix: 32, family: "ipv4" }]);
  expect(relay).toEqual({ host: "127.0.0.1", port: 10_026, tls: "none" });
  expect(said).toContain("docs/install-postfix.md");
});

test("takes IPv6 servers in brackets", () => {
  must(["init", "gateway", "--dir", folder, ...FIXED.slice(0, -1), "[2001:db8::1]:993", ...MAILBOXES, "--relay", "[::1]:587"]);
  const { mailboxes, relay } = loadGateway(join(folder, "gateway.yaml"));
  expect([mailboxes[0]?.imap?.host, relay?.host]).toEqual(["2001:db8::1", "::1"]);
});

test("a second time changes nothing", () => {
  must(order("--relay", "mail.a.example:587"));
  const before = readFileSync(join(folder, "door.key.pem"), "utf8");
  expect(kakitome(order("--relay", "mail.a.example:587"))).toMatchObject({
    status: 1,
    stderr: expect.stringContaining("is there already"),
  });
  expect(readFileSync(join(folder, "door.key.pem"), "utf8")).toBe(before);
});

test("cut off before its end it leaves no configuration, and starts over the next time", () => {
  const unit = join(folder, "kakitome-gateway.service");
  mkdirSync(unit, { recursive: true }); // it ends here
  expect(kakitome(order("--relay", "mail.a.example:587"))).toMatchObject({ status: 1, stderr: expect.stringContaining("EISDIR") });
  expect(existsSync(join(folder, "gateway.yaml"))).toBe(false);
  rmdirSync(unit);
  must(order("--relay", "mail.a.example:587"));
  expect(readdirSync(folder).toSorted()).toEqual([
    "door-ca.crt.pem",
    "door.crt.pem",
    "door.key.pem",
    "gateway.yaml",
    "kakitome-gateway.service",
  ]);
});

test("takes a certificate that is there", () => {
  writeFileSync(join(folder, "..", "own.crt"), "x");
  must(order("--relay", "mail.a.example:587", "--certificate", join(folder, "..", "own.crt"), "--key", join(folder, "..", "own.key")));
  expect(readdirSync(folder).toSorted()).toEqual(["gateway.yaml", "kakitome-gateway.service"]);
  expect(loadGateway(join(folder, "gateway.yaml")).submission?.certificate).toBe(join(folder, "..", "own.crt"));
});

describe("says in one line what is wrong, and makes nothing:", () => {
  const without = (flag: string): string[] => order().filter((word, at, all) => word !== flag && all[at - 1] !== flag);
  test.each([
    ["nobody can be asked", () => without("--name"), /^missing: --name <host>, --relay <host:port>$/mu],
    ["a next hop without a port", () => order("--relay", "mail.a.example"), /--relay mail\.a\.example: write host:port/u],
    ["a broker without TLS", () => [...without("--broker"), "--broker", "http://b.example", "--relay", "m.a.example:25"], /https/u],
    ["no mail address", () => [...order("--relay", "m.a.example:25"), "--mailbox", "carol"], /carol/u],
    [
      "an empty mail address",
      () => [...without("--mailbox"), "--relay", "m.a.example:25", "--mailbox", ""],
      /--mailbox: write an address/u,
    ],
    ["a certificate without its key", () => order("--relay", "m.a.example:25", "--certificate", "x.pem"), /belong together/u],
  ])("%s", (_why, args, words) => {
    const { status, stderr } = kakitome(args());
    expect({ status, stderr }).toMatchObject({ status: 1, stderr: expect.stringMatching(words) });
    expect(existsSync(folder)).toBe(false);
  });
});

if (!hasTerminal) console.log("skipped: script(1) is not installed (apt-get install bsdutils)");

(hasTerminal ? describe : describe.skip)("at a terminal", () => {
  const ANSWERS = [
    ["Host name of this gateway", "gateway.a.example"],
    ["Address of the broker", "https://broker.example:8443"],
    ["Mailboxes, with spaces between them", "alice@a.example  carol@a.example"],
    ["Their IMAP server, host:port", "imap.a.example:993"],
    ["The mail server that takes what leaves, host:port", "mail.a.example:587"],
  ] as const;
  const made = () => {
    const { name, broker, mailboxes, relay } = loadGateway(join(folder, "gateway.yaml"));
    return [name, broker.url, ...mailboxes.map(({ address }) => address.address), mailboxes[0]?.imap?.host, relay?.host];
  };
  const WANTED = [
    "gateway.a.example",
    "https://broker.example:8443",
    "alice@a.example",
    "carol@a.example",
    "imap.a.example",
    "mail.a.example",
  ];

  test("it asks for everything that was not given, again where the answer is empty, and says what to do next", async () => {
    const terminal = atTerminal(["init", "gateway", "--dir", folder]);
    for (const [question, answer] of ANSWERS) {
      await terminal.until(question);
      if (answer === "imap.a.example:993") {
        terminal.type("\r");
        await terminal.until(question);
      }
      terminal.type(`${answer}\r`);
    }
    await terminal.until("Next, in this order:");
    expect(await terminal.ended).toBe(0);
    expect(made()).toEqual(WANTED);
  });

  test("it does not ask for what was given", async () => {
    const terminal = atTerminal(order());
    await terminal.until("The mail server that takes what leaves, host:port");
    terminal.type("mail.a.example:587\r");
    expect(await terminal.ended).toBe(0);
    for (const [question] of ANSWERS.slice(0, -1)) expect(terminal.screen()).not.toContain(question);
    expect(made()).toEqual(WANTED);
  });

  test("answers that are pasted all at once go to their questions", async () => {
    const terminal = atTerminal(["init", "gateway", "--dir", folder]);
    await terminal.until(ANSWERS[0][0]);
    terminal.type(ANSWERS.map(([, answer]) => `${answer}\r`).join(""));
    expect(await terminal.ended).toBe(0);
    expect(made()).toEqual(WANTED);
  });

  test("Ctrl-D makes nothing, and says which flag would answer", async () => {
    const terminal = atTerminal(["init", "gateway", "--dir", folder]);
    await terminal.until(ANSWERS[0][0]);
    terminal.type(`gateway.a.example\r`);
    await terminal.until(ANSWERS[1][0]);
    terminal.type(CTRL_D);
    expect(await terminal.ended).toBe(1);
    expect(terminal.screen()).toMatch(/no answer, and nothing was made; it can be given with --broker <url>/u);
    expect(existsSync(folder)).toBe(false);
  });
});
