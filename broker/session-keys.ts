/** The keys of tickets: one seals, former ones open what was sealed to them until nothing of it can be asked for any more. */
import { createPublicKey } from "node:crypto";
import { existsSync, readdirSync } from "node:fs";
import { join } from "node:path";
import { readPrivateKey } from "../config/secrets.ts";
import { Fault } from "../mime/fault.ts";
import type { Opener } from "../mime/open.ts";
import { dayOf } from "./day-keys.ts";
import { destroy, remove } from "./disk.ts";
import { FORMER_SESSION } from "./files.ts";
import { readCertificate } from "./open.ts";
import { BACKDATED_MS } from "./own.ts";

/** The pair that seals first, then those before it, the newest of them first. @throws Fault `malformed`: halves of two pairs */
export function sessionKeysAt(folder: string): [Opener, ...Opener[]] {
  const former = readdirSync(folder).filter((name) => FORMER_SESSION.test(name));
  const openers = former.map((name) => pairAt(folder, name.slice(0, -".crt.pem".length)));
  return [pairAt(folder, "session"), ...openers.sort((a, b) => begin(b) - begin(a))];
}

function pairAt(folder: string, name: string): Opener {
  const [key, certificate] = [readPrivateKey(join(folder, `${name}.key.pem`)), readCertificate(join(folder, `${name}.crt.pem`))];
  if (createPublicKey(key).equals(certificate.publicKey)) return { key, certificate };
  throw new Fault("malformed", `${name}.key.pem and ${name}.crt.pem in ${folder} do not belong together: bring both back from one backup`);
}

const begin = ({ certificate }: Opener): number => certificate.notBefore.getTime();

/**
 * Destroys the former keys to which no session is left: no letter waits that was declared while they sealed, and none of then, however
 * long it was for, can be remembered as ended.
 * @param longest how long a letter may wait, and then be remembered, milliseconds
 * @param used days of letters that still wait, as `dayOf` counts them
 * @returns fingerprints of their certificates
 */
export function forgetSessionKeys(
  folder: string,
  { longest, used, now }: { longest: number; used: ReadonlySet<number>; now: Date },
): string[] {
  const [current, ...former] = sessionKeysAt(folder);
  const forgotten: string[] = [];
  let replacedAt = begin(current) + BACKDATED_MS;
  for (const opener of former) {
    const { fingerprint } = opener.certificate;
    const lastDay = dayOf(replacedAt) + 1; // another broker may have taken the next key over a little later
    if (replacedAt + longest < now.getTime() && [...used].every((day) => day > lastDay)) {
      const name = join(folder, `session-${fingerprint}`);
      remove(`${name}.crt.pem`); // first: without it nobody looks for the key
      if (existsSync(`${name}.key.pem`)) destroy(`${name}.key.pem`);
      forgotten.push(fingerprint);
    }
    replacedAt = begin(opener) + BACKDATED_MS;
  }
  return forgotten;
}
