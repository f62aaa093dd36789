// The matrix: every cell run, and docs/interop.md written from what came of it.
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { corpora } from "./corpora.mjs";
import { oursToTheirs } from "./ours.mjs";
import { makeParties } from "./parties.mjs";
import { readers } from "./readers.mjs";
import { theirsToOurs } from "./theirs.mjs";
import { Bench, Bouncy, versions } from "./tools.mjs";
import { writers } from "./writers.mjs";

const SKIPPED = "skipped: no corpora; KAKITOME_CORPORA names the folder that holds them";

/** @returns everything that was found; `corpora` is undefined where they are missing */
export async function runMatrix() {
  const bench = new Bench(mkdtempSync(join(tmpdir(), "kakitome-interop-")));
  const bouncy = new Bouncy(bench);
  try {
    const parties = await makeParties(bench);
    const tools = readers(bench, bouncy);
    const by = writers(bench, bouncy);
    return {
      versions: await versions(bench, bouncy),
      tools: tools.map(({ name }) => name),
      ours: await oursToTheirs(parties, tools, by),
      theirs: await theirsToOurs(parties, bench, by),
      corpora: corpora(bench),
    };
  } finally {
    bouncy.close();
    rmSync(bench.folder, { recursive: true, force: true });
  }
}

/** Cells in which a tool brought out something else than what went in. */
export function brokenCells({ ours, theirs }) {
  const rows = [...Object.values(ours), ...Object.values(theirs)].flat();
  return rows.filter((row) => row.some((cell) => cell.startsWith("no ("))).map((row) => row.join(" | "));
}

const line = (cells) => `| ${cells.map((text) => text.replaceAll("|", "\\|")).join(" | ")} |`;
const table = (head, rows) => [line(head), `|${"---|".repeat(head.length)}`, ...rows.map((row) => line(row))].join("\n");

/** @param kept the section about the corpora as it was, for a machine without them */
export function write({ versions, tools, ours, theirs, corpora: sets }, kept) {
  return `# Interoperability

Written by \`npm run interop\`, which runs every cell anew and fails where the result differs from this page; \`npm run interop -- --write\` accepts the new one.

${table(["tool", "version"], versions)}

- **yes**: the content that came out is, byte for byte, the one that went in, and where there is a signature the tool verified it.
- **refused (why)**: the reader would not take it. **accepted**: it should have been refused and was not. **no (why)**: something else came out.
- **cannot (why)**: the tool has no way to do it; the words are its own. Where a step failed, those behind it are "not opened".

## We write, they read

OpenSSL takes the mails apart by itself. BouncyCastle reads signed mails through JavaMail and its own S/MIME classes, envelopes as CMS objects; its release
has no ready class that opens AuthEnvelopedData under a key-encryption key or an agreed key, so \`test/interop/Bouncy.java\` sets those two together from its parts.
\`cmsutil\` of NSS reads CMS objects only: our own code parts the mails for it. "Kc alone": without the second layer (\`dual\`).

${table(["form", "sealed to", "signing", "step", ...tools], ours.letters)}

${table(["proof", ...tools], ours.proofs)}

\`openssl cms -verify_receipt\` does not look at the text beside a detached original: \`kakitome verify\` does.

That a tool says yes is worth nothing where it never says no:

${table(["must be refused", ...tools], ours.controls)}

Whose limit it is where an envelope cannot be opened, shown by the same algorithms out of OpenSSL's hands:

${table(["made by OpenSSL", ...tools], ours.comparison)}

## They write, we read

The reasons stand in our log only; outside, every failure to open is the one word \`cannot-open\`.

${table(["writer", "envelope", "Kakitome"], theirs.envelopes)}

${table(["writer", "signature", "Kakitome"], theirs.signatures)}

Of the tools, OpenSSL alone makes receipts of RFC 2634.

${table(["writer", "receipt", "Kakitome"], theirs.receipts)}

Refused on purpose: PKCS#1 v1.5 (its padding is an oracle, and Node.js decrypts it no more), 3DES and AES-128 and SHA-1 (one strong algorithm for each use
leaves nothing to relabel), CBC outside the enclosed form (malleable), more than one recipient or signer (one letter, one reader, one author), anything under Kc
that does not name its expiry and its broker.

${sets ? corporaSection(sets) : (kept ?? `## Corpora\n\n${SKIPPED}\n`)}`;
}

function corporaSection(sets) {
  const texts = sets.map(({ name, files, rows }) => {
    const sum = (word) => rows.filter(([, ours]) => ours.startsWith(word)).reduce((total, row) => total + Number(row[3]), 0);
    const found = `${files} files with CMS in them; of their layers we opened ${sum("opened")}, verified ${sum("verified")}, refused ${sum("refused")}.`;
    return `### ${name}\n\n${found}\n\n${table(["layer", "Kakitome", "OpenSSL", "count"], rows)}\n`;
  });
  return `## Corpora

S/MIME that nobody here wrote, taken apart layer by layer; where we refuse an envelope, what OpenSSL opened of it is looked into all the same.
OpenSSL is asked with the corpus's own keys and roots. "The certificate is not meant for this use" is the last of our checks: algorithms, digest and signature
had held, but the certificate does not name emailProtection, which we demand and the test authority of NSS leaves out.

${texts.join("\n")}`;
}
