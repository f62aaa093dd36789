/** `kakitome init broker`: makes the root, the broker's own certificates and the master key, each private file readable by its owner only. */
import { randomBytes } from "node:crypto";
import { existsSync, mkdirSync } from "node:fs";
import { join } from "node:path";
import type { Certificate } from "../mime/certificate.ts";
import { Fault } from "../mime/fault.ts";
import { OPEN, SECRET, put } from "./disk.ts";
import { FILES } from "./files.ts";
import { OWN, makeOwn, pemOf, type OwnOrder } from "./own.ts";
import { newRoot } from "./roots.ts";

const KEYS = [FILES.rootKey, FILES.masterKey, FILES.serverKey, FILES.signingKey, FILES.sessionKey];

/**
 * Fills an empty folder.
 * @returns the root, whose fingerprint gateways compare when they enrol
 * @throws Fault `forbidden`: the folder already holds a broker, or the beginning of one; nothing is overwritten
 */
export async function initBroker(folder: string, order: OwnOrder): Promise<Certificate> {
  if (existsSync(join(folder, FILES.roots))) {
    const words = `${folder} already holds a broker; nothing was changed: bring its configuration back, or remove ${folder} if no gateway has enrolled there`;
    throw new Fault("forbidden", words);
  }
  if (KEYS.some((name) => existsSync(join(folder, name))))
    throw new Fault(
      "forbidden",
      `${folder} holds keys and no whole broker, as after an init that was cut off: remove ${folder} and run it again`,
    );
  mkdirSync(folder, { recursive: true, mode: 0o700 });
  const root = await newRoot(order.url, 1, order.now);
  for (const which of OWN) await makeOwn(folder, root, which, order);
  put(join(folder, FILES.masterKey), `${randomBytes(32).toString("hex")}\n`, SECRET);
  put(join(folder, FILES.rootKey), pemOf(root.key), SECRET);
  put(join(folder, FILES.roots), root.certificate.pem, OPEN); // last: with it the folder holds a broker
  return root.certificate;
}
