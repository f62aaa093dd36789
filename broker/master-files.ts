/** Where the master key rests: a file or a systemd credential, those before it in the data folder; and its rotation while the broker runs. */
import { createHmac, randomBytes } from "node:crypto";
import { existsSync, readdirSync } from "node:fs";
import { join } from "node:path";
import { haltAt } from "../config/halt.ts";
import { readCredential, readSecret } from "../config/secrets.ts";
import { Fault } from "../mime/fault.ts";
import { SECRET, move, put } from "./disk.ts";
import { FILES } from "./files.ts";
import { localMasterKey } from "./master-key.ts";

export interface MasterPlace {
  /** The data folder: former master keys lie in it. */
  readonly data: string;
  readonly dayKeys: string;
  readonly source: { readonly file: string } | { readonly credential: string };
}

const FORMER = `${FILES.masterKey}.former-`;
const NEXT = ".next";

const octetsIn = (hex: string): Buffer => Buffer.from(hex, "hex");

/** The current master key first, then the former ones. @throws Fault `malformed`: missing, open to others */
export function masterKeysAt({ data, source }: MasterPlace): readonly [Buffer, ...Buffer[]] {
  const current = "file" in source ? readSecret(source.file) : readCredential(source.credential);
  const former = readdirSync(data).filter((name) => name.startsWith(FORMER));
  return [octetsIn(current.reveal()), ...former.map((name) => octetsIn(readSecret(join(data, name)).reveal()))];
}

/**
 * Makes a new master key and encrypts the days' keys anew under it; the running broker takes it over by itself. The former one stays: MACs
 * of rows, and tickets' names, of before are under it. After a crash at any step the broker starts and the rotation can be run again.
 * @returns the path of the former key
 * @throws Fault `malformed`: the key is a credential, which only systemd can replace
 */
export function rotateMaster(place: MasterPlace): string {
  const { data, source } = place;
  if (!("file" in source)) {
    throw new Fault(
      "malformed",
      `the master key is a credential: keep the present one as ${join(data, `${FORMER}DATE`)}, then give systemd a new one`,
    );
  }
  const next = source.file + NEXT;
  if (!existsSync(next)) put(next, `${randomBytes(32).toString("hex")}\n`, SECRET);
  haltAt("m1");
  const [present] = masterKeysAt(place);
  const former = join(data, FORMER + nameOf(present));
  if (!existsSync(former)) put(former, `${present.toString("hex")}\n`, SECRET);
  haltAt("m2");
  move(next, source.file);
  haltAt("m3");
  localMasterKey(() => masterKeysAt(place), place.dayKeys); // encrypts the days' keys anew
  haltAt("m5");
  return former;
}

/** Tells former keys apart and nothing of them. */
const nameOf = (octets: Buffer): string => createHmac("sha256", octets).update("kakitome master key name").digest("hex").slice(0, 16);
