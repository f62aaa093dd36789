/** A broker of one primary and two workers: the guarantees of one process, whichever of them a request meets and whichever of them dies. */
import { cpSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { setTimeout as pause } from "node:timers/promises";
import { afterEach, beforeEach, expect, test } from "@jest/globals";
import { temporaryFolder } from "../servers/process.ts";
import { kakitome, must, type LogLine, type Process } from "../walks/kakitome.ts";
import { isStarted, openPlace, workersOf, type WorkersPlace } from "./workers-place.ts";

let place: WorkersPlace;

beforeEach(async () => {
  place = await openPlace();
});
afterEach(() => place?.stop());

const LOOK_EVERY_MS = 20;

/** Whether a process is there. */
function lives(pid: number): boolean {
  try {
    return !/^State:\s+Z/mu.test(readFileSync(`/proc/${pid}/status`, "utf8"));
  } catch {
    return false;
  }
}

/** Resolves when a worker has started after the one with this process id. */
async function startedAgain(primary: Process, number: string, former: number): Promise<void> {
  const after = primary.lines.findIndex((line) => line["pid"] === former);
  const isNext = (line: LogLine): boolean => line.event === "worker.started" && line["worker"] === number;
  await primary.until(`worker ${number} again`, (line) => isNext(line) && primary.lines.indexOf(line) > after);
}

test("letters go over both workers, each gets one receipt, and health, metrics and the operator's door speak of all of it", async () => {
  const primary = await place.start();
  const posts = [await place.post(), await place.post()];
  const letters = await Promise.all(posts.flatMap((post) => Array.from({ length: 10 }, () => post.letter())));
  await place.hop.attempts.until(() => true, letters.length);
  expect(place.receipts().toSorted()).toEqual(letters.toSorted());
  for (const event of ["session.declared", "session.released", "session.confirmed"]) {
    const workers = primary.lines.filter((line) => line.event === event).map((line) => String(line["worker"]));
    expect([event, [...new Set(workers)].toSorted()]).toEqual([event, ["1", "2"]]);
  }
  const [metrics, ready, live] = await Promise.all([place.health("/metrics"), place.health("/readyz"), place.health("/livez")]);
  expect(metrics.text).toContain('kakitome_sessions_total{step="confirmed"} 20\n');
  expect(metrics.text).toContain('kakitome_dependency_ready{dependency="workers"} 1\n');
  const resident = Number(/^process_resident_memory_bytes (\S+)$/mu.exec(metrics.text)?.[1]);
  const sizes = [primary.pid, ...workersOf(primary).values()].map(
    (pid) => Number(/^VmRSS:\s+(\d+)/mu.exec(readFileSync(`/proc/${pid}/status`, "utf8"))?.[1]) * 1_024,
  );
  expect(resident).toBeGreaterThan(Math.max(...sizes) * 1.5); // of three processes
  expect([ready.status, live.status]).toEqual([200, 200]);
  expect(ready.text).toContain("2 of 2 answer gateways");
  for (let times = 0; times < 4; times++) expect(await place.admin("/v1/status")).toMatchObject({ status: 200 });
});

test("a worker killed under load costs no step and no second receipt, is named in the log, and comes back", async () => {
  const primary = await place.start();
  const posts = await Promise.all([place.post(), place.post(), place.post(), place.post()]);
  const letters: string[] = [];
  const over = new AbortController();
  const sending = posts.map(async (post) => {
    while (!over.signal.aborted) letters.push(await post.letter());
  });
  for (const number of ["1", "2", "1"]) {
    const [pid, count] = [workersOf(primary).get(number) ?? 0, letters.length];
    while (letters.length < count + 10) await pause(LOOK_EVERY_MS);
    process.kill(pid, "SIGKILL");
    await startedAgain(primary, number, pid);
  }
  const before = primary.lines.length;
  const isBoth = (): boolean =>
    new Set(
      primary.lines
        .slice(before)
        .filter(({ event }) => event === "session.confirmed")
        .map((line) => line["worker"]),
    ).size === 2;
  while (!isBoth()) {
    await (await place.post()).letter(); // a connection of its own
  }
  over.abort();
  await Promise.all(sending);
  const ended = primary.lines.filter(({ event }) => event === "worker.ended");
  expect(ended.map((line) => [line["worker"], line["how"], line["againMs"]])).toEqual([
    ["1", "by SIGKILL", 200],
    ["2", "by SIGKILL", 200],
    ["1", "by SIGKILL", 400],
  ]);
  while (new Set(place.receipts()).size < letters.length) await pause(LOOK_EVERY_MS);
  const mails = place.hop.attempts.all.map(({ mail }) => mail.toString("latin1"));
  expect(new Set(mails).size).toBe(mails.length);
  expect(place.receipts().filter((id, at, all) => all.indexOf(id) !== at)).toEqual([]);
  expect((await place.health("/metrics")).text).toContain("kakitome_workers_ended_total 3\n");
});

test("a reload reaches both workers; one that a worker cannot follow, and a file with mistakes, change nothing anywhere", async () => {
  const primary = await place.start();
  const [first = ""] = await place.shown(1);
  must(["broker", "rotate", "server", "--config", place.file]);
  const [second = "", ...others] = await place.shown(6);
  expect(second).not.toBe(first);
  expect(new Set([second, ...others]).size).toBe(1);

  const good = readFileSync(place.file, "utf8");
  writeFileSync(place.file, `${good}mailboxs: []\n`);
  primary.signal("SIGHUP");
  await primary.until("mistake", ({ event }) => event === "config.kept");
  expect(new Set(await place.shown(4))).toEqual(new Set([second]));

  place.write({ vanishAfter: "5h", workers: 3 });
  const [, two = 0] = [...workersOf(primary).values()];
  process.kill(two, "SIGSTOP");
  const refused = kakitome(["reload", "--config", place.file]);
  process.kill(two, "SIGCONT");
  expect(refused).toMatchObject({ status: 1, stderr: expect.stringContaining("worker 2: no answer") });
  const taken = kakitome(["reload", "--config", place.file]);
  expect(taken).toMatchObject({ status: 3, stdout: "Counts now: vanishAfter.\nCounts after a restart: workers.\n" });
});

test("a worker that starts again begins with what was reloaded, not with what the file says meanwhile", async () => {
  const primary = await place.start();
  place.write({ limits: { perAddress: { burst: 4, perSecond: 0.001 } } });
  must(["reload", "--config", place.file]);
  writeFileSync(place.file, "nothing of use");
  for (const [number, pid] of workersOf(primary)) {
    process.kill(pid, "SIGKILL");
    await startedAgain(primary, number, pid);
  }
  const answers: number[] = [];
  for (let times = 0; times < 8; times++) answers.push(await place.ready());
  expect(answers.filter((status) => status === 200)).toHaveLength(4); // two at each worker
});

test("SIGTERM to all of its processes lets a request end that runs, and leaves none of them", async () => {
  const primary = await place.start();
  const pids = [primary.pid, ...workersOf(primary).values()];
  const post = await place.post();
  const { messageId, confirm } = await post.begun();
  const redis = Number(/process_id:(\d+)/u.exec(place.redis.cli("INFO", "server"))?.[1]);
  process.kill(redis, "SIGSTOP"); // the request runs until it goes on
  const confirmed = confirm();
  await pause(200);
  process.kill(-primary.pid, "SIGTERM"); // as systemd and a terminal do it
  await pause(200);
  process.kill(redis, "SIGCONT");
  await confirmed;
  expect(await primary.ended).toBe(0);
  expect(pids.filter((pid) => lives(pid))).toEqual([]);
  expect(primary.lines.some(({ event }) => event === "worker.ended")).toBe(false);
  await place.start();
  await place.hop.attempts.until(() => true);
  expect(place.receipts()).toEqual([messageId]);
});

test("workers end with their primary, and the next one can start at once", async () => {
  const primary = await place.start();
  const pids = [...workersOf(primary).values()];
  process.kill(primary.pid, "SIGKILL");
  while (pids.some((pid) => lives(pid))) await pause(LOOK_EVERY_MS);
  await place.start();
  await (await place.post()).letter();
});

test("where a worker cannot listen the broker does not start, says why, and leaves no process", async () => {
  await place.start();
  const other = await temporaryFolder("other");
  cpSync(place.config.data, other, { recursive: true });
  const file = `${place.file}.other.yaml`;
  writeFileSync(file, readFileSync(place.file, "utf8").replace("data: data", `data: ${other}`));
  expect(kakitome(["broker", "run", "--config", file])).toMatchObject({ status: 1, stderr: expect.stringContaining("EADDRINUSE") });
});

test("what one worker saw of the table, the other one holds it to: an older copy is served by neither", async () => {
  const { redis } = place;
  const primary = await place.start();
  const post = await place.post();
  await post.letter();
  const older = await temporaryFolder("older");
  await redis.stop();
  cpSync(redis.folder, older, { recursive: true });
  await redis.restart();
  await post.declared(); // by one of them
  await redis.stop();
  rmSync(`${redis.folder}/appendonlydir`, { recursive: true });
  cpSync(`${older}/appendonlydir`, `${redis.folder}/appendonlydir`, { recursive: true });
  await redis.restart();
  const answers: number[] = [];
  const isNoticed = (): boolean => primary.lines.some(({ event }) => event === "table.went-back");
  while (!isNoticed()) answers.push(await place.ready()); // the first of them may come before a worker is connected again
  for (let times = 0; times < 6; times++) answers.push(await place.ready());
  expect(new Set(answers)).toEqual(new Set([503]));
  expect(await place.health("/readyz")).toMatchObject({
    status: 503,
    text: expect.stringMatching(/newest copy of the session table|went back in time/u),
  });
});

test("a file that wants workers on the embedded table is refused with its place and the mend", () => {
  place.write({ table: "embedded" });
  expect(kakitome(["config", "check", place.file])).toMatchObject({
    status: 1,
    stderr: expect.stringMatching(/broker\.yaml:3:10 workers: more than one need the table in Redis: write table:/u),
  });
});

test("the log says when all of it has started", async () => {
  const primary = await place.start();
  expect(primary.lines.find(isStarted)).toMatchObject({ workers: 2 });
});
