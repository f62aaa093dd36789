/** Every command that answers can answer a program: one JSON document on standard output, and the same exit code. */
import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { beforeAll, expect, test } from "@jest/globals";
import { stringify } from "yaml";
import { temporaryFolder } from "../servers/process.ts";
import { kakitome, must } from "../walks/kakitome.ts";

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
  made = json(["init", "broker", "--dir", join(folder, "broker"), ...order]);
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

test("broker audit verify, rotate session and rotate master", () => {
  const at = (...words: string[]): Record<string, unknown> => json(["broker", ...words, "--config", broker]);
  expect(at("audit", "verify")).toMatchObject({ holds: true, broken: [] });
  expect(at("rotate", "session")).toEqual({
    fingerprint: expect.stringMatching(/^[0-9a-f]{64}$/u),
    notAfter: expect.stringMatching(/^\d{4}-/u),
  });
  expect(at("rotate", "master")).toEqual({ former: expect.stringContaining("master") });
});
