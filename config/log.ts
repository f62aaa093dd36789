/** The log: one JSON line an event (pino). Keys, bodies and whole tickets have no way into it; errors show their words and causes only. */
import { hash } from "node:crypto";
import { types } from "node:util";
import { pino, type DestinationStream, type Logger } from "pino";
import { Fault } from "../mime/fault.ts";

/** What may stand in a log line: named facts, each short. `step` is the patent's step (S1-S11) that the line reports. */
export type Facts = Readonly<Record<string, string | number | boolean | undefined>> & { readonly event: string };

export interface Log {
  info(facts: Facts): void;
  warn(facts: Facts): void;
  error(facts: Facts): void;
  /** A log whose every line carries these facts. */
  with(facts: Readonly<Record<string, string>>): Log;
}

/** @param destination a stream for the lines; standard output unless given */
export function createLog(destination: DestinationStream = standardOutput()): Log {
  const options = { base: null, timestamp: pino.stdTimeFunctions.isoTime, formatters: { level: (label: string) => ({ level: label }) } };
  return wrap(pino(options, destination));
}

let output: (DestinationStream & { flush(): void }) | undefined;

/** The lines of one turn of the event loop go out in one write: a write to a pipe costs more than a line. */
function standardOutput(): DestinationStream {
  if (output) return output;
  const destination = pino.destination({ fd: 1, sync: true });
  let lines = "";
  const flush = (): void => {
    if (lines !== "") destination.write(lines);
    lines = "";
  };
  process.on("exit", flush);
  output = {
    flush,
    write(line) {
      if (lines === "") setImmediate(flush);
      lines += line;
    },
  };
  return output;
}

/** Lets out what waits for the end of this turn of the event loop. */
export function flushLog(): void {
  output?.flush();
}

/** A log that also tells somebody of every line: what is counted is what is written, and no step of a walk needs a second word for it. */
export function overheard(log: Log, hear: (facts: Facts) => void): Log {
  const also = (write: (facts: Facts) => void) => (facts: Facts) => {
    write(facts);
    hear(facts);
  };
  return { info: also(log.info), warn: also(log.warn), error: also(log.error), with: (facts) => overheard(log.with(facts), hear) };
}

/** @param common stands in every line; a child of the library's would cost more to make than the few lines that most have */
function wrap(logger: Logger, common: Readonly<Record<string, string>> = {}): Log {
  return {
    info: (facts) => logger.info({ ...common, ...facts }),
    warn: (facts) => logger.warn({ ...common, ...facts }),
    error: (facts) => logger.error({ ...common, ...facts }),
    with: (facts) => wrap(logger, { ...common, ...facts }),
  };
}

/** Octets in hex by which a log names a letter. */
const LETTER_DIGITS = 16;

/**
 * Names a letter in every log line about it, at both gateways and at the broker, under `letter`: what everyone who has the mail can
 * compute from its Message-ID, and nobody needs to keep secret. A recipient's copy has a name of its own beside it, `session`.
 */
export function letterOf(messageId: string): string {
  return hash("sha256", messageId.trim()).slice(0, LETTER_DIGITS);
}

/** The chain of words in a failure, outermost first: for the log of this side only. */
export function reasonOf(thrown: unknown): string {
  const words: string[] = [];
  for (let at: unknown = thrown; types.isNativeError(at) && words.length < 6; at = at.cause) {
    const several = at instanceof AggregateError || "errors" in at ? Reflect.get(at, "errors") : undefined; // a connection tried in several ways
    const text = Array.isArray(several)
      ? several.map((one) => (types.isNativeError(one) ? one.message : String(one))).join(", ")
      : at.message;
    words.push(at instanceof Fault ? `${at.code}: ${at.message}` : text);
  }
  return (words.length === 0 ? String(thrown) : words.join(" < ")).slice(0, 500);
}
