/** What is fuzzed, without a network: the readers of everything that a stranger can write, and what must hold whatever they read. */
import { readFileSync, readdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { openTicket, sealTicket } from "../../broker/ticket.ts";
import { loadBroker, loadEither, loadGateway } from "../../config/load.ts";
import { Journal } from "../../gateway/journal.ts";
import { Letters } from "../../gateway/letters.ts";
import { Spool } from "../../gateway/spool.ts";
import { parseAddressList, parseDomain, parseMailbox } from "../../mime/address.ts";
import { Fault } from "../../mime/fault.ts";
import { readSealed } from "../../mime/message.ts";
import { openLetter } from "../../mime/bind.ts";
import { buildReceipt, readReceipt } from "../../mime/report.ts";
import { temporaryFolder } from "../servers/process.ts";
import { BROKER, NOW, evidence, makeParties, party, releasedBefore, sealedLetter } from "../mime/parties.ts";

export interface Target {
  readonly name: string;
  readonly seeds: readonly Buffer[];
  /** @throws anything but the Fault that a refusal is: a find */
  run(input: Buffer): Promise<void> | void;
  close?(): Promise<void>;
}

/** What does not hold. */
export function demand(holds: boolean, what: string): void {
  if (!holds) throw new Error(what);
}

/** The value, or undefined where it is refused by a Fault. @throws Error where it is refused in another way or by another word */
export function unlessRefused<T>(read: () => T, words: readonly string[]): T | undefined {
  try {
    return read();
  } catch (thrown) {
    if (thrown instanceof Fault && words.includes(thrown.code)) return undefined;
    throw new Error("refused in a way of its own", { cause: thrown });
  }
}

const root = join(import.meta.dirname, "..", "..");
const filesIn = (...path: string[]): Buffer[] =>
  readdirSync(join(root, ...path))
    .filter((name) => name.endsWith(".yaml"))
    .map((name) => readFileSync(join(root, ...path, name)));

/** The targets that need nothing but memory and a folder. */
export async function pureTargets(): Promise<Target[]> {
  const parties = await makeParties();
  const session = (await party(parties.root, "session@broker.example")).opener;
  const letter = sealedLetter(parties);
  const ids = { sessionId: Buffer.alloc(16, 7), nextSessionId: Buffer.alloc(16, 8) };
  const tickets = [ids, { ...ids, nextSessionId: undefined }].map((one) => sealTicket(one, session.certificate));
  const from = { from: "receipts@broker.example", host: "broker.example", time: NOW };
  const receipt = buildReceipt(
    { ...from, evidence, released: releasedBefore(evidence), recipientReceipt: Buffer.from("3003020101", "hex") },
    parties.broker,
  );
  const trust = { roots: [parties.root.certificate], at: NOW, broker: BROKER };
  return [
    {
      name: "shell",
      seeds: [letter.mail, receipt],
      run: (input) => void unlessRefused(() => readSealed(input), ["malformed", "too-large"]),
    },
    {
      name: "ticket",
      seeds: tickets,
      run(input) {
        const opened = unlessRefused(() => openTicket(input, [session]), ["session-gone"]);
        demand(!opened || opened.sessionId.equals(ids.sessionId), "a ticket that nobody sealed names a session");
      },
    },
    {
      name: "opening",
      seeds: [letter.mail],
      run(input) {
        const sealed = unlessRefused(() => readSealed(input), ["malformed", "too-large"]);
        if (!sealed) return;
        const secrets = { key: letter.key, openers: [parties.bob.opener] };
        const opened = unlessRefused(() => openLetter(sealed, secrets, letter.binding), ["cannot-open"]);
        demand(!opened || opened.payload.body.toString() === "The secret text.\r\n", "an altered letter opened to another text");
      },
    },
    {
      name: "receipt",
      seeds: [receipt],
      run(input) {
        const read = unlessRefused(() => readReceipt(input, trust), ["malformed", "signature-invalid"]);
        demand(!read || JSON.stringify(read.evidence) === JSON.stringify(evidence), "an altered receipt says something else");
      },
    },
    {
      name: "address",
      seeds: ["alice@a.example", '"a b"@[127.0.0.1]', "Alice (x) <alice@a.example>, G: b@b.example;", "böb@bücher.example"].map((text) =>
        Buffer.from(text),
      ),
      run(input) {
        const text = input.toString("utf8");
        const mailbox = unlessRefused(() => parseMailbox(text), ["malformed"]);
        const listed = unlessRefused(() => parseAddressList(text), ["malformed"]) ?? [];
        unlessRefused(() => parseDomain(text), ["malformed"]);
        for (const { address, key } of mailbox ? [mailbox, ...listed] : listed) {
          demand(!/[\p{Cc}\r\n<>]/u.test(address.replace(/^"(?:[^"\\]|\\.)*"/u, "")), `an address with a control character: ${address}`);
          demand(parseMailbox(address).key === key, `an address that does not read back: ${address}`);
        }
      },
    },
    await configTarget(),
    await journalTarget(),
  ];
}

async function configTarget(): Promise<Target> {
  const file = join(await temporaryFolder("fuzz"), "some.yaml");
  return {
    name: "config",
    seeds: [...filesIn("config"), ...filesIn("test", "bad-configs")],
    run(input) {
      writeFileSync(file, input);
      for (const load of [loadBroker, loadGateway, loadEither]) unlessRefused(() => load(file), ["malformed"]);
    },
  };
}

/** Files of our own that a disk has damaged: each reader says so by a Fault, and reads the others. */
async function journalTarget(): Promise<Target> {
  const folder = await temporaryFolder("fuzz-journal");
  const place = (name: string): string => join(folder, name);
  const [journal, spool, letters] = [new Journal(place("journal")), new Spool(place("spool")), new Letters(place("letters"))];
  await Promise.all([journal.prepare(), spool.prepare(), letters.prepare()]);
  await journal.put({ stage: "begun", session: "5e".repeat(32), mailbox: "bob@b.example", messageId: "", at: NOW.toISOString() });
  await journal.keepPosition("bob@b.example", "INBOX", { uidValidity: "1", uid: 5 });
  const entry = { id: "0".repeat(32), sender: "alice@a.example", messageId: "<1@a.example>", acceptedAt: NOW.toISOString() };
  await spool.put(entry, [{ recipient: "bob@b.example", notify: [], message: Buffer.from("sealed") }]);
  const files = ["journal", "spool"].flatMap((name) => readdirSync(place(name)).map((file) => join(place(name), file)));
  const seeds = files.map((file) => readFileSync(file));
  const whole = new Map(files.map((file, at) => [file, seeds[at] ?? Buffer.alloc(0)]));
  return {
    name: "journal",
    seeds,
    async run(input) {
      for (const file of files) {
        writeFileSync(file, input);
        const readers = [
          () => journal.find("bob@b.example", "5e".repeat(32)),
          () => journal.position("bob@b.example", "INBOX"),
          () => journal.all(),
          () => spool.all(() => undefined),
        ];
        for (const read of readers) {
          await read().catch((thrown: unknown) => {
            if (!(thrown instanceof Fault)) throw new Error(`${file} is refused in a way of its own`, { cause: thrown });
          });
        }
        writeFileSync(file, whole.get(file) ?? Buffer.alloc(0));
      }
    },
  };
}
