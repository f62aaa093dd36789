/** The connection to Redis: asks, gives up soon, never asks twice by itself, and says everything that goes wrong as a Fault. */
import { readFileSync } from "node:fs";
import { Redis } from "ioredis";
import { haltAt } from "../config/halt.ts";
import { Fault } from "../mime/fault.ts";

const FUNCTIONS = readFileSync(new URL("./table.lua", import.meta.url), "utf8");
const LIBRARY = "kakitome_v1";

/** Milliseconds until an unanswered command counts as failed. */
const ANSWER_WITHIN = 2_000;
const CONNECT_WITHIN = 5_000;
const RECONNECT_STEP = 50;
const RECONNECT_AT_MOST = 1_000;

/** What a Redis needs so that an acknowledged step survives kill -9 and no row is ever evicted. */
const DURABLE = { appendonly: "yes", appendfsync: "always", "maxmemory-policy": "noeviction" } as const;

export type Argument = string | number | Buffer;

export class RedisLink {
  readonly #redis: Redis;
  #connected = false;
  #lastError: unknown;
  #loading: Promise<void> | undefined;
  #closing: Promise<void> | undefined;

  constructor(url: string) {
    this.#redis = new Redis(url, {
      lazyConnect: true,
      connectTimeout: CONNECT_WITHIN,
      commandTimeout: ANSWER_WITHIN,
      // A queue would carry out later what the caller has already given up on.
      enableOfflineQueue: false,
      autoResendUnfulfilledCommands: false,
      maxRetriesPerRequest: 0,
      retryStrategy: (times) => (this.#connected ? Math.min(times * RECONNECT_STEP, RECONNECT_AT_MOST) : null),
    });
    this.#redis.once("ready", () => (this.#connected = true));
    // Every command rejects by itself; the event only tells why the connection failed.
    this.#redis.on("error", (error: unknown) => (this.#lastError = error));
  }

  /** Connects the first time, in one attempt; from then on it reconnects by itself. @throws Fault `unavailable` */
  async connect(): Promise<void> {
    try {
      await this.#redis.connect();
    } catch (cause) {
      throw silence(this.#lastError ?? cause);
    }
  }

  /** One exchange with Redis. @throws Fault `unavailable`, or `internal` when Redis found the data broken. */
  async ask<T>(exchange: (redis: Redis) => Promise<T>): Promise<T> {
    try {
      return await exchange(this.#redis);
    } catch (cause) {
      throw faultOf(cause);
    }
  }

  /** Calls one of our functions; loads them first where Redis has lost them. */
  async call(name: string, keys: readonly string[], args: readonly Argument[]): Promise<unknown> {
    const call = async (redis: Redis): Promise<unknown> => {
      haltAt("k1");
      const answer = redis.callBuffer("FCALL", `${LIBRARY}_${name}`, keys.length, ...keys, ...args);
      haltAt("k2");
      await answer;
      haltAt("k3");
      return answer;
    };
    return this.ask(async (redis) => {
      try {
        return await call(redis);
      } catch (cause) {
        if (!(cause instanceof Error && cause.message.includes("Function not found"))) throw cause;
      }
      await this.#load();
      return call(redis);
    });
  }

  /** @throws Fault `unavailable`: no answer, a setting under which steps can be lost, or functions that do not load. */
  async ready(): Promise<void> {
    await this.ask((redis) => redis.ping());
    const settings = await this.#settings();
    const wrong = Object.entries(DURABLE).filter(([name, needed]) => settings.get(name) !== needed);
    if (wrong.length > 0) {
      const found = wrong.map(([name, needed]) => `${name} is ${settings.get(name) ?? "unknown"} and must be ${needed}`).join(", ");
      const mend = wrong.map(([name, needed]) => `"${name} ${needed}"`).join(", ");
      throw new Fault("unavailable", `Redis may lose what it acknowledged: ${found}`, {
        advice: `Put ${mend} into redis.conf and restart Redis.`,
      });
    }
    await this.#load();
  }

  close(): Promise<void> {
    this.#closing ??= this.#close();
    return this.#closing;
  }

  async #close(): Promise<void> {
    try {
      await this.#redis.quit(); // After the answers to what was asked before.
    } catch {
      this.#redis.disconnect();
    }
  }

  async #settings(): Promise<ReadonlyMap<string, string>> {
    try {
      const flat = (await this.#redis.call("CONFIG", "GET", ...Object.keys(DURABLE))) as string[];
      return new Map(flat.flatMap((name, at) => (at % 2 === 0 ? [[name, flat[at + 1] ?? ""]] : [])));
    } catch (cause) {
      if (!isReply(cause)) throw silence(cause);
      throw new Fault("unavailable", "Redis does not tell its settings (CONFIG GET), so that what it acknowledges may be lost", {
        cause,
        advice: 'Allow the broker\'s Redis user "+config|get".',
      });
    }
  }

  /** Once for all calls that miss the functions at the same time. */
  async #load(): Promise<void> {
    this.#loading ??= this.#redis.function("LOAD", "REPLACE", FUNCTIONS).then(() => undefined);
    try {
      await this.#loading;
    } catch (cause) {
      if (!isReply(cause)) throw silence(cause);
      throw new Fault("unavailable", "Redis does not take the session table's functions (FUNCTION LOAD)", {
        cause,
        advice: 'Use Redis 7.0 or newer, its primary, and allow the broker\'s Redis user "+function|load +fcall".',
      });
    } finally {
      this.#loading = undefined;
    }
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
