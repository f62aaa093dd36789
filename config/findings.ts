/** What an examination finds: one thing after the other, each good or not, and how to mend it (`kakitome doctor`). */
import { noticeOf } from "./endings.ts";
import { reasonOf } from "./log.ts";
import { Fault } from "../mime/fault.ts";

export interface Finding {
  /** What was looked at, from a closed list. */
  readonly hop: string;
  /** Which one of several. */
  readonly of?: string;
  readonly good: boolean;
  readonly what: string;
  readonly mend?: string;
}

/** A finding that is not good. */
export class Wrong extends Error {
  readonly mend: string;

  constructor(what: string, mend: string, options?: ErrorOptions) {
    super(what, options);
    this.mend = mend;
  }
}

/** Collects findings; whatever a look throws is one that is not good. */
export class Examination {
  readonly findings: Finding[] = [];
  readonly #tell: (finding: Finding) => void;

  /** @param tell hears each finding as soon as it is there */
  constructor(tell: (finding: Finding) => void = () => undefined) {
    this.#tell = tell;
  }

  /** Looks at something. @param mend what to do where what is thrown does not say so itself @returns whether it is good */
  async look(hop: string, of: string | undefined, mend: string, work: () => Promise<string> | string): Promise<boolean> {
    try {
      this.#add({ hop, ...(of !== undefined && { of }), good: true, what: await work() });
      return true;
    } catch (thrown) {
      const fault = thrown instanceof Fault ? thrown : undefined;
      const what = thrown instanceof Wrong ? wordsOf(thrown) : (fault?.advice ?? reasonOf(thrown));
      this.#add({ hop, ...(of !== undefined && { of }), good: false, what, mend: thrown instanceof Wrong ? thrown.mend : mend });
      return false;
    }
  }

  #add(finding: Finding): void {
    this.findings.push(finding);
    this.#tell(finding);
  }
}

function wordsOf({ message, cause }: Wrong): string {
  return cause === undefined ? message : `${message}: ${reasonOf(cause)}`;
}

const HOUR_MS = 3_600_000;
const DAY_MS = 24 * HOUR_MS;

/** What a certificate says of its time. */
interface Timed {
  readonly notBefore: Date;
  readonly notAfter: Date;
}

/** @param mend what to do about it @throws Wrong: ended, not begun, or about to end */
export function demandTime({ notBefore, notAfter }: Timed, now: Date, mend: string, isRoot = false): string {
  if (notBefore > now) throw new Wrong(`begins only at ${notBefore.toISOString()}`, `see whether this machine's clock is right; ${mend}`);
  if (notAfter < now) throw new Wrong(`ended at ${notAfter.toISOString()}`, mend);
  const left = notAfter.getTime() - now.getTime();
  const words = left < 2 * DAY_MS ? `${Math.floor(left / HOUR_MS)} hours` : `${Math.floor(left / DAY_MS)} days`;
  if (left < noticeOf({ notBefore, notAfter, isRoot })) throw new Wrong(`ends in ${words}, at ${notAfter.toISOString()}`, mend);
  return `valid for ${words}`;
}

const MIB = 1 << 20;
const LEAST_FREE_OCTETS = 512 * MIB;
const LEAST_FREE_FILES = 10_000;

/** @param room of the file system, from `statfs` @throws Wrong */
export function demandRoom(room: { bavail: number; bsize: number; ffree: number; files: number }, folder: string): string {
  const free = room.bavail * room.bsize;
  const mend = `make room on the disk of ${folder}`;
  if (free < LEAST_FREE_OCTETS) throw new Wrong(`only ${Math.floor(free / MIB)} MiB are free`, mend);
  if (room.files > 0 && room.ffree < LEAST_FREE_FILES) throw new Wrong(`only ${room.ffree} more files fit (inodes)`, mend);
  return `${Math.floor(free / MIB)} MiB free`;
}
