/** What an administrator learns of a mistake: its file, line and column, what is wrong and what was probably meant; all of them at once, in their order. */
import { readFileSync, readdirSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { describe, expect, test } from "@jest/globals";
import { parse } from "yaml";
import { loadBroker, loadEither, loadGateway } from "../../config/load.ts";
import { Fault } from "../../mime/fault.ts";
import { temporaryFolder } from "../servers/process.ts";

const BAD = join(import.meta.dirname, "..", "bad-configs");
const names = readdirSync(BAD).flatMap((file) => (file.endsWith(".yaml") ? [file.slice(0, -".yaml".length)] : []));

/** What loading says, with the folder left out. @throws whatever is no Fault */
function mistakesIn(name: string): string {
  const load = name.includes("-gateway-") ? loadGateway : loadBroker;
  try {
    load(join(BAD, `${name}.yaml`));
    return "loads\n";
  } catch (thrown) {
    if (!(thrown instanceof Fault)) throw thrown;
    expect(thrown.code).toBe("malformed");
    return `${thrown.message.replaceAll(`${BAD}/`, "")}\n`;
  }
}

describe("each mistake is named with its place", () => {
  test.each(names)("%s", (name) => {
    const found = mistakesIn(name);
    expect(found).toBe(readFileSync(join(BAD, `${name}.expected.txt`), "utf8"));
    for (const line of found.trimEnd().split("\n")) expect(line).toMatch(new RegExp(`^${name}\\.yaml:\\d+:\\d+ \\S`, "u"));
  });

  test.each(names)("%s, and in the order of the file", (name) => {
    const lines = readFileSync(join(BAD, `${name}.expected.txt`), "utf8")
      .trimEnd()
      .split("\n");
    const places = lines.map((line) => (/:(\d+):(\d+) /u.exec(line) ?? []).slice(1).map(Number));
    const sorted = places.toSorted(([a = 0, b = 0], [c = 0, d = 0]) => a - c || b - d);
    expect(places).toEqual(sorted);
  });

  test("there are pairs only", () => {
    expect(readdirSync(BAD).sort()).toEqual(names.flatMap((name) => [`${name}.expected.txt`, `${name}.yaml`]).sort());
  });
});

describe("a file that cannot be read", () => {
  test("is named with the reason", () => {
    expect(() => loadBroker("/nowhere/broker.yaml")).toThrow(/^\/nowhere\/broker\.yaml: cannot be read \((?:Error: )?ENOENT/u);
  });

  test("because it is a folder is named with the reason", () => {
    expect(() => loadGateway(BAD)).toThrow(/cannot be read \((?:Error: )?EISDIR/u);
  });

  test("because it is larger than 1 MiB is not parsed", async () => {
    const file = join(await temporaryFolder("large"), "broker.yaml");
    writeFileSync(file, `# ${"x".repeat(1 << 20)}\n`);
    expect(() => loadBroker(file)).toThrow(/larger than 1 MiB$/u);
  });
});

async function place(text: string): Promise<string> {
  const file = join(await temporaryFolder("config"), "some.yaml");
  writeFileSync(file, text);
  return file;
}

const BROKER = readFileSync(join(BAD, "..", "config", "broker.yaml"), "utf8");
const GATEWAY = readFileSync(join(BAD, "..", "config", "gateway.yaml"), "utf8");

describe("a file that is right", () => {
  test("has its relative paths counted from itself, and absolute ones left alone", async () => {
    const file = await place(GATEWAY.replace("door.key.pem", "/etc/door.key.pem"));
    const folder = file.slice(0, -"/some.yaml".length);
    const config = loadGateway(file);
    expect(config.data).toBe(join(folder, "data"));
    expect(config.submission).toMatchObject({ certificate: join(folder, "door.crt.pem"), key: "/etc/door.key.pem" });
    expect(config.mailboxes[0]?.imap?.passwordFile).toBe(join(folder, "alice.password"));
  });

  test("has each relative path counted from itself, whatever its key is called and wherever it stands", async () => {
    const token = (how: object) => ({ tokenUrl: "https://login.example/token", clientId: "kakitome", ...how });
    const account = { host: "mail.example", port: 993, tls: "implicit", user: "someone" };
    const paths = {
      name: "gateway.a.example",
      data: "data",
      broker: { url: "https://broker.example:8443" },
      mailboxes: [
        { address: "a@a.example", imap: { ...account, ca: "ca.pem", oauth: token({ keyFile: "google.pem" }) } },
        { address: "b@a.example", maildir: { path: "mail/b" } },
      ],
      relay: { ...account, oauth: token({ clientSecretFile: "m365.secret" }) },
      policy: { certificates: "people" },
    };
    const file = await place(JSON.stringify(paths));
    const at = (name: string) => join(dirname(file), name);
    expect(loadGateway(file)).toMatchObject({
      data: at("data"),
      mailboxes: [{ imap: { ca: at("ca.pem"), oauth: { keyFile: at("google.pem") } } }, { maildir: { path: at("mail/b") } }],
      relay: { oauth: { clientSecretFile: at("m365.secret") } },
      policy: { certificates: at("people") },
    });
    const table = {
      sentinel: { name: "k", hosts: ["127.0.0.1:1"], passwordFile: "sentinel.password" },
      passwordFile: "redis.password",
      ca: "ca.pem",
    };
    const more = { ...(parse(BROKER) as object), table, dayKeys: "days", masterKey: { file: "master" } };
    const broker = await place(JSON.stringify({ ...more, admin: { listen: "127.0.0.1:1", tokenFile: "admin.token" } }));
    const of = (name: string) => join(dirname(broker), name);
    expect(loadBroker(broker)).toMatchObject({
      dayKeys: of("days"),
      masterKey: { file: of("master") },
      table: { sentinel: { passwordFile: of("sentinel.password") }, passwordFile: of("redis.password"), ca: of("ca.pem") },
      admin: { tokenFile: of("admin.token") },
    });
  });

  test("has the paths of its keys and of the operator's token counted from itself too", async () => {
    const file = await place(`${BROKER}dayKeys: days\nmasterKey: { file: m.key }\nadmin: { listen: "127.0.0.1:1", tokenFile: t }\n`);
    const folder = file.slice(0, -"/some.yaml".length);
    const { dayKeys, masterKey, admin } = loadBroker(file);
    expect([dayKeys, masterKey?.file, admin?.tokenFile]).toEqual([join(folder, "days"), join(folder, "m.key"), join(folder, "t")]);
  });

  test("gets every default", async () => {
    const config = loadBroker(await place(BROKER));
    const [second, minute, day] = [1_000, 60_000, 86_400_000];
    expect(config).toMatchObject({
      table: "embedded",
      receipts: { retryFirst: 10 * second, retryLongest: 30 * minute },
      expiry: { longest: 90 * day },
      vanishAfter: day,
      retention: 30 * day,
      certificates: { lifetime: 365 * day },
      crl: { lifetime: 7 * day },
      limits: {
        perGateway: { burst: 5_000, perSecond: 500 },
        perAddress: { burst: 300, perSecond: 10 },
        connections: 10_000,
        header: 10 * second,
        request: 30 * second,
      },
    });
    expect([config.admin, config.masterKey]).toEqual([undefined, undefined]);
    expect(loadGateway(await place(GATEWAY)).broker.revocations).toBe(60 * minute);
  });

  test("may name its table with or without a password", async () => {
    const file = await place(`${BROKER}table:\n  redis: rediss://kakitome@127.0.0.1:6379\n`);
    expect(loadBroker(file).table).toEqual({ redis: "rediss://kakitome@127.0.0.1:6379", tls: false, prefix: "kakitome:", replicas: 0 });
  });

  test("may leave the door out, and then needs no next hop", async () => {
    const text = GATEWAY.replace(/submission:[^]*?users:[^]*?mailboxes:/u, "mailboxes:").replace(/relay:[^]*$/u, "");
    expect(loadGateway(await place(text))).not.toHaveProperty("submission");
  });

  test("may use an alias for what it says twice", async () => {
    const text = BROKER.replace("from: receipts", "from: &from receipts").replace(
      "    tls:",
      "    user: *from\n    passwordFile: x\n    tls:",
    );
    expect(loadBroker(await place(text)).receipts.relay.user).toBe("receipts@broker.example");
  });

  test("may name a domain of the policy in capitals: domains have no case", async () => {
    const config = loadGateway(await place(`${GATEWAY}policy:\n  rules:\n    News.Example: { unenrolled: pass }\n`));
    expect(config.policy.rules).toEqual({ "news.example": { unenrolled: "pass" } });
  });

  test.each([
    ["broker", BROKER],
    ["gateway", GATEWAY],
  ])("is known for what it is: a %s", async (kind, text) => {
    expect(loadEither(await place(text)).kind).toBe(kind);
  });
});

test("asked for either kind, a file with aliases that lead nowhere or too far is a mistake too, and no crash", async () => {
  for (const text of [`${BROKER}x: *nowhere\n`, `${BROKER}x: &x [*x]\n`]) {
    const file = await place(text);
    expect(() => loadEither(file)).toThrow(expect.objectContaining({ code: "malformed" }));
  }
});
