// Each tool as a reader of what we wrote, by the same verbs; and the words of a cell, which come from what the tool did.
import { decodedBody, parseEntity, splitMultipart } from "../../dist/mime/entity.js";
import { SHELL } from "./parties.mjs";
import { ToolSaid } from "./tools.mjs";

/** `yes`: the result is what went in. `no`: the tool gave another. `cannot`: the tool gave none. */
export async function cell(work, expected) {
  try {
    const got = await work();
    return expected === undefined || got.equals(expected) ? "yes" : "no (the content differs)";
  } catch (thrown) {
    if (thrown instanceof ToolSaid) return `cannot (${thrown.message})`;
    throw thrown;
  }
}

/** For what must not be accepted. */
export async function control(work) {
  const said = await cell(work, undefined);
  return said === "yes" ? "accepted" : said.replace(/^cannot/u, "refused");
}

/** The CMS object in a sealed entity. */
const derIn = (entity) => decodedBody(parseEntity(entity));

/** Content and signature of a multipart/signed, parted by our own code. */
export function parted(entity) {
  const [content, file] = splitMultipart(parseEntity(entity));
  return { content, signature: derIn(file) };
}

/** Takes mails apart by itself. */
const openssl = (bench) => {
  const run = (input, ...args) => {
    const out = bench.name("out");
    bench.openssl("cms", ...args, "-in", input, "-out", out);
    return bench.get(out);
  };
  const trusted = ["-CAfile", "root.pem"];
  const signedData = (der, content, ...options) => {
    const beside = content ? ["-content", bench.put(content), "-binary"] : [];
    return run(bench.put(der), "-verify", "-inform", "DER", ...beside, ...trusted, ...options);
  };
  const keyOf = ({ name }) => ["-recip", `${name}.pem`, "-inkey", `${name}-key.pem`];
  return {
    name: "OpenSSL",
    verify: (der, content) => signedData(der, content),
    verifyCades: (der) => signedData(der, undefined, "-cades"),
    verifyMail: (mail) => run(bench.put(mail, bench.name("eml")), "-verify", ...trusted),
    openKek(der, key) {
      const named = ["-secretkeyid", SHELL.ticket.toString("hex")];
      return run(bench.put(der), "-decrypt", "-inform", "DER", "-secretkey", key.toString("hex"), ...named);
    },
    open: (der, to) => run(bench.put(der), "-decrypt", "-inform", "DER", ...keyOf(to)),
    openMail: (mail, to) => run(bench.put(mail, bench.name("eml")), "-decrypt", ...keyOf(to)),
    verifyReceipt(receipt, original, payload) {
      const files = ["-verify_receipt", bench.put(receipt), "-rctform", "DER", "-inform", "DER", "-in", bench.put(original)];
      return bench.openssl("cms", ...files, "-content", bench.put(payload), ...trusted);
    },
  };
};

/** JavaMail and BouncyCastle's S/MIME take signed mails apart; envelopes are given to it as CMS objects. */
const bouncyCastle = (bench, bouncy) => {
  const run = async (...job) => {
    const out = bench.name("out");
    await bouncy.run(...job, out);
    return bench.get(out);
  };
  const open = (der, { name }) => run("open", `${name}-key.der`, bench.put(der));
  return {
    name: "BouncyCastle",
    verify: (der, content) => run("verify", bench.put(der), content ? bench.put(content) : "-", "root.der"),
    verifyMail: (mail) => run("mail", bench.put(mail), "root.der"),
    openKek: (der, key) => run("kek", key.toString("hex"), bench.put(der)),
    open,
    openMail: (mail, to) => open(derIn(mail), to),
    comparesByHand: true,
    verifyReceipt: (receipt, original) => bouncy.run("receipt", bench.put(receipt), bench.put(original), "root.der"),
  };
};

/** cmsutil reads CMS objects only. */
const nss = (bench) => {
  const run = (der, ...options) => {
    const out = bench.name("out");
    bench.nss("cmsutil", "-D", "-i", bench.put(der), "-o", out, ...options);
    return bench.get(out);
  };
  /** With a detached content it writes nothing. */
  const verify = (der, content) => {
    if (!content) return run(der);
    run(der, "-c", bench.put(content));
    return content;
  };
  return {
    name: "NSS",
    verify,
    verifyMail(mail) {
      const { content, signature } = parted(mail);
      return verify(signature, content);
    },
    openKek: (der) => run(der),
    open: (der) => run(der),
    openMail: (mail) => run(derIn(mail)),
  };
};

export const readers = (bench, bouncy) => [openssl(bench), bouncyCastle(bench, bouncy), nss(bench)];
