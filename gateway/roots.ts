/**
 * The broker's roots that this gateway trusts: the one that was compared at enrolment, and those that came after it, each vouched for by
 * one that was trusted before (mime/vouch.ts). They are kept in one PEM file, which also serves as CAfile for whoever verifies by hand.
 */
import type { ListedRoots } from "../broker/client.ts";
import type { Log } from "../config/log.ts";
import { parseBundle, type Certificate } from "../mime/certificate.ts";
import { Fault } from "../mime/fault.ts";
import { vouched } from "../mime/vouch.ts";
import { readIfPresent, writeDurably } from "./durable.ts";

export class Roots {
  readonly #file: string;
  readonly #log: Log;
  #trusted: readonly Certificate[];

  private constructor(file: string, log: Log, trusted: readonly Certificate[]) {
    this.#file = file;
    this.#log = log;
    this.#trusted = trusted;
  }

  /** Those that were kept; undefined where the gateway is not enrolled. @throws Fault `malformed`: the file holds no certificate */
  static async open(file: string, log: Log): Promise<Roots | undefined> {
    const kept = await readIfPresent(file);
    return kept && new Roots(file, log, parseBundle(kept));
  }

  get trusted(): readonly Certificate[] {
    return this.#trusted;
  }

  /**
   * Takes what the broker says of its roots as far as a trusted one vouches for it, and forgets those that it has retired: older than one
   * that it names, and not named any more. A broker beside it that does not know the newest root yet takes nothing away.
   * @returns whether there are others now
   * @throws Fault `forbidden`: the broker names none that is trusted or vouched for
   */
  async learn({ listed, links }: ListedRoots, now: Date): Promise<boolean> {
    const before = this.#trusted;
    const holding = vouched(before, { listed, links, at: now });
    if (holding.length === 0)
      throw new Fault("forbidden", "the broker names no root that this gateway trusts, and none that a trusted one vouches for");
    const newest = Math.max(...holding.map(({ notBefore }) => notBefore.getTime()));
    const kept = before.filter((root) => !holding.includes(root) && root.notBefore.getTime() >= newest);
    const after = [...holding, ...kept];
    const [added, gone] = [after.filter((root) => !before.includes(root)), before.filter((root) => !after.includes(root))];
    if (added.length === 0 && gone.length === 0) return false;
    await writeDurably(this.#file, [Buffer.from(after.map(({ pem }) => pem).join(""))]);
    this.#trusted = after;
    for (const { fingerprint, notAfter } of added) this.#log.info({ event: "root.learned", fingerprint, until: notAfter.toISOString() });
    for (const { fingerprint } of gone) this.#log.info({ event: "root.forgotten", fingerprint });
    return true;
  }
}
