/** Kills at every point, for every shape, again and again; counts what went wrong, and writes it as a table. */
import { killAt, SHAPES, type Shape } from "./kill.ts";
import { Ledger, type Finding, type Kind } from "./ledger.ts";
import type { Process } from "../walks/kakitome.ts";
import { startCrashPlace, type CrashPlace } from "./place.ts";

export interface Cell {
  readonly point: string;
  readonly shape: Shape;
  /** Kills that were carried out. */
  kills: number;
  /** Kills that could not be carried out, and why. */
  readonly missed: string[];
  readonly findings: Finding[];
}

export interface Plan {
  readonly points: readonly string[];
  readonly shapes?: readonly Shape[];
  readonly repeats: number;
  /** Places that work beside each other. */
  readonly lanes?: number;
  readonly say: (line: string) => void;
}

const KINDS: readonly Kind[] = ["lost", "duplicated", "plaintext", "receipt", "left over"];
const QUIET_WITHIN_MS = 15_000;

const count = (cell: Cell, kind: Kind): number => cell.findings.filter((finding) => finding.kind === kind).length;
export const isGood = ({ kills, missed, findings }: Cell): boolean => kills > 0 && missed.length === 0 && findings.length === 0;

/** Runs the plan. @returns a cell for each point and shape, in the order of the plan */
export async function runMatrix({ points, shapes = SHAPES, repeats, lanes = 1, say }: Plan): Promise<Cell[]> {
  const cells = points.flatMap((point) => shapes.map((shape): Cell => ({ point, shape, kills: 0, missed: [], findings: [] })));
  const waiting = [...cells];
  const lane = async (): Promise<void> => {
    let place: CrashPlace | undefined;
    let ledger: Ledger | undefined;
    const leave = async (): Promise<void> => {
      ledger?.close();
      await place?.stop();
      [place, ledger] = [undefined, undefined];
    };
    for (let cell = waiting.shift(); cell; cell = waiting.shift()) {
      place ??= await startCrashPlace();
      ledger ??= new Ledger(place);
      const began = Date.now();
      await fill(place, ledger, cell, repeats);
      say(`${lineOf(cell)}  ${Math.round((Date.now() - began) / Math.max(cell.kills, 1))} ms a kill`);
      for (const reason of [...cell.missed, ...cell.findings.map(({ kind, what }) => `${kind}: ${what}`)]) say(`    ${reason}`);
      if (cell.findings.length > 0) for (const { process } of [place.a, place.b, place.broker]) say(lastWords(process));
      if (!isGood(cell)) await leave(); // what went wrong must not count for the next cell too
    }
    await leave();
  };
  await Promise.all(Array.from({ length: lanes }, lane));
  return cells;
}

async function fill(place: CrashPlace, ledger: Ledger, cell: Cell, repeats: number): Promise<void> {
  try {
    for (let round = 0; round < repeats; round++) {
      const found = await killAt(place, ledger, { point: cell.point, shape: cell.shape, round });
      cell.kills++;
      cell.findings.push(...found);
      if (found.length > 0) return; // the place is not used again
    }
    cell.findings.push(...(await ledger.settleAll(QUIET_WITHIN_MS)));
  } catch (thrown) {
    cell.missed.push((thrown instanceof Error ? thrown.message : String(thrown)).split("\n").slice(0, 5).join("\n"));
  }
}

/** What a process said last: without it nobody learns why a letter is still under way. */
export const lastWords = (process: Process): string => process.text().split("\n").slice(-25).join("\n");

const shapeName = (shape: Shape): string => (shape === 1 ? "one recipient" : "three recipients");

function lineOf(cell: Cell): string {
  const numbers = KINDS.map((kind) => `${kind} ${count(cell, kind)}`).join(", ");
  return `${cell.point.padEnd(3)} ${shapeName(cell.shape).padEnd(16)}  kills ${cell.kills}, ${numbers}${cell.missed.length > 0 ? ", MISSED" : ""}`;
}

/** The table as Markdown. @param repeats kills that were asked for in each cell */
export function asMarkdown(cells: readonly Cell[], repeats: number): string {
  const rows = cells.map((cell) => [cell.point, shapeName(cell.shape), cell.kills, ...KINDS.map((kind) => count(cell, kind))]);
  const sum = (of: (cell: Cell) => number): number => cells.reduce((total, cell) => total + of(cell), 0);
  const total = ["all", "", sum(({ kills }) => kills), ...KINDS.map((kind) => sum((cell) => count(cell, kind)))];
  const heads = ["point", "shape", "kills", "lost", "duplicated", "plaintext", "receipts wrong", "left over"];
  const table = [heads, heads.map(() => "---"), ...rows, total].map((row) => `| ${row.join(" | ")} |`);
  return `${[
    "# Crash matrix",
    "",
    `Made by \`npm run crash\`: real Redis, Dovecot and Postfix, the broker and two gateways as the built command. In each cell, ${repeats} times: a letter`,
    "is sent, a process is made to stand still at the named point, ended by SIGKILL, and started again; the sender tries until it is told 250.",
    "The points are those of [durability.md](durability.md). At k7 the next hop's 250 is swallowed on its way; at k9 Redis is killed under the broker;",
    "at k10 Redis comes back with older data; at k11 the primary Redis dies and a sentinel makes its replica the primary. Where a letter passes a point several times, another pass is taken each time.",
    "",
    "A ledger outside the product counts for every mail and recipient: opened letters in the mailbox (lost, duplicated), text on a disk outside the",
    "mailboxes, plain or in base64 (plaintext), records and bytes of the receipt at sender and broker (receipts wrong), and what still waits at the end (left over).",
    "",
    ...table,
  ].join("\n")}\n`;
}
