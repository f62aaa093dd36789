/** Child processes of a test: started, awaited until ready, stopped, and never left behind. */

import { spawn, type ChildProcessByStdio } from "node:child_process";
import { EventEmitter, on, once } from "node:events";
import { readdirSync, readFileSync } from "node:fs";
import { chmod, mkdtemp } from "node:fs/promises";
import { connect, type Socket } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { Readable } from "node:stream";
import { setTimeout as pause } from "node:timers/promises";
import { killAtExit, removeAtExit, spareAtExit } from "./guard.ts";

export interface Running {
  readonly pid: number;
  /** What it has written so far, standard output and error together. */
  output(): string;
  /** SIGTERM, then SIGKILL, to it and its children; resolves when all of them are gone. */
  stop(): Promise<void>;
  /** SIGKILL to it and its children at once; resolves when all of them are gone. */
  crash(): Promise<void>;
  /** Send a signal to the process itself, not to its children. */
  kill(signal: NodeJS.Signals): void;
}

/** What shows that a program can be used. */
export type Readiness =
  | { readonly line: RegExp } // its output matches
  | { readonly ports: readonly number[]; readonly greeting?: RegExp }; // each port accepts, and says this first

export interface Program {
  readonly command: string;
  readonly args: readonly string[];
  readonly ready: Readiness;
  /** Its working folder; that of the test process when left out. */
  readonly folder?: string;
  /** Added to the environment of the test process. */
  readonly environment?: Readonly<Record<string, string>>;
}

const READY_WITHIN = 30_000; // milliseconds, as below
const STOP_WITHIN = 10_000;
const BETWEEN_TRIES = 10;

/** A new folder, removed when the test process ends. One that another user must enter is "shared". */
export async function temporaryFolder(name: string, access: "private" | "shared" = "private"): Promise<string> {
  const folder = await mkdtemp(join(tmpdir(), `kakitome-${name}-`));
  removeAtExit(folder);
  await chmod(folder, access === "shared" ? 0o755 : 0o700);
  return folder;
}

/**
 * Start a program and wait until it is ready.
 * @throws Error: not found, ended early, or not ready in time; with its output, and with nothing left running.
 */
export async function start(program: Program): Promise<Running> {
  const child = spawn(program.command, program.args, {
    cwd: program.folder,
    env: { ...process.env, ...program.environment },
    detached: true, // A process group of its own, so that its children can be ended with it.
    stdio: ["ignore", "pipe", "pipe"],
  });
  const running = new Child(child);
  await once(child, "spawn");
  killAtExit(running.pid);
  try {
    await running.ready(program.ready);
  } catch (cause) {
    await running.stop();
    throw new Error(`${program.command} did not become ready:\n${running.output()}`, { cause });
  }
  return running;
}

class Child implements Running {
  readonly #child: ChildProcessByStdio<null, Readable, Readable>;
  readonly #ended = new AbortController();
  readonly #closed: Promise<void>;
  readonly #news = new EventEmitter();
  #output = "";
  #stopping: Promise<void> | undefined;

  constructor(child: ChildProcessByStdio<null, Readable, Readable>) {
    this.#child = child;
    for (const stream of [child.stdout, child.stderr]) {
      stream.setEncoding("utf8").on("data", (text: string) => {
        this.#output += text;
        this.#news.emit("output");
      });
    }
    child.once("exit", () => this.#ended.abort(new Error("it ended")));
    this.#closed = new Promise((resolve) => child.once("close", () => resolve()));
  }

  /** Known once the child has emitted "spawn". */
  get pid(): number {
    return this.#child.pid as number;
  }

  output(): string {
    return this.#output;
  }

  kill(signal: NodeJS.Signals): void {
    this.#child.kill(signal);
  }

  crash(): Promise<void> {
    signalGroup(this.pid, "SIGKILL");
    return this.stop();
  }

  stop(): Promise<void> {
    this.#stopping ??= this.#stop();
    return this.#stopping;
  }

  async ready(readiness: Readiness): Promise<void> {
    const signal = AbortSignal.any([this.#ended.signal, AbortSignal.timeout(READY_WITHIN)]);
    if ("line" in readiness) {
      while (!readiness.line.test(this.#output)) await once(this.#news, "output", { signal });
    } else {
      for (const port of readiness.ports) await answers(port, readiness.greeting, signal);
    }
    this.#hold("unref"); // From here on it does not keep the test process alive; the guard ends it.
  }

  async #stop(): Promise<void> {
    this.#hold("ref");
    signalGroup(this.pid, "SIGTERM");
    const patience = setTimeout(() => signalGroup(this.pid, "SIGKILL"), STOP_WITHIN);
    if (!this.#ended.signal.aborted) await once(this.#ended.signal, "abort");
    clearTimeout(patience);
    signalGroup(this.pid, "SIGKILL"); // What has outlived its leader.
    while (groupLives(this.pid)) await pause(BETWEEN_TRIES);
    spareAtExit(this.pid);
    await this.#closed; // The last words.
  }

  #hold(how: "ref" | "unref"): void {
    this.#child[how]();
    for (const stream of [this.#child.stdout, this.#child.stderr]) (stream as Socket)[how]();
  }
}

/** Resolves when the port accepts a connection and, where one is expected, says its greeting. */
async function answers(port: number, greeting: RegExp | undefined, signal: AbortSignal): Promise<void> {
  for (;;) {
    signal.throwIfAborted();
    const socket = connect(port, "127.0.0.1").setEncoding("utf8");
    try {
      await once(socket, "connect", { signal });
      if (greeting === undefined || (await greets(socket, greeting, signal))) return;
    } catch (cause) {
      const { code } = cause as NodeJS.ErrnoException;
      if (code !== "ECONNREFUSED" && code !== "ECONNRESET") throw cause;
    } finally {
      socket.destroy();
    }
    await pause(BETWEEN_TRIES, undefined, { signal });
  }
}

async function greets(socket: Socket, greeting: RegExp, signal: AbortSignal): Promise<boolean> {
  let heard = "";
  for await (const [text] of on(socket, "data", { signal, close: ["end", "close"] })) {
    heard += text;
    if (greeting.test(heard)) return true;
  }
  return false;
}

function signalGroup(group: number, signal: NodeJS.Signals | 0): boolean {
  try {
    return process.kill(-group, signal);
  } catch (cause) {
    if ((cause as NodeJS.ErrnoException).code === "ESRCH") return false;
    throw cause;
  }
}

/** Whether a process of the group still runs. One that has ended but waits for its parent (a zombie) does not. */
function groupLives(group: number): boolean {
  return signalGroup(group, 0) && readdirSync("/proc").some((pid) => /^\d+$/.test(pid) && runsInGroup(pid, group));
}

function runsInGroup(pid: string, group: number): boolean {
  try {
    const stat = readFileSync(`/proc/${pid}/stat`, "utf8");
    const [state, , itsGroup] = stat.slice(stat.lastIndexOf(")") + 2).split(" "); // proc(5): pid (command) state ppid pgrp ...
    return Number(itsGroup) === group && state !== "Z" && state !== "X";
  } catch {
    return false; // It ended while we looked.
  }
}
