/** `large.ts seal|open FOLDER MESSAGE`: a held letter with both layers from file to file, as little of it in memory as may be; keys lie in the folder. */
import { createPrivateKey, randomBytes } from "node:crypto";
import { closeSync, fstatSync, openSync, readFileSync, readSync, writeFileSync, writeSync } from "node:fs";
import { join } from "node:path";
import { parseMailbox } from "../../mime/address.ts";
import { openLetter } from "../../mime/bind.ts";
import { parseCertificate } from "../../mime/certificate.ts";
import { splitMessage } from "../../mime/headers.ts";
import { ContentKey } from "../../mime/key.ts";
import { sealInPieces, signLetter, type Signing } from "../../mime/letter.ts";
import { readSealed } from "../../mime/message.ts";
import { outerFields, payloadPieces } from "../../mime/payload.ts";
import { madeLater, type Pieces } from "../../mime/pieces.ts";
import { BROKER, NOW } from "../../test/mime/parties.ts";
import { printFigure } from "./rate.ts";

const [what, folder = "", message = ""] = process.argv.slice(2);
const read = (name: string): Buffer => readFileSync(join(folder, name));
const holder = (name: string) => ({ key: createPrivateKey(read(`${name}.key`)), certificate: parseCertificate(read(`${name}.crt`)) });
const expiresAt = new Date("2026-03-31T12:00:00Z");
const SEALED = join(folder, "registered");
const FACTS = join(folder, "facts.json");
const CHUNK_OCTETS = 256 << 10;

/** A file from an offset on, read when it is asked for, as often as it is asked for. */
function fileFrom(path: string, offset: number): Pieces {
  const file = openSync(path, "r");
  return madeLater(fstatSync(file).size - offset, function* () {
    const chunk = Buffer.allocUnsafe(CHUNK_OCTETS);
    for (let at = offset, octets = 0; (octets = readSync(file, chunk, 0, chunk.length, at)) > 0; at += octets) {
      yield chunk.subarray(0, octets);
    }
  });
}

function headerOf(path: string) {
  const file = openSync(path, "r");
  const start = Buffer.alloc(64 << 10);
  readSync(file, start, 0, start.length, 0);
  closeSync(file);
  const head = start.subarray(0, start.indexOf("\r\n\r\n") + 4);
  return { fields: splitMessage(head).fields, octets: head.length };
}

/** @returns octets of the message */
function seal(): number {
  const { fields, octets } = headerOf(message);
  const body = fileFrom(message, octets);
  const outer = outerFields({ fields, body: Buffer.alloc(0) }, "[...]");
  const [nonce, contentId, kc] = [randomBytes(24), randomBytes(32), randomBytes(32)];
  const signing: Signing = { order: "inner", signer: holder("alice.sign"), time: NOW, contentId, brokerUrl: BROKER };
  const letter = signLetter(payloadPieces({ fields, body }, { outer, nonce }), nonce, signing);
  writeFileSync(FACTS, JSON.stringify({ kc: kc.toString("hex"), commit: letter.commit, contentId: contentId.toString("hex") }));
  const shell = { ticket: randomBytes(340), brokerUrl: BROKER, expiresAt };
  const order = { hold: "held" as const, key: ContentKey.adopt(kc), shell, dual: holder("bob.crypt").certificate };
  const { mail } = sealInPieces(letter, order, outer, parseMailbox("alice@a.example"), signing);
  const out = openSync(SEALED, "w");
  for (const piece of mail) writeSync(out, piece);
  closeSync(out);
  return body.octets;
}

/** @returns octets of the body */
function open(): number {
  const { kc, commit, contentId } = JSON.parse(read("facts.json").toString()) as { kc: string; commit: string; contentId: string };
  const sealed = readSealed(readFileSync(SEALED), "spend");
  if (!sealed) throw new Error("not a sealed letter");
  const binding = { hold: "held", signing: "inner", sender: parseMailbox("alice@a.example"), recipients: ["bob@b.example"] } as const;
  const trust = { roots: [parseCertificate(read("root.crt"))], at: NOW };
  const secrets = { key: ContentKey.adopt(Buffer.from(kc, "hex")), openers: [holder("bob.crypt")] };
  const more = { messageId: "<letter-1@a.example>", commit, contentId, expiresAt, trust };
  const { payload } = openLetter(sealed, secrets, { ...binding, ...more });
  const out = openSync(join(folder, "opened"), "w");
  writeSync(out, payload.body);
  closeSync(out);
  return payload.body.length;
}

const from = performance.now();
const octets = what === "open" ? open() : seal();
printFigure(octets / 1e6 / ((performance.now() - from) / 1_000));
