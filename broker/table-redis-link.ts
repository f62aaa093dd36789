/** The connection to Redis: asks, gives up soon, never asks twice by itself, trusts only a Redis that cannot lose a step, and says what goes wrong as a Fault. */
import { readFileSync } from "node:fs";
import { Redis, type ChainableCommander } from "ioredis";
import { haltAt } from "../config/halt.ts";
import { Fault } from "../mime/fault.ts";
import { connectionTo, mastersOf, type Client, type RedisAddress } from "./table-redis-address.ts";

const LIBRARY = "kakitome_v6";
const PARTS = ["table-chain.lua", "table.lua", "table-after.lua"].map((name) =>
  readFileSync(new URL(`./${name}`, import.meta.url), "utf8"),
);
const FUNCTIONS = [`#!lua name=${LIBRARY}`, ...PARTS].join("\n");

/** Milliseconds until a connection that the library gave up is made anew. */
const REVIVE_AFTER = 200;

/** Milliseconds that a replica has to confirm a step. */
const REPLICATED_WITHIN = 200;

/** What a Redis needs so that an acknowledged step survives kill -9 and no row is ever evicted. */
const DURABLE = { appendonly: "yes", appendfsync: "always", "maxmemory-policy": "noeviction" } as const;

/** The library has it, and only its types do not. */
interface Commander extends ChainableCommander {
  fcallBuffer(name: string, keys: number, ...rest: readonly Argument[]): ChainableCommander;
}
type Command = (commander: Commander) => ChainableCommander;
/** What failed, or what the command was answered with, and what WAIT was. */
type Answers = readonly [failure: unknown, answer: unknown, confirmed?: readonly [failure: Error | null, count: unknown] | undefined];

export type Argument = string | number | Buffer;

export interface LinkOptions {
  readonly address: RedisAddress;
  /** How many replicas must have a step before it counts as done. */
  readonly replicas: number;
  /** Asked of every Redis that a connection leads to, before anything else. @throws Fault */
  trust(redis: Redis): Promise<void>;
}

export class RedisLink {
  readonly #options: LinkOptions;
  readonly #client: Client;
  readonly #redis: Redis;
  #connected = false;
  #lastError: unknown;
  #fit: Promise<void> | undefined;
  #closing: Promise<void> | undefined;

  constructor(options: LinkOptions) {
    this.#options = options;
    this.#client = connectionTo(options.address, () => this.#connected);
    this.#redis = this.#client as Redis; // a Cluster has the same commands
    this.#client.once("ready", () => (this.#connected = true));
    for (const event of ["ready", "+node", "-node", "close"]) this.#client.on(event, () => (this.#fit = undefined)); // it may be another Redis
    this.#client.on("end", () => this.#revive());
    // Every command rejects by itself; the event only tells why the connection failed.
    this.#client.on("error", (error: unknown) => (this.#lastError = error));
  }

  /** Connects the first time, in one attempt; from then on it reconnects by itself. @throws Fault `unavailable` */
  async connect(): Promise<void> {
    // A cluster's client that needs a second attempt says only by its events whether it came to be ready.
    const outcome = new Promise<void>((resolve, reject) => {
      this.#client.once("ready", resolve);
      this.#client.once("end", () => reject(new Error("the connection ended")));
    });
    try {
      await Promise.race([this.#client.connect(), outcome]);
    } catch (cause) {
      this.#client.disconnect();
      throw silence(this.#lastError ?? cause);
    }
  }

  /** The library gives up for good where a failover comes in the midst of its connecting; we do not. */
  #revive(): void {
    if (!this.#connected || this.#closing) return;
    setTimeout(() => {
      if (!this.#closing && this.#client.status === "end") this.#client.connect().catch((cause: unknown) => (this.#lastError = cause));
    }, REVIVE_AFTER).unref();
  }

  /** One exchange with Redis that changes nothing. @throws Fault `unavailable`, or `internal` when Redis found the data broken. */
  async ask<T>(exchange: (redis: Redis) => Promise<T>): Promise<T> {
    await this.#trusted();
    try {
      return await exchange(this.#redis);
    } catch (cause) {
      throw faultOf(cause);
    }
  }

  /** One command that changes something; when it resolves, it is on the disk and on as many replicas as wanted. @throws as `ask` */
  async write<T>(command: Command): Promise<T> {
    await this.#trusted();
    const { replicas } = this.#options;
    haltAt("k1");
    const answers = replicas > 0 ? this.#replicated(command, replicas) : this.#alone(command);
    haltAt("k2");
    const [failure, answer, confirmed] = await answers;
    haltAt("k3");
    if (failure) throw faultOf(failure);
    const count = confirmed?.[0] ? 0 : Number(confirmed?.[1] ?? 0);
    if (count < replicas)
      throw new Fault("unavailable", `only ${count} of ${replicas} replicas confirmed a step`, { cause: confirmed?.[0] });
    return answer as T;
  }

  /**
   * At once, without waiting for what else is asked in this turn of the event loop: Redis works on the first while this process works on
   * the next. Gathered into one write, sixty-four steps would wait for each other, and the broker for Redis.
   */
  async #alone(command: Command): Promise<Answers> {
    try {
      const answer: unknown = command(this.#redis as unknown as Commander); // it has the same commands
      return [undefined, await answer];
    } catch (cause) {
      return [cause, undefined];
    }
  }

  async #replicated(command: Command, replicas: number): Promise<Answers> {
    try {
      const pipeline = command(this.#redis.pipeline() as Commander).call("WAIT", replicas, REPLICATED_WITHIN);
      const [answer, confirmed] = (await pipeline.exec()) ?? [];
      return [answer ? answer[0] : new Error("no answer"), answer?.[1], confirmed];
    } catch (cause) {
      return [cause, undefined];
    }
  }

  /** Calls one of our functions; loads them first where Redis has lost them. @returns its newest audit entry, or "", and its answer */
  async call(name: string, keys: readonly string[], args: readonly Argument[]): Promise<{ head: string; answer: unknown }> {
    const call = async () => {
      const [head, answer] = await this.write<[Buffer, unknown]>((pipeline) =>
        pipeline.fcallBuffer(`${LIBRARY}_${name}`, keys.length, ...keys, ...args),
      );
      return { head: head.toString(), answer };
    };
    try {
      return await call();
    } catch (thrown) {
      if (!(thrown instanceof Fault && isReply(thrown.cause) && thrown.cause.message.includes("Function not found"))) throw thrown;
    }
    this.#fit = undefined;
    return call();
  }

  /** @throws Fault `unavailable`: no answer, a setting under which steps can be lost, functions that do not load, or what `trust` says. */
  async ready(): Promise<void> {
    this.#fit = undefined;
    await this.#examined();
  }

  /** Writes the append-only file anew without what was deleted; a rewriting that runs already is as good. @throws Fault `unavailable` */
  async rewriteLog(): Promise<void> {
    for (const redis of mastersOf(this.#client)) {
      await redis.bgrewriteaof().catch((cause: unknown) => {
        if (!(isReply(cause) && cause.message.includes("in progress"))) throw faultOf(cause);
      });
    }
  }

  close(): Promise<void> {
    this.#closing ??= this.#close();
    return this.#closing;
  }

  async #close(): Promise<void> {
    try {
      await this.#client.quit(); // After the answers to what was asked before.
    } catch {
      this.#client.disconnect();
    }
  }

  /** What is wrong with Redis is the operator's to read, in the log; whoever asks for a step only learns that it cannot be done now. */
  async #trusted(): Promise<void> {
    try {
      await this.#examined();
    } catch (cause) {
      throw cause instanceof Fault ? new Fault("unavailable", cause.message, { cause }) : cause;
    }
  }

  /** Once for each connection, for all who ask at the same time. */
  async #examined(): Promise<void> {
    const examination = (this.#fit ??= this.#examine());
    try {
      await examination;
    } catch (thrown) {
      if (this.#fit === examination) this.#fit = undefined;
      throw thrown;
    }
  }

  async #examine(): Promise<void> {
    for (const redis of mastersOf(this.#client)) {
      await redis.ping().catch((cause: unknown) => {
        throw silence(cause);
      });
      await demandDurable(redis);
      await load(redis);
    }
    try {
      await this.#options.trust(this.#redis);
    } catch (cause) {
      throw faultOf(cause);
    }
  }
}

async function demandDurable(redis: Redis): Promise<void> {
  const settings = await settingsOf(redis);
  const wrong = Object.entries(DURABLE).filter(([name, needed]) => settings.get(name) !== needed);
  if (wrong.length === 0) return;
  const found = wrong.map(([name, needed]) => `${name} is ${settings.get(name) ?? "unknown"} and must be ${needed}`).join(", ");
  const mend = wrong.map(([name, needed]) => `"${name} ${needed}"`).join(", ");
  throw new Fault("unavailable", `Redis may lose what it acknowledged: ${found}`, {
    advice: `Put ${mend} into redis.conf and restart Redis.`,
  });
}

async function settingsOf(redis: Redis): Promise<ReadonlyMap<string, string>> {
  try {
    const flat = (await redis.call("CONFIG", "GET", ...Object.keys(DURABLE))) as string[];
    return new Map(flat.flatMap((name, at) => (at % 2 === 0 ? [[name, flat[at + 1] ?? ""]] : [])));
  } catch (cause) {
    if (!isReply(cause)) throw silence(cause);
    throw new Fault("unavailable", "Redis does not tell its settings (CONFIG GET), so that what it acknowledges may be lost", {
      cause,
      advice: 'Allow the broker\'s Redis user "+config|get".',
    });
  }
}

async function load(redis: Redis): Promise<void> {
  try {
    await redis.function("LOAD", "REPLACE", FUNCTIONS);
  } catch (cause) {
    if (!isReply(cause)) throw silence(cause);
    throw new Fault("unavailable", "Redis does not take the session table's functions (FUNCTION LOAD)", {
      cause,
      advice: 'Use Redis 7.0 or newer, its primary, and allow the broker\'s Redis user "+function|load +fcall".',
    });
  }
}

function silence(cause: unknown): Fault {
  return new Fault("unavailable", "session table did not answer", { cause });
}

/** An error that Redis itself answered with; its first word says which. */
function isReply(cause: unknown): cause is Error {
  return cause instanceof Error && cause.name === "ReplyError";
}

function faultOf(cause: unknown): Fault {
  if (cause instanceof Fault) return cause;
  // ERR: our function or our command is wrong. BROKEN: what table.lua found in a row. WRONGTYPE: a key that is not ours.
  // Everything else (LOADING, READONLY, OOM, NOAUTH, ...) can be over after a while or after a word with the administrator.
  if (isReply(cause) && /^(ERR|BROKEN|WRONGTYPE) /.test(cause.message)) {
    return new Fault("internal", "session table refused a step", { cause });
  }
  return silence(cause);
}
