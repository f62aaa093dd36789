/** Every bit of whole letters flipped, one after the other, along the way that a gateway goes with them: not one opens, whatever is altered. */
import { performance } from "node:perf_hooks";
import { openTicket, sealTicket } from "../../broker/ticket.ts";
import { openLetter, type Binding } from "../../mime/bind.ts";
import { encodeBase64 } from "../../mime/entity.ts";
import { Fault } from "../../mime/fault.ts";
import { ContentKey } from "../../mime/key.ts";
import { readSealed } from "../../mime/message.ts";
import { BROKER, KC, letterIn, makeParties, party } from "../mime/parties.ts";
import { bitFlips } from "../mime/tree.ts";

const LONGEST_MS = 250;
const parties = await makeParties();
const session = (await party(parties.root, "session@broker.example")).opener;

/** S6 to S8 as a gateway goes them: the shell, our broker, the ticket at the broker, the letter. @throws Fault */
function walk(mail: Buffer, binding: Binding): Buffer {
  const sealed = readSealed(mail);
  if (!sealed) throw new Fault("malformed", "no registered letter");
  if (sealed.shell.brokerUrl !== BROKER) throw new Fault("forbidden", "another broker");
  openTicket(sealed.shell.ticket, [session]);
  const key = binding.hold === "held" ? ContentKey.adopt(Buffer.from(KC)) : undefined;
  return openLetter(sealed, { key, openers: [parties.bob.opener] }, binding).payload.body;
}

/** The end of a mutant: the word of its refusal, or "opened". @throws Error where it is no Fault, or slow three times in a row */
function endOf(mail: Buffer, binding: Binding): string {
  for (let again = 0; ; again++) {
    const begun = performance.now();
    let end: string;
    try {
      walk(mail, binding);
      end = "opened";
    } catch (thrown) {
      if (!(thrown instanceof Fault)) throw new Error("something other than a Fault was thrown", { cause: thrown });
      end = thrown.code;
    }
    const took = performance.now() - begun;
    if (took < LONGEST_MS) return end;
    if (again === 2) throw new Error(`${took} ms for one mutant`); // once or twice it can be the machine
  }
}

const FORMS = [
  ["held", "inner"],
  ["held", "outer"],
  ["enclosed", "inner"],
] as const;

let mutants = 0;
const ends: Record<string, number> = {};
const opened: string[] = [];
for (const [hold, order] of FORMS) {
  const ticket = sealTicket({ sessionId: Buffer.alloc(16, 1), nextSessionId: undefined }, session.certificate);
  const { mail: whole, binding } = letterIn(parties, hold, order, ticket);
  const envelope = readSealed(whole)?.envelope ?? Buffer.alloc(0);
  const mail = whole.toString("latin1");
  const from = encodeBase64(envelope).toString();
  if (endOf(Buffer.from(mail, "latin1"), binding) !== "opened") throw new Error("the unaltered letter does not open");
  for (const { mutant, offset } of bitFlips(envelope)) {
    const end = endOf(
      Buffer.from(
        mail.replace(from, () => encodeBase64(mutant).toString()),
        "latin1",
      ),
      binding,
    );
    mutants++;
    ends[end] = (ends[end] ?? 0) + 1;
    if (end === "opened") opened.push(`${hold} ${order}: octet ${offset} of ${envelope.length}`);
  }
}
process.stdout.write(JSON.stringify({ mutants, ends, opened }));
