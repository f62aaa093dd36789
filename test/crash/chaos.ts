/** Chaos: senders at work while any process is killed at any time; nothing is made to halt, so that the proof does not rest on named points. */
import { lastWords } from "./matrix.ts";
import { setTimeout as pause } from "node:timers/promises";
import { Chance } from "../fuzz/mutate.ts";
import { Ledger, type Finding } from "./ledger.ts";
import { RECIPIENTS, startCrashPlace, workerOf, type Part } from "./place.ts";

export interface ChaosPlan {
  readonly minutes: number;
  /** The same seed kills the same parts after the same pauses, and sends to the same recipients. */
  readonly seed: number;
  /** Mails a second, of all senders together. */
  readonly rate?: number;
  /** Of each gateway; where there are several they are killed, too. */
  readonly workers?: number;
  readonly say: (line: string) => void;
}

export interface Chaos {
  readonly mails: number;
  readonly letters: number;
  readonly answers: Readonly<Record<string, number>>;
  readonly kills: Readonly<Record<string, number>>;
  readonly quietAfterMs: number;
  readonly findings: readonly Finding[];
}

const SENDERS = 8;
/** A backlog may take its time, a letter that is stuck may not. A killed Dovecot may leave locks that the next one believes in for a while. */
const STILL_MS = 200_000;
const FIGURES_EVERY_MS = 60_000;

/** Runs the plan on a place of its own, waits till all is quiet, and judges every mail. */
export async function runChaos({ minutes, seed, rate = 4, workers = 1, say }: ChaosPlan): Promise<Chaos> {
  const place = await startCrashPlace(workers);
  const ledger = new Ledger(place);
  const stop = new AbortController();
  const kills: Record<string, number> = {};
  const figures = (): string => `${JSON.stringify(kills)} kills, ${ledger.accounts.length} mails, ${JSON.stringify(answersOf(ledger))}`;
  const teller = setInterval(() => say(figures()), FIGURES_EVERY_MS);
  try {
    const until = Date.now() + minutes * 60_000;
    const senders = Array.from({ length: SENDERS }, (_none, at) =>
      keepSending(ledger, new Chance(seed + 1 + at), rate / SENDERS, until, stop.signal),
    );
    const sent = Promise.allSettled(senders);
    const chance = new Chance(seed);
    const which = (): number => chance.below(workers);
    const hands = workers > 1 ? [workerOf("worker of A", place.a, which), workerOf("worker of B", place.b, which)] : [];
    await keepKilling([...Object.values(place.parts), ...hands], chance, until, (name) => (kills[name] = (kills[name] ?? 0) + 1));
    const refusals = (await sent).flatMap((one): Finding[] =>
      one.status === "rejected" ? [{ kind: "lost", what: String(one.reason) }] : [],
    );
    const quietFrom = Date.now();
    const findings = [...refusals, ...(await ledger.settleAll(STILL_MS))];
    if (findings.length > 0)
      for (const { process: ours } of [place.a, place.b, place.broker]) process.stdout.write(`${lastWords(ours)}\n\n`);
    const { accounts } = ledger;
    const letters = accounts.reduce((sum, { mail }) => sum + mail.recipients.length, 0);
    return { mails: accounts.length, letters, answers: answersOf(ledger), kills, quietAfterMs: Date.now() - quietFrom, findings };
  } finally {
    clearInterval(teller);
    stop.abort();
    ledger.close();
    await place.stop();
  }
}

async function keepSending(ledger: Ledger, chance: Chance, rate: number, until: number, signal: AbortSignal): Promise<void> {
  for (let next = Date.now() + (chance.next() * 1_000) / rate; next < until; next += 1_000 / rate) {
    await pause(Math.max(next - Date.now(), 0), undefined, { signal });
    if (Date.now() > until) return; // what could not be sent in time is not made up for
    const first = chance.below(RECIPIENTS.length);
    const count = 1 + chance.below(RECIPIENTS.length);
    const account = ledger.open([...RECIPIENTS, ...RECIPIENTS].slice(first, first + count));
    await ledger.send(account, signal);
  }
}

async function keepKilling(parts: readonly Part[], chance: Chance, until: number, killed: (name: Part["name"]) => void): Promise<void> {
  for (;;) {
    const wait = 2_000 + chance.next() * 3_000;
    if (Date.now() + wait > until) break;
    await pause(wait);
    const part = chance.of(parts);
    await part.kill();
    killed(part.name);
    await pause(chance.next() * 1_000);
    await part.start();
  }
  await pause(Math.max(until - Date.now(), 0));
}

function answersOf({ accounts }: Ledger): Record<string, number> {
  const counts: Record<string, number> = {};
  for (const { answers } of accounts) for (const answer of answers) counts[answer] = (counts[answer] ?? 0) + 1;
  return counts;
}

/** The outcome in words. */
export function inWords({ mails, letters, answers, kills, quietAfterMs, findings }: Chaos): string {
  const total = Object.values(kills).reduce((sum, count) => sum + count, 0);
  const each = (counts: Readonly<Record<string, number>>): string =>
    Object.entries(counts)
      .map(([name, count]) => `${name} ${count}`)
      .sort()
      .join(", ");
  const of = (kind: Finding["kind"]): number => findings.filter((finding) => finding.kind === kind).length;
  return [
    `${total} kills (${each(kills)}); ${mails} mails to ${letters} recipients; the senders saw: ${each(answers)}; quiet after ${quietAfterMs} ms`,
    `lost ${of("lost")}, duplicated ${of("duplicated")}, plaintext ${of("plaintext")}, receipts wrong ${of("receipt")}, left over ${of("left over")}`,
    ...findings.map(({ kind, what }) => `    ${kind}: ${what}`),
  ].join("\n");
}
