/** Reading the configuration anew while the process runs (SIGHUP): a file with mistakes changes nothing, and who asked for it learns what came of it. */
import { readFileSync, renameSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { setTimeout as pause } from "node:timers/promises";
import { isDeepStrictEqual } from "node:util";
import { z } from "zod";
import { Fault } from "../mime/fault.ts";
import { isLocked } from "./lock.ts";
import type { Log } from "./log.ts";

/** What a good file changed, by the names of its keys. */
export interface Reloaded {
  /** Counts from now on. */
  readonly changed: readonly string[];
  /** Counts after a restart. */
  readonly restart: readonly string[];
}

export interface Reloading<Config> {
  /** Takes what can count at once. @throws Fault `malformed`; then nothing changed */
  reload(next: Config): Promise<Reloaded>;
}

const FILES = { pid: "pid", outcome: "reload.json" } as const;

const outcomeSchema = z.strictObject({
  /** Counts the reloads of one process. */
  number: z.int(),
  pid: z.int(),
  changed: z.array(z.string()),
  restart: z.array(z.string()),
  /** One line a mistake; the former configuration goes on where there is one. */
  mistakes: z.array(z.string()),
});

export type ReloadOutcome = z.output<typeof outcomeSchema>;

/** Names of the keys in which two configurations differ; a list counts as one value. */
export function differences(before: unknown, next: unknown, at = ""): string[] {
  if (isDeepStrictEqual(before, next)) return [];
  const [one, other] = [before, next].map((value) => (isPlain(value) ? value : undefined));
  if (!one || !other) return [at];
  const keys = [...new Set([...Object.keys(one), ...Object.keys(other)])];
  return keys.flatMap((key) => differences(one[key], other[key], at === "" ? key : `${at}.${key}`));
}

function isPlain(value: unknown): value is Record<string, unknown> {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

/** Sorts differences by whether they can count at once. @param live keys, each with everything below it */
export function sorted(found: readonly string[], live: readonly string[]): Reloaded {
  const isLive = (key: string): boolean => live.some((name) => key === name || key.startsWith(`${name}.`));
  return { changed: found.filter((key) => isLive(key)), restart: found.filter((key) => !isLive(key)) };
}

/**
 * Reloads at every SIGHUP, one after the other, and keeps the process's number in its data folder.
 * @param started resolves when the data folder is the process's own
 * @param reload reads and takes the configuration. It throws where it takes nothing of it
 * @returns what ends it
 */
export function reloadOnHangup(data: string, log: Log, started: Promise<unknown>, reload: () => Promise<Reloaded>): () => void {
  let number = 0;
  let last = Promise.resolve();
  const once = async (): Promise<void> => {
    const outcome = { ...(await attempt(log, reload)), number: ++number, pid: process.pid };
    keep(join(data, FILES.outcome), JSON.stringify(outcome));
  };
  const hangup = (): void => {
    last = last.then(once).catch((thrown: unknown) => log.error({ event: "config.outcome-not-kept", reason: String(thrown) }));
  };
  process.on("SIGHUP", hangup);
  const own = join(data, FILES.pid);
  started
    .then(
      () => {
        rmSync(own, { force: true }); // where ours cannot be written: it may be somebody else's by now
        keep(own, String(process.pid));
      },
      () => undefined, // who started it says why
    )
    .catch((thrown: unknown) => log.error({ event: "config.pid-not-kept", reason: String(thrown) }));
  return () => {
    process.off("SIGHUP", hangup);
    rmSync(own, { force: true });
  };
}

async function attempt(log: Log, reload: () => Promise<Reloaded>): Promise<Reloaded & { mistakes: string[] }> {
  try {
    const { changed, restart } = await reload();
    log.info({ event: "config.reloaded", changed: changed.join(" ") });
    if (restart.length > 0) log.warn({ event: "config.needs-restart", keys: restart.join(" ") });
    return { changed, restart, mistakes: [] };
  } catch (thrown) {
    const fault = Fault.from(thrown);
    const mistakes = (fault.advice ?? fault.message).split("\n");
    for (const mistake of mistakes) log.error({ event: "config.mistake", mistake });
    log.error({
      event: "config.kept",
      mistakes: mistakes.length,
      advice: "The former configuration goes on. Mend the file and reload again.",
    });
    return { changed: [], restart: [], mistakes };
  }
}

function keep(path: string, text: string): void {
  writeFileSync(`${path}.tmp`, text, { mode: 0o600 });
  renameSync(`${path}.tmp`, path);
}

const LOOK_EVERY_MS = 50;

/**
 * Asks the process that works in a data folder to reload, and waits for what comes of it.
 * @throws Fault `unavailable`: none works there, or it does not answer in time
 */
export async function requestReload(data: string, signal: AbortSignal): Promise<ReloadOutcome> {
  const pid = Number(textAt(join(data, FILES.pid)));
  if (!isLocked(data) || !Number.isSafeInteger(pid) || pid < 2) {
    throw new Fault("unavailable", "nothing to reload", { advice: `no process works in ${data}: there is nothing to reload` });
  }
  const before = outcomeAt(data);
  process.kill(pid, "SIGHUP");
  for (;;) {
    const now = outcomeAt(data);
    if (now?.pid === pid && (now.number !== before?.number || before.pid !== pid)) return now;
    try {
      await pause(LOOK_EVERY_MS, undefined, { signal });
    } catch (cause) {
      throw new Fault("unavailable", "no outcome", { cause, advice: `process ${pid} did not say what came of it; its log does` });
    }
  }
}

function outcomeAt(data: string): ReloadOutcome | undefined {
  const text = textAt(join(data, FILES.outcome));
  return text === undefined ? undefined : outcomeSchema.safeParse(JSON.parse(text)).data;
}

function textAt(path: string): string | undefined {
  try {
    return readFileSync(path, "utf8");
  } catch {
    return undefined;
  }
}
