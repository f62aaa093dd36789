/** `kakitome enrol --all` with a running broker: a list of gateways enrols, a bad line does not keep the others from it, and the list can be given again. */
import { chmodSync, existsSync, mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { afterAll, beforeAll, beforeEach, expect, test } from "@jest/globals";
import { stringify } from "yaml";
import { freePort } from "../servers/ports.ts";
import { temporaryFolder } from "../servers/process.ts";
import { kakitome, must, startKakitome, type Outcome, type Process } from "../walks/kakitome.ts";

let broker: { readonly url: string; readonly config: string; readonly process: Process };
let folder: string;
let list: string;
let count = 0;

beforeAll(async () => {
  const home = join(await temporaryFolder("enrol"), "broker");
  const url = `https://127.0.0.1:${await freePort()}`;
  const config = join(home, "broker.yaml");
  must(["init", "broker", "--dir", home, "--url", url, "--receipts-from", "receipts@broker.example", "--relay", "127.0.0.1:1"]);
  const process = startKakitome(["broker", "run", "--config", config]);
  broker = { url, config, process };
  await process.until("broker.started", ({ event }) => event === "broker.started");
}, 60_000);
afterAll(() => broker?.process.stop());

beforeEach(async () => {
  folder = await temporaryFolder("list");
  list = join(folder, "list", "gateways.txt");
  mkdirSync(join(folder, "list"));
});

interface Wanted {
  readonly domain: string;
  readonly token: string;
  readonly config: string;
}

/** A gateway that is configured and invited, its data beside its file. */
function gateway(): Wanted {
  const domain = `a${++count}.example`;
  const config = join(folder, `${domain}.yaml`);
  const mailboxes = [{ address: `someone@${domain}` }];
  writeFileSync(config, stringify({ name: `gateway.${domain}`, data: domain, broker: { url: broker.url }, mailboxes }));
  return { domain, config, token: invite(domain).token };
}

const invite = (domain: string): { token: string; fingerprint: string } =>
  JSON.parse(must(["broker", "invite", "--for", domain, "--json", "--config", broker.config])) as { token: string; fingerprint: string };
const isEnrolled = ({ domain }: Wanted): boolean => existsSync(join(folder, domain, "keys", "gateway.crt.pem"));
const enrolAll = (...more: string[]): Outcome =>
  kakitome(["enrol", "--all", list, "--broker", broker.url, "--fingerprint", invite("x.example").fingerprint, ...more]);
const linesOf = ({ stdout }: Outcome): Record<string, unknown>[] =>
  stdout
    .split("\n")
    .filter(Boolean)
    .map((line) => JSON.parse(line) as Record<string, unknown>);

test("each line's gateway enrols, paths counted from the list; what fails is named, the others go on, and the exit code says so", () => {
  const [first, second, third] = [gateway(), gateway(), gateway()];
  const lines = [
    `../${first.domain}.yaml ${first.token}`,
    `${second.config}\t${"x".repeat(32)}`,
    `  ../${third.domain}.yaml   ${third.token}  `,
  ];
  writeFileSync(list, `# the first ones\n\n${lines.join("\n")}\n`);
  const outcome = enrolAll("--json");
  expect([first, second, third].map(isEnrolled)).toEqual([true, false, true]);
  expect(outcome.status).toBe(1);
  expect(outcome.stderr).toMatch(new RegExp(`^${second.config}: The invitation is unknown, used or expired;.*\n$`, "u"));
  const until = { notAfter: expect.stringMatching(/^\d{4}-.*Z$/u) };
  expect(linesOf(outcome)).toEqual([
    { config: first.config, gateway: `gateway.${first.domain}`, broker: broker.url, ...until },
    { config: second.config, failed: expect.stringContaining("The invitation is unknown") },
    { config: third.config, gateway: `gateway.${third.domain}`, broker: broker.url, ...until },
  ]);
}, 60_000);

test("a token that stands in a file or comes on standard input is no argument of the command", () => {
  const [first, second] = [gateway(), gateway()];
  const { fingerprint } = invite("x.example");
  const enrol = ({ config }: Wanted, file: string, input = ""): Outcome =>
    kakitome(["enrol", "--config", config, "--fingerprint", fingerprint, "--token-file", file], input);
  const file = join(folder, "token");
  writeFileSync(file, `${first.token}\n`, { mode: 0o644 });
  expect(enrol(first, file)).toMatchObject({ status: 1, stderr: expect.stringContaining("chmod 600") });
  chmodSync(file, 0o600);
  expect(enrol(first, file)).toMatchObject({ status: 0, stderr: "" });
  expect(enrol(second, "-", "\n")).toEqual({ status: 1, stdout: "", stderr: "standard input has no token\n" });
  expect(enrol(second, "-", `${second.token}\nmore\n`)).toMatchObject({ status: 0, stderr: "" });
  expect([first, second].map(isEnrolled)).toEqual([true, true]);
  const both = kakitome(["enrol", "--fingerprint", fingerprint, "--token", "t", "--token-file", file]);
  expect(both).toMatchObject({ status: 1, stderr: "name one of --token, --token-file and --all\n" });
}, 60_000);

test("given again with its mistake mended, the list enrols what is left and says of the rest that it is there", () => {
  const [first, second] = [gateway(), gateway()];
  writeFileSync(list, `${first.config} ${first.token}\n${second.config} wrong\n`);
  expect(enrolAll().status).toBe(1);
  writeFileSync(list, `${first.config} ${first.token}\n${second.config} ${second.token}\n`);
  const again = enrolAll();
  expect(again).toMatchObject({ status: 0, stderr: "" });
  expect(again.stdout).toMatch(
    new RegExp(
      `^gateway\\.${first.domain} is already enrolled with ${broker.url} until .*\ngateway\\.${second.domain} is enrolled with `,
      "u",
    ),
  );
  expect(linesOf(enrolAll("--json"))).toMatchObject([{ already: true }, { already: true }]);
}, 60_000);

test("another fingerprint than the broker's enrols nobody and spends no invitation", () => {
  const one = gateway();
  writeFileSync(list, `${one.config} ${one.token}\n`);
  const wrong = kakitome(["enrol", "--all", list, "--fingerprint", "ab".repeat(32)]);
  expect(wrong).toMatchObject({ status: 1, stderr: expect.stringMatching(/has the fingerprint [0-9a-f]{64}, not (?:ab){32}/u) });
  expect(isEnrolled(one)).toBe(false);
  expect(enrolAll().status).toBe(0);
}, 60_000);

test.each([
  [
    "a line without a token",
    (one: Wanted) => `${one.config} ${one.token}\n${one.config}\n`,
    /gateways\.txt:2: write a configuration, a space and its token/u,
  ],
  ["a list that is not there", () => undefined, /gateways\.txt/u],
])("%s is named before anything is done", (_what, text, words) => {
  const one = gateway();
  const written = text(one);
  if (written !== undefined) writeFileSync(list, written);
  const { status, stderr } = enrolAll();
  expect({ status, stderr }).toEqual({ status: 1, stderr: expect.stringMatching(words) });
  expect(stderr.trimEnd().split("\n")).toHaveLength(1);
  expect(isEnrolled(one)).toBe(false);
});
