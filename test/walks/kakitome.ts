/** Runs the built command as a stranger would: one-off commands, and long-running ones whose log lines can be waited for. */
import { spawn, spawnSync } from "node:child_process";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { killAtExit, spareAtExit } from "../servers/guard.ts";

/** The built command. */
export const COMMAND = join(import.meta.dirname, "..", "..", "dist", "cli", "main.js");
const LONGEST_WAIT_MS = 30_000;

export type LogLine = Readonly<Record<string, unknown>> & { readonly event?: string };

export interface Outcome {
  readonly status: number | null;
  readonly stdout: string;
  readonly stderr: string;
}

/** Runs a command to its end. */
export function kakitome(args: readonly string[], input = ""): Outcome {
  const { status, stdout, stderr } = spawnSync(process.execPath, [COMMAND, ...args], { encoding: "utf8", input });
  return { status, stdout, stderr };
}

/** Runs a command that must succeed. @returns what it printed */
export function must(args: readonly string[], input = ""): string {
  const { status, stdout, stderr } = kakitome(args, input);
  if (status !== 0) throw new Error(`kakitome ${args.join(" ")} exited ${status}: ${stderr}${stdout}`);
  return stdout;
}

export interface Process {
  readonly pid: number;
  readonly lines: readonly LogLine[];
  /** Everything it wrote, as text. */
  text(): string;
  /** The first line, past or future, that fits; each is looked at once. @param within milliseconds */
  until(what: string, fits: (line: LogLine) => boolean, within?: number): Promise<LogLine>;
  /** Sends a signal and waits for nothing. */
  signal(name: NodeJS.Signals): void;
  /** Its exit code once it has ended; null where a signal ended it. */
  readonly ended: Promise<number | null>;
  /** Stops it by a signal. @returns its exit code */
  stop(signal?: NodeJS.Signals): Promise<number | null>;
}

/** Starts a long-running command. @param environment added to that of the test process */
export function startKakitome(args: readonly string[], environment: Readonly<Record<string, string>> = {}): Process {
  return startNode([COMMAND, ...args], environment);
}

/** Starts Node.js with these arguments. @param environment added to that of the test process */
export function startNode(args: readonly string[], environment: Readonly<Record<string, string>> = {}): Process {
  const env = { ...process.env, ...environment };
  const child = spawn(process.execPath, args, { stdio: ["ignore", "pipe", "pipe"], detached: true, env });
  const group = child.pid ?? 0;
  killAtExit(group);
  const lines: LogLine[] = [];
  const raw: string[] = [];
  const waiting = new Set<() => void>();
  const ended = new Promise<number | null>((resolve) => child.once("close", resolve)); // not before its last words were read
  void ended.then(() => spareAtExit(group));
  const wake = (): void => {
    for (const look of waiting) look();
  };
  createInterface({ input: child.stdout }).on("line", (line) => {
    raw.push(line);
    if (line.startsWith("{")) lines.push(JSON.parse(line) as LogLine);
    wake();
  });
  createInterface({ input: child.stderr }).on("line", (line) => raw.push(line));
  child.once("exit", wake);
  return {
    pid: group,
    lines,
    ended,
    text: () => raw.join("\n"),
    until(what, fits, within = LONGEST_WAIT_MS) {
      let looked = 0;
      return new Promise((resolve, reject) => {
        const finish = (): void => {
          clearTimeout(timer);
          waiting.delete(look);
        };
        const look = (): void => {
          const news = lines.slice(looked);
          looked = lines.length;
          const line = news.find(fits);
          if (line) resolve(line);
          else if (child.exitCode !== null || child.signalCode !== null)
            reject(new Error(`ended before ${what}:\n${raw.slice(-20).join("\n")}`));
          else return;
          finish();
        };
        const timer = setTimeout(() => {
          finish();
          reject(new Error(`no ${what} within ${within} ms:\n${raw.slice(-20).join("\n")}`));
        }, within);
        waiting.add(look);
        look();
      });
    },
    signal: (name) => void child.kill(name),
    async stop(signal = "SIGTERM") {
      if (child.exitCode === null && child.signalCode === null) child.kill(signal);
      return ended;
    },
  };
}
