/** A data folder of another user: root works there as its owner, so that nothing is left that the service cannot use; and a lock that cannot be written locks nothing. */
import { chmodSync, chownSync, mkdirSync, readdirSync, readFileSync, statSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { beforeEach, describe, expect, test } from "@jest/globals";
import { isLocked, lockFolder } from "../../config/lock.ts";
import { temporaryFolder } from "../servers/process.ts";
import { kakitome, must, startKakitome } from "../walks/kakitome.ts";

/** A user whom every Debian has. */
const NOBODY = 65_534;
const isRoot = process.geteuid?.() === 0;
if (!isRoot) console.log("skipped: what root does beside another user's service needs root");
const asRoot = isRoot ? describe : describe.skip;

let folder: string;
beforeEach(async () => {
  folder = await temporaryFolder("owner", "shared");
});

test("whether a folder is locked is asked without making a file in it, and without taking the lock", () => {
  expect(isLocked(folder)).toBe(false);
  expect(readdirSync(folder)).toEqual([]);
  const unlock = lockFolder(folder);
  expect(isLocked(folder)).toBe(true);
  expect(() => lockFolder(folder)).toThrow(/another process works in/u);
  unlock();
  expect(isLocked(folder)).toBe(false);
});

asRoot("root beside a broker of another user's", () => {
  let config: string;
  let data: string;
  beforeEach(() => {
    const home = join(folder, "broker");
    const to = ["--url", "https://127.0.0.1:0", "--receipts-from", "r@broker.example", "--relay", "127.0.0.1:1"];
    must(["init", "broker", "--dir", home, ...to]);
    [config, data] = [join(home, "broker.yaml"), join(home, "data")];
    chmodSync(home, 0o711);
    chmodSync(config, 0o644);
    for (const place of ["", ...readdirSync(data, { recursive: true, encoding: "utf8" })]) chownSync(join(data, place), NOBODY, NOBODY);
  });

  const owners = (): Set<number> =>
    new Set(readdirSync(data, { recursive: true, encoding: "utf8" }).map((name) => statSync(join(data, name)).uid));

  test("commands leave nothing there that is not its owner's", () => {
    const before = readdirSync(data).length;
    must(["broker", "invite", "--for", "a.example", "--config", config]);
    must(["broker", "rotate", "signing", "--config", config]);
    must(["broker", "rotate", "root", "--config", config]);
    must(["broker", "rotate", "master", "--config", config]);
    must(["broker", "audit", "verify", "--config", config]);
    expect(readdirSync(data).length).toBeGreaterThan(before);
    expect(owners()).toEqual(new Set([NOBODY]));
  });

  test("a broker that root starts runs as that user, and is reloaded and stopped by root's commands", async () => {
    const broker = startKakitome(["broker", "run", "--config", config]);
    await broker.until("broker.started", ({ event }) => event === "broker.started");
    const ids = /^Uid:\s+(.*)$[^]*^Gid:\s+(.*)$[^]*^Groups:\s*(.*?)\s*$/mu.exec(readFileSync(`/proc/${broker.pid}/status`, "utf8"));
    expect(ids?.slice(1)).toEqual([Array(4).fill(NOBODY).join("\t"), Array(4).fill(NOBODY).join("\t"), String(NOBODY)]);
    must(["reload", "--config", config]);
    expect(await broker.stop()).toBe(0);
    expect(owners()).toEqual(new Set([NOBODY]));
  });

  test("a file that is closed to this user is named, with the user", () => {
    const closed = join(folder, "closed");
    mkdirSync(closed, { mode: 0o700 });
    writeFileSync(join(closed, "backup"), "");
    const restore = ["broker", "restore", join(closed, "backup"), "--unopened", "erase", "--config", config];
    const { status, stderr } = kakitome(restore);
    expect(status).toBe(1);
    expect(stderr).toContain(join(closed, "backup"));
    expect(stderr).toContain(`kakitome: this command acted as the user ${NOBODY}, who owns ${data}\n`);
    expect(stderr.trimEnd().split("\n")).toHaveLength(2);
  });

  test("a lock that is root's is none, and the broker says what to do about it", () => {
    writeFileSync(join(data, "lock"), "", { mode: 0o644 });
    const { status, stderr } = kakitome(["broker", "run", "--config", config]);
    expect(status).toBe(1);
    expect(stderr).toMatch(/^kakitome: \S*\/data\/lock cannot be written: give it to the user who owns its folder \(chown\)\n/u);
    chownSync(join(data, "lock"), NOBODY, NOBODY);
    must(["broker", "invite", "--for", "a.example", "--config", config]);
  });
});
