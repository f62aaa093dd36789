/** Rows of the cryptography alone: sealing and opening against libcrypto, pkijs and the openssl command. */
import { execFileSync } from "node:child_process";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { pem } from "../test/mime/parties.ts";
import { figureOf, work } from "./child.ts";
import type { Figure, Row, Sides } from "./row.ts";
import { orderOf } from "./sides/letter.ts";

const SMALL = 2_048;
const LARGE = 100_000_000;

/** A folder with Alice's and Bob's keys, certificates and a message. */
async function folderOf(octets: number) {
  const folder = mkdtempSync(join(tmpdir(), "kakitome-bench-"));
  const { message, parties } = await orderOf(octets);
  const file = (name: string): string => join(folder, name);
  for (const [name, { signer, opener }] of [["alice", parties.alice] as const, ["bob", parties.bob] as const]) {
    writeFileSync(file(`${name}.sign.crt`), signer.certificate.pem);
    writeFileSync(file(`${name}.sign.key`), pem(signer.key));
    writeFileSync(file(`${name}.crypt.crt`), opener.certificate.pem);
    writeFileSync(file(`${name}.crypt.key`), pem(opener.key));
  }
  writeFileSync(file("root.crt"), parties.root.certificate.pem);
  writeFileSync(file("message"), message);
  return { file, stop: async () => rmSync(folder, { recursive: true }) };
}

async function againstLibcrypto(): Promise<Sides> {
  const { file, stop } = await folderOf(SMALL);
  const source = join(import.meta.dirname, "peers", "libcrypto.c");
  execFileSync("gcc", ["-O2", "-o", file("libcrypto"), source, "-lcrypto"]);
  const peer = (): Promise<Figure> => figureOf(file("libcrypto"), [file("alice.sign.crt"), file("alice.sign.key"), file("message")]);
  return { ours: () => work("seal.ts", "seal", String(SMALL)), peer, stop };
}

const againstPkijs = (what: "seal" | "open") => async (): Promise<Sides> => ({
  ours: () => work("seal.ts", what, String(SMALL)),
  peer: () => work("pkijs.ts", what, String(SMALL)),
});

/** Megabytes a second of a shell pipeline over the large message. */
function pipeline(script: string): Figure {
  const from = performance.now();
  execFileSync("bash", ["-c", `set -o pipefail; ${script}`], { stdio: ["ignore", "ignore", "inherit"] });
  return { value: LARGE / 1e6 / ((performance.now() - from) / 1_000) };
}

const againstOpenssl = (what: "seal" | "open") => async (): Promise<Sides> => {
  const { file, stop } = await folderOf(LARGE);
  const signed = `openssl cms -sign -binary -nodetach -stream -outform DER -in ${file("message")} -signer ${file("alice.sign.crt")} -inkey ${file("alice.sign.key")}`;
  const sealed = `openssl cms -encrypt -binary -stream -aes-256-cbc -outform DER ${file("bob.crypt.crt")}`;
  const opened = `openssl cms -decrypt -inform DER -in ${file("sealed")} -recip ${file("bob.crypt.crt")} -inkey ${file("bob.crypt.key")}`;
  const verified = `openssl cms -verify -inform DER -CAfile ${file("root.crt")} -purpose any -out ${file("opened")}`;
  const ours = (of: "seal" | "open"): Promise<Figure> => work("large.ts", of, file(""), file("message"));
  if (what === "open") {
    pipeline(`${signed} | ${sealed} > ${file("sealed")}`);
    await ours("seal");
  }
  return {
    ours: () => ours(what),
    peer: async () => pipeline(what === "seal" ? `${signed} | ${sealed} > ${file("sealed")}` : `${opened} | ${verified}`),
    stop,
  };
};

export const crypto: readonly Row[] = [
  {
    name: "seal",
    what: "sign and seal 2 KB, held, both layers, one process",
    peer: "C on libcrypto, the same layers",
    unit: "letters/s",
    goal: { atLeast: 0.7 },
    prepare: againstLibcrypto,
  },
  {
    name: "seal-pkijs",
    what: "the same",
    peer: "pkijs, comparable work",
    unit: "letters/s",
    goal: { atLeast: 10 },
    prepare: againstPkijs("seal"),
  },
  {
    name: "open-pkijs",
    what: "open and verify 2 KB, held, both layers",
    peer: "pkijs, comparable work",
    unit: "letters/s",
    goal: { atLeast: 10 },
    prepare: againstPkijs("open"),
  },
  {
    name: "seal-large",
    what: "sign and seal 100 MB, held, both layers, file to file",
    peer: "openssl cms -sign piped to -encrypt, streamed",
    unit: "MB/s",
    goal: { atLeast: 0.7 },
    mostMemory: 120,
    prepare: againstOpenssl("seal"),
  },
  {
    name: "open-large",
    what: "open and verify 100 MB, held, both layers, file to file",
    peer: "openssl cms -decrypt piped to -verify",
    unit: "MB/s",
    goal: { atLeast: 5 },
    mostMemory: 250,
    prepare: againstOpenssl("open"),
  },
];
