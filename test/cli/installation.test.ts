/** From nothing to an enrolled gateway: init, invite and enrol, each done once, and a file or key that is wrong named before anything is made. */
import { chmodSync, existsSync, mkdirSync, readFileSync, readdirSync, rmSync, rmdirSync, statSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { beforeEach, expect, test } from "@jest/globals";
import { Command, CommanderError } from "commander";
import { stringify } from "yaml";
import { addInit } from "../../cli/init.ts";
import { loadBroker } from "../../config/load.ts";
import { Fault } from "../../mime/fault.ts";
import { freePort } from "../servers/ports.ts";
import { temporaryFolder } from "../servers/process.ts";
import { kakitome, must, startKakitome } from "../walks/kakitome.ts";

let folder: string;
let gateway: string;

beforeEach(async () => {
  folder = await temporaryFolder("cli");
  gateway = join(folder, "gateway.yaml");
});

const GATEWAY = { name: "gateway.a.example", data: "data", mailboxes: [{ address: "alice@a.example" }] };

const init = (...args: string[]) => kakitome(["init", "broker", "--dir", join(folder, "broker"), ...args]);
const good = (url = "https://broker.example:8443") => [
  "--url",
  url,
  "--receipts-from",
  "receipts@broker.example",
  "--relay",
  "127.0.0.1:1",
];

test("init writes a configuration that loads, and where to go from there", () => {
  const { status, stdout } = init(...good());
  expect(status).toBe(0);
  expect(stdout).toMatch(/^Fingerprint: {3}[0-9a-f]{64}$/mu);
  expect(kakitome(["config", "check", join(folder, "broker", "broker.yaml")]).status).toBe(0);
});

test("init writes the host of a relay without the brackets of IPv6", () => {
  expect(init(...good().slice(0, -1), "[::1]:587").status).toBe(0);
  expect(loadBroker(join(folder, "broker", "broker.yaml")).receipts.relay).toMatchObject({ host: "::1", port: 587 });
});

test("a table that does not answer is named with the reason", async () => {
  init(...good());
  const config = join(folder, "broker", "broker.yaml");
  const port = await freePort();
  writeFileSync(config, readFileSync(config, "utf8").replace("table: embedded", `table: { redis: "redis://127.0.0.1:${port}" }`));
  const { status, stderr } = kakitome(["broker", "backup", join(folder, "backup"), "--config", config]);
  expect([status, stderr]).toEqual([1, `kakitome: session table did not answer: connect ECONNREFUSED 127.0.0.1:${port}\n`]);
});

test("init twice refuses and changes nothing", () => {
  init(...good());
  const files = () =>
    readdirSync(join(folder, "broker"), { recursive: true, encoding: "utf8" })
      .filter((name) => name.includes("."))
      .map((name) => [name, readFileSync(join(folder, "broker", name), "latin1")]);
  const before = files();
  const { status, stderr } = init(...good());
  expect(status).toBe(1);
  expect(stderr).toMatch(/^kakitome: .* is there already; nothing was changed$/mu);
  expect(files()).toEqual(before);
});

test("init that was cut off leaves no configuration; the next one says what to remove, and starts over when it is removed", () => {
  const [home, data, config] = [join(folder, "broker"), join(folder, "broker", "data"), join(folder, "broker", "broker.yaml")];
  const unit = join(home, "kakitome-broker.service");
  mkdirSync(unit, { recursive: true }); // it ends here
  expect(init(...good())).toMatchObject({ status: 1, stderr: expect.stringContaining("EISDIR") });
  expect(existsSync(config)).toBe(false);
  rmdirSync(unit);
  const whole = init(...good());
  expect(whole.stderr).toBe(
    `kakitome: ${data} already holds a broker; nothing was changed: bring its configuration back, or remove ${data} if no gateway has enrolled there\n`,
  );
  rmSync(join(data, "ca.pem")); // or it ended there
  const half = readdirSync(data);
  expect(init(...good()).stderr).toBe(
    `kakitome: ${data} holds keys and no whole broker, as after an init that was cut off: remove ${data} and run it again\n`,
  );
  expect(readdirSync(data)).toEqual(half);
  rmSync(data, { recursive: true });
  expect(init(...good())).toMatchObject({ status: 0, stderr: "" });
  expect(statSync(config).mode & 0o777).toBe(0o600);
  expect(readdirSync(data).filter((name) => name.startsWith("session-"))).toEqual([]);
});

test.each([
  ["a URL that is none", [...good("broker.example")], /broker\.example/u],
  ["a URL without TLS", [...good("http://broker.example")], /https/u],
  ["a URL with a path", [...good("https://broker.example/api")], /https/u],
  ["an address that is none", ["--url", "https://b.example", "--receipts-from", "receipts", "--relay", "h:25"], /not a mail address/u],
  ["a relay without a port", ["--url", "https://b.example", "--receipts-from", "r@b.example", "--relay", "h"], /write host:port/u],
  ["a relay's port that is none", ["--url", "https://b.example", "--receipts-from", "r@b.example", "--relay", "h:99999"], /port/u],
  ["another kind of TLS", [...good(), "--relay-tls", "tls"], /starttls/u],
  ["a place to listen that is none", [...good(), "--listen", "everywhere"], /host:port/u],
])("init with %s says so in one line and makes nothing", async (_why, args, words) => {
  const program = new Command().exitOverride().configureOutput({ writeErr: () => undefined });
  addInit(program);
  for (const command of [...program.commands, ...program.commands.flatMap(({ commands }) => commands)])
    command.copyInheritedSettings(program);
  const parsing = program.parseAsync(["init", "broker", "--dir", join(folder, "broker"), ...args], { from: "user" });
  const thrown = await parsing.then(
    () => new Error("it was made"),
    (reason: unknown) => reason,
  );
  expect(thrown instanceof CommanderError || (thrown instanceof Fault && thrown.code === "malformed")).toBe(true); // others print a stack
  expect(String(thrown)).toMatch(words);
  expect(existsSync(join(folder, "broker"))).toBe(false);
});

test("invite prints one JSON line; the gateway enrols with it once; the second time it refuses and keeps its key", async () => {
  const url = `https://127.0.0.1:${await freePort()}`;
  init(...good(url), "--listen", url.slice("https://".length), "--relay-tls", "none");
  const broker = join(folder, "broker", "broker.yaml");
  const invited = must(["broker", "invite", "--config", broker, "--for", "a.example", "--for", "bob@b.example", "--json"]);
  expect(invited.trimEnd().split("\n")).toHaveLength(1);
  const invitation = JSON.parse(invited) as { broker: string; fingerprint: string; token: string; expiresAt: string; for: string[] };
  expect(invitation).toEqual({
    broker: url,
    fingerprint: expect.stringMatching(/^[0-9a-f]{64}$/u),
    token: expect.stringMatching(/^[\w-]{32}$/u),
    expiresAt: expect.stringMatching(/^\d{4}-\d\d-\d\dT/u),
    for: ["a.example", "bob@b.example"],
  });
  writeFileSync(gateway, stringify({ ...GATEWAY, broker: { url } }));
  const enrol = (token: string, fingerprint = invitation.fingerprint, named = url) =>
    kakitome(["enrol", "--config", gateway, "--broker", named, "--fingerprint", fingerprint, "--token", token]);
  const running = startKakitome(["broker", "run", "--config", broker]);
  try {
    await running.until("broker.started", ({ event }) => event === "broker.started");
    expect(enrol(invitation.token, "0".repeat(64)).stderr).toMatch(/has the fingerprint/u);
    expect(enrol(invitation.token, invitation.fingerprint, "https://other.example").stderr).toMatch(/names the broker/u);
    expect(enrol("wrong").stderr).toBe("kakitome: The invitation is unknown, used or expired; ask the broker's operator for another.\n");
    expect(enrol(invitation.token)).toMatchObject({ status: 0, stderr: "" });
    const key = readFileSync(join(folder, "data", "keys", "gateway.key.pem"), "utf8");
    expect(enrol(invitation.token)).toMatchObject({ status: 1, stderr: expect.stringMatching(/is enrolled already/u) });
    expect(readFileSync(join(folder, "data", "keys", "gateway.key.pem"), "utf8")).toBe(key);
  } finally {
    expect(await running.stop()).toBe(0);
  }
});

test("a gateway that is not enrolled says what to do, and exits 1", () => {
  writeFileSync(gateway, stringify({ ...GATEWAY, broker: { url: "https://broker.example" } }));
  expect(kakitome(["gateway", "run", "--config", gateway])).toMatchObject({
    status: 1,
    stderr: 'gateway.a.example is not enrolled: ask the broker\'s operator for a token and run "kakitome enrol"\n',
  });
});

test("a broker whose key others can read says how to close it, and exits 1", () => {
  init(...good());
  const key = join(folder, "broker", "data", "root.key.pem");
  chmodSync(key, 0o644);
  expect(kakitome(["broker", "run", "--config", join(folder, "broker", "broker.yaml")])).toMatchObject({
    status: 1,
    stderr: `${key} can be read by others (mode 644): run chmod 600 ${key}\n`,
  });
});
