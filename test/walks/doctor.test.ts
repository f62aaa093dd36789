/** `kakitome doctor` on a running system: all well where it is, and each planted fault named, with how to mend it and exit code 1. */
import { spawn } from "node:child_process";
import {
  chmodSync,
  copyFileSync,
  cpSync,
  mkdirSync,
  readFileSync,
  readdirSync,
  renameSync,
  rmSync,
  statSync,
  writeFileSync,
} from "node:fs";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "@jest/globals";
import { SMTPServer } from "smtp-server";
import { parse, stringify } from "yaml";
import { Examination, type Finding } from "../../config/findings.ts";
import { loadGateway } from "../../config/load.ts";
import { examineGateway } from "../../gateway/main.ts";
import { parseCertificate } from "../../mime/certificate.ts";
import { freePort } from "../servers/ports.ts";
import { canRunPostfix } from "../servers/postfix.ts";
import { temporaryFolder } from "../servers/process.ts";
import { COMMAND, must } from "./kakitome.ts";
import { ALICE, BOB, startPlace, untilMail, type Place } from "./place.ts";

const suite = canRunPostfix ? describe : describe.skip;
if (!canRunPostfix) console.log("skipped: Postfix runs as root only");

interface Visit {
  readonly status: number | null;
  readonly findings: readonly Finding[];
}

/** Runs the built command while this process goes on answering. */
function doctor(config: string, ...more: readonly string[]): Promise<Visit> {
  return new Promise((resolve, reject) => {
    const child = spawn(process.execPath, [COMMAND, "doctor", "--config", config, "--json", ...more], {
      stdio: ["ignore", "pipe", "pipe"],
    });
    let [out, error] = ["", ""];
    child.stdout.setEncoding("utf8").on("data", (text: string) => (out += text));
    child.stderr.setEncoding("utf8").on("data", (text: string) => (error += text));
    child.once("close", (status) => {
      try {
        const { findings } = JSON.parse(out) as { findings: Finding[] };
        resolve({ status, findings });
      } catch {
        reject(new Error(`exit ${status}: ${out}${error}`));
      }
    });
  });
}

/** Undoes what was planted. */
type Undo = () => void | Promise<void>;

interface Fault {
  readonly at: "a" | "b" | "broker";
  readonly hop: string;
  readonly of?: RegExp;
  readonly what: RegExp;
  readonly mend: RegExp;
  plant(place: Place): Undo | Promise<Undo>;
}

function edit(file: string, change: (config: Record<string, object>) => void): Undo {
  const before = readFileSync(file, "utf8");
  const config = parse(before) as Record<string, object>;
  change(config);
  writeFileSync(file, stringify(config));
  return () => writeFileSync(file, before);
}

/** Puts other octets there. */
function replace(file: string, octets: Buffer | string): Undo {
  const before = readFileSync(file);
  writeFileSync(file, octets);
  return () => writeFileSync(file, before);
}

function mode(path: string, bits: number): Undo {
  const before = statSync(path).mode & 0o777;
  chmodSync(path, bits);
  return () => chmodSync(path, before);
}

const keysOf = (place: Place, gateway: "a" | "b", address: string): string =>
  join(place[gateway].data, "keys", encodeURIComponent(address));
const brokerData = (place: Place): string => join(place.broker.config, "..", "data");

const FAULTS: Readonly<Record<string, Fault>> = {
  "a key that the configuration does not know": {
    at: "a",
    hop: "config",
    what: /a\.yaml:\d+:\d+ unknown key "mailboxs"/u,
    mend: /correct the file/u,
    plant: ({ a }) => replace(a.config, readFileSync(a.config, "utf8").replace(/^mailboxes:/mu, "mailboxs:")),
  },
  "a password that others can read": {
    at: "b",
    hop: "files",
    of: /bob@b\.example\.password$/u,
    what: /can be read by others \(mode 644\): run chmod 600/u,
    mend: /mode 600/u,
    plant: ({ folder }) => mode(join(folder, `${BOB}.password`), 0o644),
  },
  "a data folder that others can enter": {
    at: "b",
    hop: "files",
    what: /can be read by others \(mode 755\): run chmod 700/u,
    mend: /owned by the user/u,
    plant: ({ b }) => mode(b.data, 0o755),
  },
  "a spool entry that the disk damaged": {
    at: "a",
    hop: "spool",
    what: /1 entries cannot be read: broken/u,
    mend: /from a backup, or move them away/u,
    plant({ a }) {
      const path = join(a.data, "spool", "broken.letter");
      writeFileSync(path, "{");
      return () => rmSync(path);
    },
  },
  "a gateway that is not enrolled": {
    at: "a",
    hop: "enrolment",
    what: /gateway\.crt\.pem is missing/u,
    mend: /kakitome enrol --config/u,
    plant({ a }) {
      const path = join(a.data, "keys", "gateway.crt.pem");
      renameSync(path, `${path}.away`);
      return () => renameSync(`${path}.away`, path);
    },
  },
  "a broker that is down": {
    at: "a",
    hop: "broker",
    what: /does not answer/u,
    mend: /whether the broker runs/u,
    async plant({ broker }) {
      await broker.process.stop();
      return () => broker.restart();
    },
  },
  "a broker whose table is down": {
    at: "a",
    hop: "broker",
    what: /answers that it is not ready/u,
    mend: /kakitome doctor/u,
    async plant({ redis }) {
      await redis.stop();
      return () => redis.restart();
    },
  },
  "a broker with another root than was pinned": {
    at: "a",
    hop: "broker TLS",
    what: /the certificate does not hold/u,
    mend: /fingerprint [0-9a-f]{64}/u,
    plant: ({ a, doorCa }) => replace(join(a.data, "keys", "broker-ca.pem"), readFileSync(doorCa)),
  },
  "a mailbox without certificates": {
    at: "b",
    hop: "certificates",
    of: /signing of bob/u,
    what: /signing\.crt\.pem/u,
    mend: /enrols its mailboxes by itself/u,
    plant(place) {
      const path = join(keysOf(place, "b", BOB), "signing.crt.pem");
      renameSync(path, `${path}.away`);
      return () => renameSync(`${path}.away`, path);
    },
  },
  "a certificate that is not of its key": {
    at: "b",
    hop: "certificates",
    of: /encryption of bob/u,
    what: /is not of the key/u,
    mend: /back from a backup/u,
    plant(place) {
      const path = join(keysOf(place, "b", BOB), "encryption.key.pem");
      return replace(path, readFileSync(join(keysOf(place, "b", BOB), "signing.key.pem")));
    },
  },
  "keys of an old backup: the directory gives other ones": {
    at: "b",
    hop: "directory",
    of: /bob/u,
    what: /another certificate than ours/u,
    mend: /restart the gateway/u,
    plant(place) {
      const [bob, carol] = [keysOf(place, "b", BOB), keysOf(place, "b", "carol@b.example")];
      cpSync(bob, `${bob}.kept`, { recursive: true });
      for (const name of ["encryption.key.pem", "encryption.crt.pem"]) copyFileSync(join(carol, name), join(bob, name));
      return () => {
        rmSync(bob, { recursive: true });
        renameSync(`${bob}.kept`, bob);
      };
    },
  },
  "a known certificate that is none": {
    at: "a",
    hop: "policy",
    what: /x\.pem holds no certificate/u,
    mend: /mend or remove/u,
    plant({ a, folder }) {
      mkdirSync(join(folder, "known"));
      writeFileSync(join(folder, "known", "x.pem"), "nothing");
      const undo = edit(a.config, (config) => Object.assign(config, { policy: { certificates: "known" } }));
      return async () => {
        await undo();
        rmSync(join(folder, "known"), { recursive: true });
      };
    },
  },
  "a door whose certificate is of another key": {
    at: "a",
    hop: "door",
    what: /are no pair/u,
    mend: /kakitome reload/u,
    plant: (place) => replace(join(place.folder, "door.key.pem"), readFileSync(join(keysOf(place, "a", ALICE), "signing.key.pem"))),
  },
  "a wrong IMAP password": {
    at: "b",
    hop: "imap",
    of: /bob/u,
    what: /cannot be opened.*(?:[Aa]uth|Command failed)/u,
    mend: /user and passwordFile/u,
    plant: ({ folder }) => replace(join(folder, `${BOB}.password`), "wrong"),
  },
  "a watched folder that is not there": {
    at: "b",
    hop: "imap",
    of: /bob/u,
    what: /cannot be opened/u,
    mend: /folder Nowhere exists/u,
    plant: ({ b }) =>
      edit(b.config, (config) => {
        const [first] = config["mailboxes"] as unknown as { imap: { watch?: string } }[];
        if (first) first.imap.watch = "Nowhere";
      }),
  },
  "a next hop that is down": {
    at: "a",
    hop: "next hop",
    what: /ECONNREFUSED/u,
    mend: /see whether 127\.0\.0\.1:1 answers/u,
    plant: ({ a }) => edit(a.config, (config) => Object.assign(config["relay"] ?? {}, { port: 1 })),
  },
  "a next hop that takes only small letters": {
    at: "a",
    hop: "next hop",
    what: /takes 10000000 octets, and a letter of submission\.largest grows to/u,
    mend: /message_size_limit in Postfix.*submission\.largest to 5MiB/u,
    async plant({ a }) {
      const port = await freePort();
      const server = new SMTPServer({ size: 10_000_000, authOptional: true, disabledCommands: ["STARTTLS"], logger: false });
      await new Promise<void>((resolve) => server.listen(port, "127.0.0.1", resolve));
      const undo = edit(a.config, (config) => Object.assign(config["relay"] ?? {}, { port }));
      return async () => {
        await undo();
        await new Promise<void>((resolve) => server.close(() => resolve()));
      };
    },
  },
  "a gateway that does not run": {
    at: "b",
    hop: "process",
    what: /no gateway works/u,
    mend: /kakitome gateway run --config/u,
    async plant({ b }) {
      await b.process.stop();
      return () => b.restart();
    },
  },
  "a Redis that can lose a second": {
    at: "broker",
    hop: "table",
    what: /appendfsync/u,
    mend: /Put "appendfsync always" into redis\.conf/u,
    plant({ redis }) {
      redis.cli("config", "set", "appendfsync", "everysec");
      return () => void redis.cli("config", "set", "appendfsync", "always");
    },
  },
  "a master key that others can read": {
    at: "broker",
    hop: "files",
    of: /master\.key$/u,
    what: /can be read by others/u,
    mend: /mode 600/u,
    plant: (place) => mode(join(brokerData(place), "master.key"), 0o640),
  },
  "a broker's certificate of another root": {
    at: "broker",
    hop: "certificates",
    of: /server/u,
    what: /is not of the key/u,
    mend: /rotate server/u,
    plant: (place) => replace(join(brokerData(place), "server.crt.pem"), readFileSync(place.doorCa)),
  },
  "a mail server for receipts that is down": {
    at: "broker",
    hop: "receipts",
    what: /ECONNREFUSED/u,
    mend: /see whether 127\.0\.0\.1:1 answers/u,
    plant: ({ broker }) => edit(broker.config, (config) => Object.assign((config["receipts"] as { relay: object }).relay, { port: 1 })),
  },
};

suite("the doctor", () => {
  let place: Place;
  beforeAll(async () => {
    place = await startPlace();
  }, 60_000);
  afterAll(() => place?.stop());

  const configAt = (at: Fault["at"]): string => place[at].config;

  test.each(["broker", "a", "b"] as const)(
    "finds all well at %s, where it is",
    async (at) => {
      const { status, findings } = await doctor(configAt(at));
      expect(findings.filter(({ good }) => !good)).toEqual([]);
      expect(status).toBe(0);
      expect(findings.length).toBeGreaterThan(10);
    },
    60_000,
  );

  test.each(Object.entries(FAULTS))(
    "names %s",
    async (_name, { at, hop, of = /(?:)/u, what, mend, plant }) => {
      const undo = await plant(place);
      try {
        const { status, findings } = await doctor(configAt(at));
        const found = findings.filter((one) => !one.good && one.hop === hop && of.test(one.of ?? ""));
        expect(found.map((one) => one.what).join("\n")).toMatch(what);
        expect(found.map((one) => one.mend ?? "").join("\n")).toMatch(mend);
        expect(status).toBe(1);
      } finally {
        await undo();
      }
    },
    60_000,
  );

  test("names a clock that is an hour ahead of the broker's, and by how much", async () => {
    const to = new Examination();
    await examineGateway({ config: loadGateway(place.a.config), file: place.a.config }, to, () => new Date(Date.now() + 3_600_000));
    const [clock] = to.findings.filter(({ hop, good }) => hop === "clock" && !good);
    expect(clock).toMatchObject({
      what: expect.stringMatching(/^(?:3599|3600|3601) s ahead of the broker's$/u),
      mend: expect.stringMatching(/NTP/u),
    });
  }, 60_000);

  test("names certificates that end soon, years from now", async () => {
    const to = new Examination();
    const soon = Date.now() + 350 * 86_400_000;
    await examineGateway({ config: loadGateway(place.a.config), file: place.a.config }, to, () => new Date(soon));
    const ending = to.findings.filter(({ hop, good, what }) => hop === "certificates" && !good && /ends in 1[45] days/u.test(what));
    expect(ending.map(({ of }) => of)).toEqual(["gateway", `signing of ${ALICE}`, `encryption of ${ALICE}`]);
  }, 60_000);

  test("sends a letter to oneself and back only where it is asked to, and names the receipt", async () => {
    const { status, findings } = await doctor(place.a.config, "--send-test", ALICE);
    expect(findings.filter(({ hop }) => hop === "test letter").map(({ good }) => good)).toEqual([true, true]);
    expect(status).toBe(0);
    const [mail] = await untilMail(
      place,
      ALICE,
      (one) => one.includes("Subject: Kakitome test letter") && one.includes("Kakitome-Session"),
    );
    expect(String(mail)).toContain("It can be deleted.");
  }, 90_000);

  test("names what a test letter got stuck at, where nobody opens it", async () => {
    await place.a.process.stop();
    const { status, findings } = await doctor(place.a.config, "--send-test", ALICE, "--wait", "3s");
    expect(findings.at(-1)).toMatchObject({
      hop: "test letter",
      good: false,
      what: expect.stringMatching(/nobody opened it within 3 s \(at the broker: (?:dispatched|declared)\)/u),
    });
    expect(status).toBe(1);
    await place.a.restart();
  }, 90_000);

  test("names a mailbox whose certificates were revoked, and what has it enrol anew", async () => {
    must(["broker", "revoke", "--config", place.broker.config, "--mailbox", "carol@b.example"]);
    const { findings } = await doctor(place.b.config);
    expect(findings.filter(({ good }) => !good)).toMatchObject([
      { hop: "directory", of: "carol@b.example", what: expect.stringMatching(/certificates were revoked$/u) },
    ]);
    expect(findings.find(({ good }) => !good)?.mend).toContain(`remove ${keysOf(place, "b", "carol@b.example")} and restart`);
  }, 60_000);

  test("names a gateway that the broker revoked", async () => {
    const { fingerprint } = parseCertificate(readFileSync(join(place.b.data, "keys", "gateway.crt.pem")));
    must(["broker", "revoke", "--config", place.broker.config, "--gateway", fingerprint]);
    const { findings } = await doctor(place.b.config);
    expect(findings.find(({ hop, good }) => hop === "channel" && !good)).toMatchObject({
      what: expect.stringMatching(/does not accept this gateway's certificate/u),
    });
  }, 60_000);

  test("of a folder without a broker says what to do", async () => {
    const folder = await temporaryFolder("doctor");
    const file = join(folder, "broker.yaml");
    writeFileSync(file, readFileSync(place.broker.config));
    const { status, findings } = await doctor(file);
    expect([status, findings.at(-1)?.mend]).toEqual([1, expect.stringContaining("kakitome init broker")]);
    expect(readdirSync(folder)).toEqual(["broker.yaml"]); // an examination makes nothing
  });
});
