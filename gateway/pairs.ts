/** Keys and certificates on the disk that another process of ours may be replacing: file by file, so that a reader can meet the half of it. */
import { createPublicKey, type KeyObject } from "node:crypto";
import { pause } from "../config/lifecycle.ts";
import type { Certificate } from "../mime/certificate.ts";
import { Fault } from "../mime/fault.ts";

/** Files are renamed one after the other, each with a sync: this is long enough for a slow disk. */
const ATTEMPTS = 20;
const BETWEEN_MS = 100;

/** @param folder where they lie, for whoever reads the fault @throws Fault `unavailable`: the certificate is for another key */
export function demandPair<Pair extends { readonly key: KeyObject; readonly certificate: Certificate }>(pair: Pair, folder: string): Pair {
  if (pair.certificate.publicKey.equals(createPublicKey(pair.key))) return pair;
  throw new Fault("unavailable", `a key and its certificate in ${folder} do not belong together, or are being renewed`);
}

/** Reads again for a while where what is read is `unavailable`. @throws Fault as `read` does at last */
export async function readRenewed<T>(read: () => Promise<T>): Promise<T> {
  for (let attempt = 1; ; attempt++) {
    try {
      return await read();
    } catch (thrown) {
      if (attempt === ATTEMPTS || !(thrown instanceof Fault && thrown.code === "unavailable")) throw thrown;
      await pause(BETWEEN_MS);
    }
  }
}
