/** The demo's letter: sent by Alice, opened by Bob, its receipt back at Alice; what each party holds on the way is tried out, not claimed. */
import { createTransport } from "nodemailer";
import { Identities } from "../../gateway/identities.ts";
import { openChannel } from "../../gateway/identity.ts";
import { createLog } from "../../config/log.ts";
import { decodedBody, parseEntity, splitMultipart } from "../../mime/entity.ts";
import { readReceipt } from "../../mime/report.ts";
import { ContentKey } from "../../mime/key.ts";
import { readSealed, type SealedMessage } from "../../mime/message.ts";
import { openEnclosed } from "../../mime/open-enclosed.ts";
import { newKey } from "../../mime/request.ts";
import { openWithKey, openWithPrivateKey, type Opener } from "../../mime/open.ts";
import type { HandoverEvidence } from "../../mime/evidence.ts";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { Writable } from "node:stream";
import type { LogLine, Place } from "./place.ts";

const SUBJECT = "The contract";
const LONGEST_MS = 45_000;

/** Everything that the story produced. */
export interface Story {
  readonly original: Buffer;
  readonly sealed: Buffer;
  readonly envelope: Buffer;
  readonly shell: SealedMessage["shell"];
  readonly opened: Buffer;
  readonly receipt: Buffer;
  readonly evidence: HandoverEvidence;
  /** Undefined for the enclosed form, where the broker has forgotten it. */
  readonly contentKey: Buffer | undefined;
  /** The signature that the receipt speaks of, DER, and what it is over. */
  readonly originalSignature: Buffer;
  readonly signedContent: Buffer;
  readonly bob: Opener;
  readonly steps: readonly Step[];
  readonly attempts: readonly { readonly who: string; readonly opens: boolean; readonly detail: string }[];
}

export interface Step {
  readonly step: string;
  readonly text: string;
  /** Milliseconds since the client began to send. */
  readonly at: number;
}

/** Which log event tells of which step, and in what words. */
const TOLD: Readonly<Record<string, readonly [step: string, text: string]>> = {
  "letter.declared": ["S1", "Alice's gateway has signed the letter and declares its recipient to the broker"],
  "session.declared": ["S2", "the broker knows Alice's gateway and mailbox, makes a session and a one-time key Kc"],
  "letter.granted": ["S3", "Alice's gateway has Kc, a ticket that only the broker can read, and Bob's certificate"],
  "letter.sealed": ["S4", "the letter is sealed to Bob and under Kc; Kc is wiped at Alice's"],
  "letter.relayed": ["S5", "the sealed letter travels by ordinary mail"],
  "letter.presented": ["S6", "Bob's gateway has found it in his mailbox and presents the ticket"],
  "session.released": ["S7", "the broker gives Kc to Bob's gateway, sealed to Bob's certificate"],
  "letter.opened": ["S8", "the letter opens; signature and every binding hold"],
  "letter.filed": ["S9", "the readable letter is in Bob's mailbox"],
  "session.confirmed": ["S10", "Bob's gateway confirms; the broker erases Kc"],
  "receipt.verified": ["S11", "the broker's signed receipt is in Alice's mailbox and verified"],
};

/** Collects the steps out of the log as they happen. */
export class Teller {
  readonly #seen = new Map<string, Step>();
  #began = 0;
  #waiting: (() => void) | undefined;

  begin(): void {
    this.#began = Date.now();
    this.#seen.clear();
  }

  hear(line: LogLine): void {
    const told = line.event === undefined || this.#began === 0 ? undefined : TOLD[line.event];
    if (!told || this.#seen.has(told[0])) return;
    if (told[0] === "S7" && !this.#seen.has("S6")) return; // the witness below asked, not Bob's gateway
    this.#seen.set(told[0], { step: told[0], text: told[1], at: Date.parse(line.time ?? "") - this.#began });
    if (this.#seen.size === Object.keys(TOLD).length) this.#waiting?.();
  }

  /** All steps, once the last one has happened. */
  async all(signal: AbortSignal): Promise<Step[]> {
    if (this.#seen.size < Object.keys(TOLD).length) {
      await new Promise<void>((resolve, reject) => {
        this.#waiting = resolve;
        signal.addEventListener("abort", () => reject(new Error(`the demo stopped before ${this.#missing()}`)), { once: true });
      });
    }
    return Object.values(TOLD).flatMap(([step]) => this.#seen.get(step) ?? []);
  }

  #missing(): string {
    return Object.values(TOLD)
      .map(([step]) => step)
      .filter((step) => !this.#seen.has(step))
      .join(", ");
  }
}

/** Reads the key that the broker holds back, as Bob's gateway would: only the demo, which has all parties in one process, can do this. */
export class Witness {
  sealed: Buffer | undefined;
  contentKey: Buffer | undefined;
  bob: Opener | undefined;

  async look(place: Place, mail: Buffer): Promise<void> {
    const found = readSealed(mail);
    if (!found || this.sealed) return;
    const silent = createLog(new Writable({ write: (_chunk, _encoding, done) => done() }));
    const { broker } = await openChannel(place.bob.config, silent, () => new Date());
    try {
      const identities = new Identities(place.bob.config, silent);
      await identities.prepare(broker, AbortSignal.timeout(LONGEST_MS));
      const [own] = place.bob.config.mailboxes;
      if (!own) return;
      const identity = identities.of(own.address);
      const { key } = await broker.present(found.shell.ticket, identity, AbortSignal.timeout(LONGEST_MS));
      this.contentKey = key?.lend((octets) => Buffer.from(octets));
      this.bob = identity.openers[0];
      this.sealed = mail;
    } finally {
      await broker.close();
    }
  }
}

/** Sends the letter and waits for the receipt. */
export async function tell(place: Place, teller: Teller, witness: Witness): Promise<Story> {
  const signal = AbortSignal.timeout(LONGEST_MS);
  const { alice, bob, store } = place;
  const original = Buffer.from(
    [
      `From: Alice <${alice.address}>`,
      `To: Bob <${bob.address}>`,
      `Subject: ${SUBJECT}`,
      `Date: ${new Date().toUTCString().replace("GMT", "+0000")}`,
      `Message-ID: <demo-${Date.now()}@a.example>`,
      "MIME-Version: 1.0",
      "Content-Type: text/plain; charset=utf-8",
      "Content-Transfer-Encoding: 8bit",
      "",
      "Dear Bob,",
      "",
      "the contract is signed. 契約書に署名しました。",
      "",
      "Alice",
      "",
    ].join("\r\n"),
  );
  const client = createTransport({
    host: "127.0.0.1",
    port: alice.smtpPort,
    requireTLS: true,
    tls: { ca: place.broker.root.pem },
    auth: { user: alice.address, pass: alice.password },
  });
  teller.begin();
  await client.sendMail({ envelope: { from: alice.address, to: bob.address, use8BitMime: true }, raw: original });
  client.close();
  const [opened] = await store.until(
    bob.address,
    "INBOX",
    (mails) => mails.some(({ bytes }) => bytes.includes("Kakitome-Session: ")),
    signal,
  );
  const trust = { roots: [place.broker.root], at: new Date(), broker: place.broker.url };
  const [receipt] = await store.until(alice.address, "INBOX", (mails) => mails.length > 0, signal);
  const stated = receipt && readReceipt(receipt.bytes, trust)?.evidence;
  const evidence = stated?.event === "ContentHandover" ? stated : undefined;
  const steps = await teller.all(signal);
  const { sealed, contentKey, bob: opener } = witness;
  const originalSignature = evidence && readFileSync(join(place.alice.config.data, "letters", `${evidence.session}.original.p7s`));
  const letter = sealed && readSealed(sealed);
  const filed = store.list(bob.address).find(({ bytes }) => bytes.includes("Kakitome-Session: ")) ?? opened;
  if (!receipt || !evidence || !sealed || !letter || !originalSignature || !opener || !filed)
    throw new Error("the demo did not see all of its letter");
  const { envelope, shell } = letter;
  const attempts = letter.hold === "held" && contentKey ? heldAttempts(envelope, contentKey, opener) : enclosedAttempts(envelope, opener);
  const signedContent = letter.outside && evidence.signing === "outer" ? letter.outside.content : payloadIn(filed.bytes);
  return {
    original,
    sealed,
    envelope,
    shell,
    opened: filed.bytes,
    receipt: receipt.bytes,
    originalSignature,
    signedContent,
    evidence,
    contentKey,
    bob: opener,
    steps,
    attempts,
  };
}

/** The payload in a letter that was filed with its signature. */
function payloadIn(filed: Buffer): Buffer {
  const [payload] = splitMultipart(parseEntity(filed));
  return payload ?? Buffer.alloc(0);
}

function openable(step: () => Buffer): Buffer | undefined {
  try {
    return step();
  } catch {
    return undefined;
  }
}

const readable = (bytes: Buffer | undefined): boolean => bytes?.includes(SUBJECT) === true;
const attempt = (who: string, opens: boolean) => ({ who, opens, detail: opens ? "opens it" : "cannot open it" });

function enclosedAttempts(envelope: Buffer, bob: Opener): Story["attempts"] {
  const foreign = { ...bob, key: newKey() };
  return [
    attempt("another private key", readable(openable(() => openEnclosed(envelope, [foreign])))),
    attempt("Bob's private key, in any S/MIME client", readable(openable(() => openEnclosed(envelope, [bob])))),
  ];
}

function heldAttempts(envelope: Buffer, contentKey: Buffer, bob: Opener): Story["attempts"] {
  const kc = (): ContentKey => ContentKey.adopt(Buffer.from(contentKey));
  const outer = openable(() => openWithKey(envelope, kc()));
  const inner = outer && openable(() => openWithPrivateKey(decodedBody(parseEntity(outer)), [bob]));
  return [
    attempt("Bob's private key alone", readable(openable(() => openWithPrivateKey(envelope, [bob])))),
    attempt("Kc alone", readable(outer)),
    attempt("another key in place of Kc, with Bob's", readable(openable(() => openWithKey(envelope, ContentKey.generate())))),
    attempt("Kc and Bob's private key together", readable(inner)),
  ];
}
