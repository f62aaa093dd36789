// What we write, read by others: letters in every form and order of signing, evidence, receipts, and what they must refuse.
import { createPublicKey } from "node:crypto";
import { createRoot, issue } from "../../dist/broker/authority.js";
import { decodedBody, parseEntity } from "../../dist/mime/entity.js";
import { readSignedData } from "../../dist/mime/cms.js";
import { evidenceId, signEvidence } from "../../dist/mime/evidence.js";
import { ContentKey } from "../../dist/mime/key.js";
import { sealLetter, signLetter } from "../../dist/mime/letter.js";
import { readSealed } from "../../dist/mime/message.js";
import { openWithKey } from "../../dist/mime/open.js";
import { makeReceipt } from "../../dist/mime/receipt.js";
import { buildReceipt } from "../../dist/mime/report.js";
import { newKey } from "../../dist/mime/request.js";
import { sealWithKey } from "../../dist/mime/seal.js";
import { sign, verify } from "../../dist/mime/sign.js";
import { BROKER, CONTENT_ID, MESSAGE_ID, NONCE, NOW, OUTER, PAYLOAD, SHELL, THEIR_CONTENT, alice, bob, trustOf } from "./parties.mjs";
import { cell, control, parted } from "./readers.mjs";
import { ECDH, OAEP } from "./writers.mjs";

const ORDERS = ["inner", "outer", "both"];
const LETTERS = [
  ...ORDERS.map((order) => ({ hold: "held", to: undefined, order })),
  ...ORDERS.map((order) => ({ hold: "held", to: "p256", order })),
  { hold: "held", to: "rsa", order: "inner" },
  ...ORDERS.map((order) => ({ hold: "enclosed", to: "p256", order })),
  ...ORDERS.map((order) => ({ hold: "enclosed", to: "rsa", order })),
  ...ORDERS.map((order) => ({ hold: "enclosed", to: "rsa", order, transport: "pkcs1" })),
];
const NAMES = { p256: "P-256", rsa: "RSA-2048" };

function write(parties, { hold, to, order, transport = "oaep" }, octets) {
  const signing = { order, signer: parties.signer, time: NOW, contentId: CONTENT_ID, brokerUrl: BROKER };
  const letter = signLetter(PAYLOAD, NONCE, signing);
  const certificate = to && parties[to].certificate;
  const form = hold === "held" ? { hold, dual: certificate } : { hold, certificate, transport };
  const { mail } = sealLetter(letter, { key: ContentKey.adopt(Buffer.from(octets)), shell: SHELL, ...form }, OUTER, alice, signing);
  return { mail, entity: letter.entity };
}

/** The steps of reading a letter, each on what the same tool brought out of the step before: [what, the tool's work, what must come out]. */
function steps(parties, kind, octets) {
  const { mail, entity } = write(parties, kind, octets);
  const { envelope, outside } = readSealed(mail);
  const recipient = kind.to && parties[kind.to];
  const list = [];
  if (outside) list.push(["signature outside", (tool) => tool.verifyMail(mail), outside.content]);
  if (kind.hold === "enclosed") list.push(["envelope", (tool, before) => tool.openMail(before ?? mail, recipient), entity]);
  else {
    const content = openWithKey(envelope, ContentKey.adopt(Buffer.from(octets)));
    list.push([kind.to ? "layer of Kc" : "envelope", (tool) => tool.openKek(envelope, octets), content]);
    if (kind.to) list.push(["layer of the certificate", (tool, before) => tool.open(decodedBody(parseEntity(before)), recipient), entity]);
  }
  if (kind.order !== "outer") list.push(["signature inside", (tool, before) => tool.verifyMail(before), parted(entity).content]);
  return list;
}

async function letterRows(parties, tools) {
  const rows = [];
  for (const kind of LETTERS) {
    const octets = Buffer.alloc(32, 0xc7);
    const list = steps(parties, kind, octets);
    const columns = [];
    for (const tool of tools) columns.push(await walk(tool, list));
    const title = [kind.hold, kind.to ? `${NAMES[kind.to]}${kind.transport === "pkcs1" ? ", PKCS#1 v1.5" : ""}` : "Kc alone", kind.order];
    list.forEach(([what], at) => rows.push([...title, what, ...columns.map((column) => column[at])]));
  }
  return rows;
}

/** The signature outside stands in nobody's way: what fails there stops only its own step. */
async function walk(tool, list) {
  const cells = [];
  let before;
  let opened = true;
  for (const [what, work, expected] of list) {
    let out;
    const said = opened ? await cell(async () => (out = await work(tool, before)), expected) : "cannot (not opened)";
    cells.push(said);
    opened = opened && (said === "yes" || what === "signature outside");
    before = said === "yes" ? out : undefined;
  }
  return cells;
}

/** Evidence and receipts about one letter that was signed inside. */
async function proofRows(parties, tools) {
  const signing = { order: "inner", signer: parties.signer, time: NOW, contentId: CONTENT_ID, brokerUrl: BROKER };
  const { signatureFile: original, commit } = signLetter(PAYLOAD, NONCE, signing);
  const receipt = makeReceipt(verify(original, trustOf(parties), PAYLOAD), parties.bobSigner, NOW);
  const { evidence, released } = statements(parties, commit);
  const der = signEvidence(evidence, parties.broker, NOW);
  const order = { evidence, released, recipientReceipt: receipt, from: "receipts@broker.example", host: "broker.example", time: NOW };
  const mail = buildReceipt(order, parties.broker);
  const altered = Buffer.from(PAYLOAD.toString("latin1").replace("The secret text", "The secret next"), "latin1");
  const json = Buffer.from(`${JSON.stringify(evidence, null, 2)}\n`);
  return table(tools, [
    ["original.p7s over the payload", (tool) => cell(() => tool.verify(original, PAYLOAD), PAYLOAD)],
    ["evidence.p7m", (tool) => signatureOf(tool, der)],
    ["evidence.p7m as CAdES", (tool) => (tool.verifyCades ? cell(() => tool.verifyCades(der), json) : "cannot (no such check)")],
    ["receipt.eml", (tool) => cell(() => tool.verifyMail(mail), parted(mail).content)],
    ["recipient-receipt.p7m, its signature", (tool) => signatureOf(tool, receipt)],
    ["recipient-receipt.p7m against original.p7s", (tool) => against(tool, (check) => check(receipt, original, PAYLOAD), cell)],
    ["the same beside an altered payload", (tool) => against(tool, (check) => check(receipt, original, altered), control)],
  ]);
}

/** A tool may read over a content type that it does not know; its yes counts only if it refuses an altered content. */
async function signatureOf(tool, der) {
  const { content } = readSignedData(der);
  const altered = Buffer.from(der);
  altered[altered.indexOf(content) + content.length - 1] ^= 1;
  if ((await control(() => tool.verify(altered))) === "accepted") return "cannot (accepts an altered one as well)";
  let written;
  const said = await cell(async () => (written = await tool.verify(der)), content);
  return written?.length === 0 ? "yes (signature only: it writes no content of this type)" : said;
}

/** BouncyCastle has no receipts of RFC 2634, NSS neither; what Bouncy.java compares by hand never looks at the payload. */
async function against(tool, work, judge) {
  if (!tool.verifyReceipt) return "cannot (no such check)";
  if (tool.comparesByHand && judge === control) return "cannot (no such check)";
  const said = await judge(() => work(tool.verifyReceipt), undefined);
  return said === "yes" && tool.comparesByHand ? "yes (compared by Bouncy.java)" : said;
}

function statements({ bobSigner }, commit) {
  const hash = "0".repeat(64);
  const time = NOW.toISOString();
  const about = { broker: BROKER, sender: alice.address, recipient: bob.address, messageId: MESSAGE_ID, hold: "held", signing: "inner" };
  const row = {
    commit,
    contentId: CONTENT_ID.toString("hex"),
    session: hash,
    declaredAt: time,
    releasedAt: time,
    auditHead: "a0".repeat(32),
  };
  const [first, second] = ["SubmissionAcceptance", "ContentAccessTracking"].map((event) => evidenceId(event, hash));
  const released = { version: 1, event: "ContentAccessTracking", evidence: second, previous: first, ...about, ...row };
  const bound = { recipientCertificate: bobSigner.certificate.fingerprint, recipientReceipt: hash, openingValue: "" };
  const named = { event: "ContentHandover", evidence: "evidence-of-letter-1-000", previous: second };
  return { released, evidence: { version: 1, ...named, ...about, ...row, confirmedAt: time, ...bound } };
}

/** That a tool says yes is worth nothing where it never says no. */
async function controlRows(parties, tools) {
  const { der } = sign(PAYLOAD, parties.signer, { time: NOW, detached: true });
  const altered = Buffer.from(PAYLOAD);
  altered[altered.length - 5] ^= 1;
  const octets = Buffer.alloc(32, 0xc7);
  const envelope = sealWithKey(PAYLOAD, ContentKey.adopt(Buffer.from(octets)), SHELL);
  envelope[envelope.length - 40] ^= 1; // in the ciphertext
  const stranger = sign(PAYLOAD, await strangerSigner(), { time: NOW, detached: true }).der;
  return table(tools, [
    ["a signature over a text with one bit altered", (tool) => control(() => tool.verify(der, altered))],
    ["a signature by a certificate of another root", (tool) => control(() => tool.verify(stranger, PAYLOAD))],
    ["a held envelope with one bit of the ciphertext altered", (tool) => control(() => tool.openKek(envelope, octets))],
  ]);
}

async function strangerSigner() {
  const [notBefore, notAfter] = [new Date("2020-01-01T00:00:00Z"), new Date("2045-01-01T00:00:00Z")];
  const root = await createRoot("Another root", notBefore, notAfter);
  const key = newKey();
  const order = {
    profile: "mailbox-signing",
    publicKey: createPublicKey(key),
    commonName: "stranger",
    mailboxes: [alice],
    notBefore,
    notAfter,
  };
  return { key, certificate: await issue(root, order) };
}

async function table(tools, rows) {
  const done = [];
  for (const [what, work] of rows) {
    const cells = [];
    for (const tool of tools) cells.push(await work(tool));
    done.push([what, ...cells]);
  }
  return done;
}

/** Whose fault it is when a tool cannot open an envelope: the same algorithms out of OpenSSL's hands. */
async function comparisonRows({ p256, rsa }, tools, by) {
  const rows = [
    ["EnvelopedData, AES-256-CBC, P-256 SHA-256 KDF", () => by.seal("aes-256-cbc", p256.name, ...ECDH), p256],
    ["EnvelopedData, AES-256-CBC, P-256 SHA-1 KDF", () => by.seal("aes-256-cbc", p256.name), p256],
    ["EnvelopedData, AES-256-CBC, RSA OAEP SHA-256", () => by.seal("aes-256-cbc", rsa.name, ...OAEP), rsa],
    ["EnvelopedData, AES-256-CBC, RSA PKCS#1 v1.5", () => by.seal("aes-256-cbc", rsa.name), rsa],
    ["AuthEnvelopedData, AES-256-GCM, RSA PKCS#1 v1.5", () => by.seal("aes-256-gcm", rsa.name), rsa],
  ];
  return table(
    tools,
    rows.map(([what, write, to]) => {
      const der = write();
      return [what, (tool) => cell(() => tool.open(der, to), THEIR_CONTENT)];
    }),
  );
}

export const oursToTheirs = async (parties, tools, by) => ({
  comparison: await comparisonRows(parties, tools, by),
  letters: await letterRows(parties, tools),
  proofs: await proofRows(parties, tools),
  controls: await controlRows(parties, tools),
});
