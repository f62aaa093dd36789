/** The health listener: whether the process lives, whether it can do its work and what of it is missing, and what it counts. It takes no orders. */
import { createServer, get, type IncomingMessage, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import { Fault } from "../mime/fault.ts";
import type { Running } from "./lifecycle.ts";
import { reasonOf, type Log } from "./log.ts";
import type { Metrics } from "./metrics.ts";

/** Something that the process cannot work without, as it is now. */
export interface Dependency {
  /** From a closed list; it is a label of a metric. */
  readonly name: string;
  /** Which one of several: a mailbox. */
  readonly of?: string;
  readonly ready: boolean;
  /** What is known of it; where it is not ready, why, and what to do. */
  readonly reason: string;
}

export interface Readiness {
  readonly ready: boolean;
  readonly at: string;
  readonly dependencies: readonly Dependency[];
}

/** Looks at everything, each thing within this time. */
const LONGEST_LOOK_MS = 5_000;
/** Whoever asks more often gets the last answer. */
const FRESH_MS = 500;

/** Looks at a dependency. @throws whatever is wrong with it: its words become the reason */
export interface Check {
  readonly name: string;
  look(signal: AbortSignal): Promise<readonly Omit<Dependency, "name">[] | string>;
}

/** All dependencies of a process. */
export class Health {
  readonly #checks: readonly Check[];
  readonly #now: () => Date;
  #last: { readonly at: number; readonly readiness: Promise<Readiness> } | undefined;

  constructor(checks: readonly Check[], now: () => Date) {
    this.#checks = checks;
    this.#now = now;
  }

  readiness(): Promise<Readiness> {
    const at = performance.now();
    if (this.#last && at - this.#last.at < FRESH_MS) return this.#last.readiness;
    const readiness = this.#look();
    this.#last = { at, readiness };
    return readiness;
  }

  async #look(): Promise<Readiness> {
    const found = await Promise.all(this.#checks.map((check) => looked(check)));
    const dependencies = found.flat();
    return { ready: dependencies.every(({ ready }) => ready), at: this.#now().toISOString(), dependencies };
  }
}

async function looked({ name, look }: Check): Promise<Dependency[]> {
  const late = AbortSignal.timeout(LONGEST_LOOK_MS);
  try {
    const found = await Promise.race([look(late), aborted(late)]);
    if (typeof found === "string") return [{ name, ready: true, reason: found }];
    return found.map((one) => ({ name, ...one }));
  } catch (thrown) {
    return [{ name, ready: false, reason: Fault.from(thrown).advice ?? reasonOf(thrown) }];
  }
}

function aborted(signal: AbortSignal): Promise<never> {
  return new Promise((_resolve, reject) => {
    signal.addEventListener("abort", () => reject(new Fault("unavailable", `no answer within ${LONGEST_LOOK_MS} ms`)), { once: true });
  });
}

/** By dependency whether all of its kind are ready, for a gauge. */
export function readings({ dependencies }: Readiness): { labels: { dependency: string }; value: number }[] {
  const names = [...new Set(dependencies.map(({ name }) => name))];
  return names.map((dependency) => ({
    labels: { dependency },
    value: dependencies.every(({ name, ready }) => name !== dependency || ready) ? 1 : 0,
  }));
}

export interface HealthPlace {
  readonly listen: { readonly host: string; readonly port: number };
}

const JSON_TYPE = "application/json";
const CONNECTIONS = 64;
const REQUEST_MS = 10_000;

/** Listens, in plain HTTP: what it tells is no secret, and nothing can be ordered there. */
export async function startHealth(
  { listen }: HealthPlace,
  { health, metrics, log }: { health: Health; metrics: Metrics; log: Log },
): Promise<Running & { readonly port: number }> {
  const answer = async ({ method, url = "" }: IncomingMessage, response: ServerResponse): Promise<void> => {
    const say = (status: number, type: string, body: string): void => {
      response.writeHead(status, { "content-type": type, "cache-control": "no-store" });
      response.end(method === "HEAD" ? undefined : body);
    };
    if (method !== "GET" && method !== "HEAD") return say(405, "text/plain", "GET only\n");
    const { pathname, searchParams } = new URL(url, "http://health");
    if (pathname === "/livez") return say(200, JSON_TYPE, `${JSON.stringify({ alive: true })}\n`);
    if (pathname === "/readyz") {
      const readiness = await health.readiness();
      const only = searchParams.get("dependency");
      const dependencies = readiness.dependencies.filter(({ name }) => only === null || name === only);
      const ready = dependencies.every((one) => one.ready);
      return say(ready ? 200 : 503, JSON_TYPE, `${JSON.stringify({ ...readiness, ready, dependencies }, null, 1)}\n`);
    }
    if (pathname === "/metrics") return say(200, metrics.contentType, await metrics.text());
    say(404, "text/plain", "/livez, /readyz or /metrics\n");
  };
  const server = createServer({ requestTimeout: REQUEST_MS, headersTimeout: REQUEST_MS }, (request, response) => {
    answer(request, response).catch((thrown: unknown) => {
      log.error({ event: "health.failed", reason: reasonOf(thrown) });
      response.destroy();
    });
  });
  server.maxConnections = CONNECTIONS;
  await new Promise<void>((resolve, reject) => {
    server.once("error", reject);
    server.listen(listen.port, listen.host, resolve);
  });
  const { port } = server.address() as AddressInfo;
  log.info({ event: "health.listening", port });
  return {
    port,
    stop: () =>
      new Promise<void>((resolve) => {
        server.close(() => resolve());
        server.closeAllConnections();
      }),
  };
}

/** Everywhere means here too. */
const EVERYWHERE: Readonly<Record<string, string>> = { "0.0.0.0": "127.0.0.1", "::": "::1" };

/** Asks a running process. @throws Fault `unavailable`: nobody answers there */
export function askReadiness({ listen: { host, port } }: HealthPlace, signal: AbortSignal): Promise<Readiness> {
  return new Promise((resolve, reject) => {
    const refuse = (cause: unknown): void =>
      reject(new Fault("unavailable", `nobody answers at ${host}:${port}`, { cause, advice: `nobody answers at ${host}:${port}` }));
    const request = get({ host: EVERYWHERE[host] ?? host, port, path: "/readyz", signal, agent: false }, (response) => {
      let text = "";
      response.setEncoding("utf8").on("data", (chunk: string) => (text += chunk));
      response.on("error", refuse).on("end", () => {
        try {
          resolve(JSON.parse(text) as Readiness);
        } catch (cause) {
          refuse(cause);
        }
      });
    });
    request.on("error", refuse);
  });
}
