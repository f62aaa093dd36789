/** Every command that answers can answer a program: one JSON document on standard output, and the same exit code. */
import { readFileSync, readdirSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { beforeAll, expect, test } from "@jest/globals";
import { stringify } from "yaml";
import { freePort } from "../servers/ports.ts";
import { temporaryFolder } from "../servers/process.ts";
import { kakitome, must, startKakitome } from "../walks/kakitome.ts";

let folder: string;
let broker: string;
let gateway: string;
let made: Record<string, unknown>;

const json = (args: readonly string[], input = ""): Record<string, unknown> =>
  JSON.parse(must([...args, "--json"], input)) as Record<string, unknown>;

beforeAll(async () => {
  folder = await temporaryFolder("json");
  broker = join(folder, "broker", "broker.yaml");
  gateway = join(folder, "gateway.yaml");
  writeFileSync(
    gateway,
    stringify({
      name: "gateway.a.example",
      data: "data",
      broker: { url: "https://b.example" },
      mailboxes: [{ address: "alice@a.example" }],
    }),
  );
  const order = ["--url", "https://broker.example:8443", "--receipts-from", "receipts@broker.example", "--relay", "127.0.0.1:1"];
  const listen = ["--listen", `127.0.0.1:${await freePort()}`];
  made = json(["init", "broker", "--dir", join(folder, "broker"), ...order, ...listen]);
});

test("init broker", () => {
  expect(made).toEqual({
    config: broker,
    unit: join(folder, "broker", "kakitome-broker.service"),
    url: "https://broker.example:8443",
    fingerprint: expect.stringMatching(/^[0-9a-f]{64}$/u),
  });
});

test("config check, with the mistakes where there are some", () => {
  expect(json(["config", "check", broker])).toEqual({ file: broker, valid: true, kind: "broker" });
  const bad = join(folder, "bad.yaml");
  writeFileSync(bad, `${readFileSync(gateway, "utf8")}nonsense: 1\n`);
  const { status, stdout } = kakitome(["config", "check", bad, "--json"]);
  expect(status).toBe(1);
  expect(JSON.parse(stdout)).toEqual({
    file: bad,
    valid: false,
    mistakes: [expect.stringMatching(/bad\.yaml:\d+:1 unknown key "nonsense"/u)],
  });
});

test("user add", () => {
  const add = ["user", "add", "alice", "--identity", "alice@a.example", "--config", gateway];
  expect(json(add, "a-long-password\n")).toEqual({ user: "alice", identities: ["alice@a.example"], isNew: true });
  expect(json(add, "another-password\n")).toMatchObject({ isNew: false });
});

test("certificate list", () => {
  expect(json(["certificate", "list", "--config", gateway])).toEqual({ waiting: [] });
});

/** What answers to nobody: it serves, or hands a mail or a script on. */
const WITHOUT = ["broker run", "gateway run", "seal", "open", "completion"];

test("every command that answers has --json", () => {
  const places = [...must(["completion", "bash"]).matchAll(/^ {4}"([^"]*)"\) offered="([^"]*)" ;;$/gmu)].map(
    ([, path = "", words = ""]) => ({
      path,
      words,
    }),
  );
  const commands = places.filter(({ words }) => words.startsWith("--")); // the others only lead to them
  expect(commands.length).toBeGreaterThan(25);
  expect(
    commands
      .filter(({ words }) => !words.split(" ").includes("--json"))
      .map(({ path }) => path)
      .toSorted(),
  ).toEqual(WITHOUT.toSorted());
});

test("broker invite, backup and restore", async () => {
  const at = (...words: string[]): Record<string, unknown> => json(["broker", ...words, "--config", broker]);
  expect(at("invite", "--for", "a.example")).toEqual({
    broker: "https://broker.example:8443",
    fingerprint: made["fingerprint"],
    token: expect.stringMatching(/^[\w-]{32}$/u),
    expiresAt: expect.stringMatching(/^\d{4}-.*Z$/u),
    for: ["a.example"],
  });
  const running = startKakitome(["broker", "run", "--config", broker]); // there is nothing to keep before a broker ran
  await running.until("broker.started", ({ event }) => event === "broker.started");
  await running.stop();
  const file = join(folder, "table.backup");
  expect(at("backup", file)).toEqual({ file, entries: expect.any(Number) });
  for (const name of readdirSync(join(folder, "broker", "data")))
    if (name.startsWith("table.db")) rmSync(join(folder, "broker", "data", name));
  expect(at("restore", file, "--unopened", "erase")).toEqual({ restored: true, erased: 0 });
});

test("broker org, gateway, cert and session of a broker whom nobody has joined, for programs and for people", () => {
  const at = (...words: string[]): string[] => ["broker", ...words, "--config", broker];
  expect([["org"], ["gateway"], ["cert"], ["session"]].map((words) => json(at(...words)))).toEqual([
    { organisations: [] },
    { gateways: [] },
    { certificates: [] },
    { states: {} },
  ]);
  expect(must(at("gateway"))).toBe("No gateway is enrolled.\n");
  expect(kakitome(at("session", "<none@a.example>"))).toMatchObject({
    status: 1,
    stdout: "There is no such letter, or it was forgotten.\n",
  });
  expect(kakitome(at("session", "none"))).toMatchObject({ status: 1, stderr: expect.stringContaining("neither a Message-ID") });
});

test("broker revoke, and what it refuses stays a line on standard error", () => {
  const revoke = ["broker", "revoke", "--config", broker];
  expect(json([...revoke, "--serial", "40:AB", "--reason", "superseded"])).toEqual({
    reason: "superseded",
    revoked: [{ name: "40ab", subject: "a certificate", since: expect.stringMatching(/^\d{4}-.*Z$/u) }],
  });
  const refused = kakitome([...revoke, "--mailbox", "nobody@a.example", "--json"]);
  expect(refused).toMatchObject({ status: 1, stdout: "", stderr: "nobody@a.example is not enrolled\n" });
});

test("broker rotate root: announced, in use, and what waits to be retired", () => {
  const root = (...words: string[]): Record<string, unknown> => json(["broker", "rotate", "root", ...words, "--config", broker]);
  const { announced, ...more } = root();
  expect(more).toEqual({ notAfter: expect.stringMatching(/^\d{4}-/u) });
  expect(announced).toMatch(/^[0-9a-f]{64}$/u);
  expect(root("--use", "--now")).toEqual({ issuing: announced, ...more });
  expect(root("--retire")).toEqual({
    retired: [],
    waiting: [{ fingerprint: made["fingerprint"], until: expect.stringMatching(/^\d{4}-/u) }],
  });
});

test("broker audit verify, rotate session and rotate master", () => {
  const at = (...words: string[]): Record<string, unknown> => json(["broker", ...words, "--config", broker]);
  expect(at("audit", "verify")).toMatchObject({ holds: true, broken: [] });
  expect(at("rotate", "session")).toEqual({
    fingerprint: expect.stringMatching(/^[0-9a-f]{64}$/u),
    notAfter: expect.stringMatching(/^\d{4}-/u),
  });
  expect(at("rotate", "master")).toEqual({ former: expect.stringContaining("master") });
});
