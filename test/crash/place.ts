/** The whole system on real servers where each part can be killed by SIGKILL and started again, or made to halt at a named point. */
import { readFileSync, writeFileSync } from "node:fs";
import { setTimeout as pause } from "node:timers/promises";
import { parse, stringify } from "yaml";
import { startProxy } from "../servers/proxy.ts";
import { startKakitome, type LogLine, type Process } from "../walks/kakitome.ts";
import { BOB, CAROL, DAVE, startPlace, type Place } from "../walks/place.ts";

/** Something that can be killed. */
export interface Part {
  readonly name: "A" | "B" | "C" | "Redis" | "Dovecot" | "worker of A" | "worker of B";
  kill(): Promise<void>;
  /** Starts it after it was killed. */
  start(): Promise<void>;
}

/** One of our own processes. */
export interface Program extends Part {
  readonly process: Process;
  /** Every process of it since the place was there, the dead ones too. */
  readonly lives: readonly Process[];
  /** Starts it after it was killed. @param environment added to that of the test process */
  start(environment?: Readonly<Record<string, string>>): Promise<void>;
  /** Kills it and starts it so that it halts there. @param halt a named point, such as `a6` or `k1@3` */
  arm(halt: string): Promise<void>;
  /** The process has said that it stands at its point. */
  halted(): Promise<LogLine>;
}

export interface CrashPlace extends Place {
  readonly parts: { readonly a: Program; readonly b: Program; readonly c: Program; readonly redis: Part; readonly dovecot: Part };
  /** Called with each reply of the broker's next hop; what it returns the broker gets. */
  onRelayReply(rewrite: (text: string) => string): void;
}

export const RECIPIENTS = [BOB, CAROL, DAVE] as const;

const FAST = { retry: { first: "200ms", longest: "1s" } };

/** Starts everything, with retries so short that a crash heals within a second. @param workers of each gateway */
export async function startCrashPlace(workers = 1): Promise<CrashPlace> {
  const postfix = { minimal_backoff_time: "1s", maximal_backoff_time: "1s", queue_run_delay: "1s" };
  const place = await startPlace({ a: { ...FAST, workers }, b: { ...FAST, workers }, recipients: RECIPIENTS, postfix });
  let rewrite = (text: string): string => text;
  const proxy = await startProxy(place.postfix.port, (text) => rewrite(text));
  amend(place.broker.config, (file) => {
    Object.assign(file["receipts"] as object, { retryFirst: "200ms", retryLongest: "1s" });
    Object.assign((file["receipts"] as { relay: object }).relay, { port: proxy.port });
  });
  await place.broker.restart();
  return {
    ...place,
    parts: {
      a: program("A", place.a, ["gateway", "run"], "gateway.started"),
      b: program("B", place.b, ["gateway", "run"], "gateway.started"),
      c: program("C", place.broker, ["broker", "run"], "broker.started"),
      redis: { name: "Redis", kill: () => place.redis.kill(), start: () => place.redis.restart() },
      dovecot: { name: "Dovecot", kill: () => place.dovecot.kill(), start: () => place.dovecot.restart() },
    },
    onRelayReply: (wanted) => void (rewrite = wanted),
    async stop() {
      await place.stop();
      await proxy.close();
    },
  };
}

/** Any worker of a gateway, now and again another one; its primary starts it again. */
export function workerOf(name: Part["name"], gateway: { readonly process: Process }, which: () => number): Part {
  return {
    name,
    async kill() {
      const started = gateway.process.lines.filter(({ event }) => event === "worker.started");
      const pids = [...new Map(started.map((line) => [line["worker"], Number(line["pid"])])).values()];
      try {
        process.kill(pids[which() % pids.length] ?? 0, "SIGKILL");
      } catch (thrown) {
        if ((thrown as NodeJS.ErrnoException).code !== "ESRCH") throw thrown; // it was killed just before
      }
    },
    start: async () => undefined,
  };
}

/** Changes a configuration file. */
export function amend(path: string, change: (file: Record<string, unknown>) => void): void {
  const file = parse(readFileSync(path, "utf8")) as Record<string, unknown>;
  change(file);
  writeFileSync(path, stringify(file));
}

const standsStill = (pid: number): boolean => /^State:\s+T/mu.test(readFileSync(`/proc/${pid}/status`, "utf8"));

function program(name: Program["name"], home: { readonly config: string; process: Process }, command: string[], started: string): Program {
  const lives = [home.process];
  const run = async (environment: Readonly<Record<string, string>>): Promise<void> => {
    for (;;) {
      const process = startKakitome([...command, "--config", home.config], environment);
      home.process = process;
      lives.push(process);
      try {
        await process.until(started, ({ event }) => event === started || event === "halted"); // some points come before
        return;
      } catch (thrown) {
        if (!process.text().includes("EADDRINUSE")) throw thrown; // while it was dead, a passing connection got its port
        await pause(200);
      }
    }
  };
  const kill = async (): Promise<void> => void (await home.process.stop("SIGKILL"));
  return {
    name,
    lives,
    get process() {
      return home.process;
    },
    kill,
    start: (environment = {}) => run(environment),
    async arm(halt) {
      await kill();
      await run({ KAKITOME_HALT: halt });
    },
    async halted() {
      const line = await home.process.until("halt", ({ event }) => event === "halted");
      while (!standsStill(home.process.pid)) await pause(1); // it says so just before; a SIGCONT in between would be lost
      return line;
    },
  };
}
