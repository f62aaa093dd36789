/** `kakitome verify`: the whole chain of a receipt, offline; says which link is missing or wrong (docs/verify.md). */
import type { Command } from "commander";
import { parseBundle } from "../mime/certificate.ts";
import { parseRevocationList } from "../mime/crl.ts";
import { toCrlf } from "../mime/entity.ts";
import type { ReportEvidence } from "../mime/evidence.ts";
import { Fault } from "../mime/fault.ts";
import { verifyProof } from "../mime/proof.ts";
import { contentOf } from "./given.ts";

interface Options {
  ca: string;
  original?: string;
  payload?: string;
  at?: string;
  broker?: string;
  crl?: string;
  json?: boolean;
}

const bytesOf = (path: string | undefined): Buffer | undefined => (path === undefined ? undefined : contentOf(path));

function timeOf(text: string | undefined): Date {
  const time = text === undefined ? new Date() : new Date(text);
  if (Number.isNaN(time.getTime())) throw new Fault("malformed", `--at ${text}: write a time such as 2026-11-23T12:00:00Z`);
  return time;
}

/** What the broker's evidence states, in one line. */
function claimOf(evidence: ReportEvidence): string {
  const { recipient, messageId, sender } = evidence;
  const letter = `${messageId} of ${sender}`;
  if (evidence.event === "ContentHandover") return `${recipient} opened ${letter} at ${evidence.confirmedAt}`;
  const key = keyOf(evidence);
  if (evidence.event === "Delayed") return `${recipient} had not opened ${letter} by ${evidence.delayedAt}; ${key}`;
  if (evidence.reason === "recalled") return `${sender} recalled ${messageId} to ${recipient} at ${evidence.endedAt}; ${key}`;
  return `${letter} to ${recipient} expired, ${evidence.hold === "held" ? "its key was erased" : "its session ended"} at ${evidence.endedAt}; ${key}`;
}

/** What became of the key of a letter that nobody confirmed as opened; one that travels inside the letter is never given out, and always there. */
function keyOf({ hold, releasedAt }: ReportEvidence): string {
  const never = hold === "held" ? "its key was never given out" : "its key travels inside it, and whether it was read is not known";
  const then = hold === "held" ? "its key was given out" : "its ticket was presented";
  return releasedAt === "" ? never : `${then} at ${releasedAt}, no opening was confirmed`;
}

export function addVerify(program: Command): void {
  program
    .command("verify")
    .description(
      "verify a receipt, or a report that a letter was not opened or recalled, offline: broker's signature and evidence, recipient's receipt, its tie to the letter, the letter itself",
    )
    .argument("<receipt>", "the receipt as it was mailed (.eml)")
    .requiredOption("--ca <file>", "the broker's roots, PEM: ca.pem has all of them")
    .option("--original <file>", "the letter's detached signature, original.p7s")
    .option("--payload <file>", "what that signature is over: the letter as it was signed")
    .option("--at <time>", "verify certificates at this time instead of now")
    .option("--broker <url>", "accept this broker only")
    .option("--crl <file>", "the broker's revocation list (GET /v1/crl), DER")
    .option("--json", "one JSON document")
    .action((file: string, options: Options) => {
      const [ca, receipt] = [contentOf(options.ca), contentOf(file)];
      const roots = parseBundle(ca);
      const crl = bytesOf(options.crl);
      const revoked = crl && { revoked: parseRevocationList(crl, roots).revoked };
      const trust = { roots, at: timeOf(options.at), broker: options.broker, ...revoked };
      const verdict = verifyProof(
        { receipt: toCrlf(receipt), original: bytesOf(options.original), payload: bytesOf(options.payload) },
        trust,
      );
      if (options.json) console.log(JSON.stringify(verdict, null, 2));
      else {
        for (const { link, state, detail } of verdict.links) console.log(`${state.padEnd(8)} ${link}: ${detail}`);
        const { evidence } = verdict;
        if (evidence) console.log(`${verdict.holds ? "Proved" : "Not proved"}: ${claimOf(evidence)}`);
      }
      process.exitCode = verdict.holds ? 0 : 1;
    });
}
