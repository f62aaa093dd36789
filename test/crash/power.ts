/** The power fails at a gateway, after each thing that it does to its disk while a letter passes; the letter arrives as if nothing had been. */
import { existsSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { pathToFileURL } from "node:url";
import { temporaryFolder } from "../servers/process.ts";
import type { Shape } from "./kill.ts";
import { Ledger, type Finding } from "./ledger.ts";
import { lastWords } from "./matrix.ts";
import { RECIPIENTS, startCrashPlace, type CrashPlace } from "./place.ts";
import { Disk, type Loss } from "./power-cut.ts";
import { RECORD, STOP } from "./recorder.ts";

/** A gateway: the sender's (a) or the recipient's (b). */
export type Machine = "a" | "b";

export interface Cut {
  readonly machine: Machine;
  readonly loss: Loss;
  /** How many things the gateway has done to its disk since the letter was sent. */
  readonly after: number;
}

/** How many recipients the letter has. */
const shapeAt = (loss: Loss): Shape => (typeof loss === "number" && loss % 2 === 1 ? 1 : 3);

const DONE_WITHIN_MS = 60_000;
const SETTLED_WITHIN_MS = 30_000;
const QUIET_WITHIN_MS = 15_000;

const imported = (path: string): string => `--import=${pathToFileURL(join(import.meta.dirname, path)).href}`;

/** What makes Node.js write down what it does below a folder. @param folder takes the record */
export function recording(below: string, folder: string): Readonly<Record<string, string>> {
  const options = [imported("../../scripts/typescript.mjs"), imported("recorder.ts")];
  return { KAKITOME_RECORD_OF: below, KAKITOME_RECORD: folder, NODE_OPTIONS: options.join(" "), NODE_NO_WARNINGS: "1" };
}

/** One place in which the power fails again and again. */
export class PowerPlace {
  readonly place: CrashPlace;
  readonly ledger: Ledger;
  /** What the process did last before the newest cut. */
  last = "";

  private constructor(place: CrashPlace) {
    this.place = place;
    this.ledger = new Ledger(place);
  }

  static async start(): Promise<PowerPlace> {
    return new PowerPlace(await startCrashPlace());
  }

  async stop(): Promise<void> {
    this.ledger.close();
    await this.place.stop();
  }

  /** @returns what is not as it must be; undefined where the letter had passed before so much was done */
  async cut({ machine, loss, after }: Cut): Promise<Finding[] | undefined> {
    const { place, ledger } = this;
    const [program, data] = [place.parts[machine], place[machine].data];
    const account = ledger.open(RECIPIENTS.slice(0, shapeAt(loss)));
    const folder = await temporaryFolder("power");
    await program.kill();
    const disk = new Disk(data);
    await program.start(recording(data, folder));
    writeFileSync(join(folder, STOP), String(things(folder) + after));
    const stop = new AbortController();
    try {
      const sending = ledger.send(account, AbortSignal.any([stop.signal, AbortSignal.timeout(DONE_WITHIN_MS)]));
      sending.catch(() => undefined);
      const passed = sending.then(() => ledger.settle(account, SETTLED_WITHIN_MS));
      const halted = program.halted().then(({ done }) => (this.last = JSON.stringify(done)));
      halted.catch(() => undefined);
      const early = await Promise.race([passed, halted.then(() => undefined)]);
      if (early) return early.length > 0 ? early : undefined;
      await program.kill();
      disk.read(folder);
      disk.lose(loss);
      anotherRun(data);
      await program.start();
      await sending;
      return await ledger.settle(account, SETTLED_WITHIN_MS);
    } finally {
      stop.abort();
      rmSync(folder, { recursive: true });
    }
  }
}

const things = (folder: string): number => readFileSync(join(folder, RECORD), "utf8").split("\n").length - 1;

/** The machine is started anew: the gateway must not take it for the same run. */
function anotherRun(data: string): void {
  const boot = join(data, "boot");
  if (existsSync(boot)) writeFileSync(boot, "the run before");
}

export interface Result {
  readonly machine: Machine;
  readonly loss: Loss;
  cuts: number;
  readonly findings: (Finding & Pick<Cut, "after">)[];
}

export interface Plan {
  readonly machines: readonly Machine[];
  readonly losses: readonly Loss[];
  /** Every so many things, from the first one given. */
  readonly from: number;
  readonly every: number;
  readonly say: (line: string) => void;
}

/** Cuts until a letter passes uncut. @returns for each gateway and each kind of loss what was found */
export async function runPower({ machines, losses, from, every, say }: Plan): Promise<Result[]> {
  const results = machines.flatMap((machine) => losses.map((loss): Result => ({ machine, loss, cuts: 0, findings: [] })));
  let power = await PowerPlace.start();
  try {
    for (const result of results) {
      for (let after = from; ; after += every) {
        const found = await power.cut({ ...result, after });
        if (!found) break;
        result.cuts++;
        result.findings.push(...found.map((finding) => ({ ...finding, after })));
        say(`${result.machine} ${result.loss} ${after} ${power.last}: ${found.map(({ what }) => what).join("; ") || "well"}`);
        if (found.length > 0) power = await anotherAfter(power, say);
      }
      result.findings.push(...(await power.ledger.settleAll(QUIET_WITHIN_MS)).map((finding) => ({ ...finding, after: 0 })));
    }
    return results;
  } finally {
    await power.stop();
  }
}

/** What went wrong must not count for the next cut too. */
async function anotherAfter(power: PowerPlace, say: (line: string) => void): Promise<PowerPlace> {
  for (const { process } of [power.place.a, power.place.b, power.place.broker]) say(lastWords(process));
  await power.stop();
  return PowerPlace.start();
}
