/** The master key rotates under a running broker: letters of before open, receipts are signed, and a crash at any step leaves a broker that starts. */
import { spawn } from "node:child_process";
import { once } from "node:events";
import { chmodSync, mkdirSync, readFileSync, readdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, test } from "@jest/globals";
import { dayOf } from "../../broker/day-keys.ts";
import { declaredFacts } from "../../broker/facts.ts";
import { masterKeysAt, rotateMaster, type MasterPlace } from "../../broker/master-files.ts";
import { localMasterKey } from "../../broker/master-key.ts";
import { ContentKey } from "../../mime/key.ts";
import { temporaryFolder } from "../servers/process.ts";
import { confirmAs, forever, letterFrom, openHouse } from "./house.ts";
import { letter } from "./table-homes.ts";

let data: string;
let place: MasterPlace;

beforeEach(async () => {
  data = await temporaryFolder("rotate");
  place = { data, dayKeys: join(data, "days"), source: { file: join(data, "master.key") } };
  writeFileSync(join(data, "master.key"), `${"ab".repeat(32)}\n`, { mode: 0o600 });
});
afterEach(() => void delete process.env["CREDENTIALS_DIRECTORY"]);

const open = () => localMasterKey(() => masterKeysAt(place), place.dayKeys);
const octetsOf = (key: ContentKey): string => key.lend((octets) => octets.toString("hex"));
const { wrappedKey: _none, ticket: _neither, declaredMac: _nor, ...row } = letter();
const masterText = (): string => readFileSync(join(data, "master.key"), "utf8");

/** What was made under a master key, and whether another process still makes something of it. */
function made(days = 3) {
  const master = open();
  const rows = Array.from({ length: days }, (_none, day) => ({ ...row, declaredAt: row.declaredAt + day * 86_400_000 }));
  const letters = rows.map((declaration) => {
    const key = ContentKey.generate();
    return { declaration, octets: octetsOf(key), wrapped: master.wrap(key, declaration), mac: master.mac(declaredFacts(declaration)) };
  });
  const isGood = (by = open()): boolean =>
    letters.every(
      ({ declaration, octets, wrapped, mac }) =>
        octetsOf(by.unwrap(wrapped, declaration)) === octets && by.holds(declaredFacts(declaration), mac),
    );
  return { master, isGood };
}

test("letters of before open after the rotation, in the broker that runs, in one that starts, and after a second rotation", () => {
  const { master, isGood } = made();
  const before = masterText();
  const former = rotateMaster(place);
  expect(masterText()).not.toBe(before);
  expect(readFileSync(former, "utf8")).toBe(before);
  expect([isGood(master), isGood()]).toEqual([true, true]);
  rotateMaster(place);
  expect([isGood(master), isGood()]).toEqual([true, true]);
});

test("a broker that runs meets a day's key only after the rotation, and opens it nevertheless", () => {
  const running = open(); // has looked at no file yet
  const { isGood } = made();
  rotateMaster(place);
  expect(isGood(running)).toBe(true);
});

test("what is new is under the new key: with the former one alone neither the days' keys nor the MACs can be read", () => {
  made();
  const former = rotateMaster(place);
  const text = "a text";
  const running = open();
  const thief = localMasterKey(() => [Buffer.from(readFileSync(former, "utf8").trim(), "hex")], place.dayKeys);
  expect(() => thief.unwrap(Buffer.alloc(60), row)).toThrow(/altered, or belongs to another master key/u);
  expect(thief.holds(text, running.mac(text))).toBe(false);
});

test("a broker that runs takes the new key over by itself, for all that is new", () => {
  const { master } = made();
  const mac = master.mac("a text");
  rotateMaster(place);
  master.renew();
  expect(master.mac("a text")).not.toEqual(mac);
  expect(master.holds("a text", mac)).toBe(true);
  expect(open().mac("a text")).toEqual(master.mac("a text"));
});

test("a MAC that a broker ahead of us made is recognised", () => {
  const { master } = made();
  rotateMaster(place);
  expect(master.holds("a text", open().mac("a text"))).toBe(true);
  expect(master.holds("another text", open().mac("a text"))).toBe(false);
});

describe("killed", () => {
  const PROGRAM = join(import.meta.dirname, "..", "..", "dist", "broker", "master-files.js");

  /** Rotates in a process of its own, which is killed at the point. */
  async function rotateAndDie(point: string): Promise<void> {
    const script = `const { rotateMaster } = await import(${JSON.stringify(PROGRAM)}); rotateMaster(${JSON.stringify(place)});`;
    const child = spawn(process.execPath, ["--input-type=module", "-e", script], {
      env: { ...process.env, KAKITOME_HALT: point },
      stdio: ["ignore", "pipe", "inherit"],
    });
    const [said] = (await once(child.stdout, "data")) as [Buffer];
    expect(said.toString()).toContain(`"${point.split("@")[0]}"`);
    child.kill("SIGKILL");
    await once(child, "close");
  }

  test.each(["m1", "m2", "m3", "m4", "m4@2", "m5"])(
    "at %s, a broker starts and opens every letter, and the rotation can be run again",
    async (point) => {
      const { master, isGood } = made();
      await rotateAndDie(point);
      expect([isGood(), isGood(master)]).toEqual([true, true]);
      rotateMaster(place);
      expect([isGood(), isGood(master)]).toEqual([true, true]);
      for (const name of readdirSync(place.dayKeys)) expect(name).toMatch(/^\d+\.key$/u);
      expect(readdirSync(data).filter((name) => name.includes(".next"))).toEqual([]);
    },
  );
});

test("a whole letter, declared before and confirmed after a rotation; a declaration that is repeated across it gets a row of its own", async () => {
  const house = await openHouse();
  const alice = await (await house.gateway("a.example")).enrol("alice@a.example");
  const bob = await (await house.gateway("b.example")).enrol("bob@b.example");
  const order = letterFrom(house, alice, ["bob@b.example"]);
  const declare = async () => (await alice.gateway.client.declare(order, alice.identity, forever))[0]!;
  const [first, repeated] = [await declare(), await declare()];
  expect(repeated.ticket.equals(first.ticket)).toBe(true);
  const folder = join(house.folder, "data");
  rotateMaster({ data: folder, dayKeys: join(folder, "days"), source: { file: join(folder, "master.key") } });
  house.broker.masterKey.renew();
  const across = await declare();
  expect(across.ticket.equals(first.ticket)).toBe(false); // the first one is dispatched by nobody and vanishes
  for (const { ticket } of [first, across]) {
    const release = await bob.gateway.client.present(ticket, bob.identity, forever);
    expect((await confirmAs(house, bob, release)).evidence).toBeDefined();
  }
  await house.stop();
});

describe("as a credential of systemd", () => {
  test("it is read from where systemd has put it, whatever the mask of its access list looks like", async () => {
    process.env["CREDENTIALS_DIRECTORY"] = await temporaryFolder("credentials");
    const file = join(process.env["CREDENTIALS_DIRECTORY"], "master");
    writeFileSync(file, "cd".repeat(32));
    chmodSync(file, 0o440);
    const handed = { ...place, source: { credential: "master" } };
    expect(masterKeysAt(handed)).toEqual([Buffer.alloc(32, 0xcd)]);
    expect(() => rotateMaster(handed)).toThrow(/only|credential/u);
    chmodSync(file, 0o444);
    expect(() => masterKeysAt(handed)).toThrow(/can be read by others/u);
  });

  test("it is asked for by name where systemd handed nothing over", () => {
    expect(() => masterKeysAt({ ...place, source: { credential: "master" } })).toThrow(/LoadCredential=master/u);
  });
});

describe("is refused where others can read", () => {
  test.each<[string, () => void]>([
    ["the key", () => chmodSync(join(data, "master.key"), 0o640)],
    ["a former key", () => chmodSync(rotateMaster(place), 0o604)],
    ["the folder of the days' keys", () => chmodSync(place.dayKeys, 0o750)],
    ["a day's key", () => chmodSync(join(place.dayKeys, `${dayOf(row.declaredAt)}.key`), 0o644)],
  ])("%s", (_what, spoil) => {
    mkdirSync(place.dayKeys, { recursive: true });
    chmodSync(place.dayKeys, 0o700);
    made();
    spoil();
    expect(open).toThrow(/can be read by others \(mode \d+\): run chmod [67]00/u);
  });
});
