// S/MIME that nobody here wrote, taken apart layer by layer: what we say of each signature and envelope, and what OpenSSL says of the same.
import { X509Certificate, createPrivateKey } from "node:crypto";
import { existsSync, readFileSync, readdirSync } from "node:fs";
import { basename, join } from "node:path";
import { parseCertificate } from "../../dist/mime/certificate.js";
import { readSignedData } from "../../dist/mime/cms.js";
import { isOid, parse } from "../../dist/mime/der.js";
import { decodedBody, parseEntity, splitMultipart, toCrlf } from "../../dist/mime/entity.js";
import { OID } from "../../dist/mime/oids.js";
import { openEnclosed } from "../../dist/mime/open-enclosed.js";
import { limitsFor, openWithPrivateKey } from "../../dist/mime/open.js";
import { verify } from "../../dist/mime/sign.js";
import { reasonOf } from "./theirs.mjs";
import { ToolSaid } from "./tools.mjs";

const folder = process.env.KAKITOME_CORPORA ?? join(import.meta.dirname, "..", "..", "..", "shared", "corpora");
/** All their certificates hold then. */
const AT = new Date("2026-03-01T12:00:00Z");

/** Where each corpus keeps its messages, its keys (password of PKCS#12 files: nss) and its roots. */
const SETS = [
  {
    name: "thunderbird-smime",
    keys: ["Alice", "Alice-ec", "Bob", "Dave", "Eve", "Fran", "Fran-ec"].map((who) => `mailnews/test/data/smime/${who}.p12`),
    roots: ["mailnews/test/data/smime/TestCA.pem"],
  },
  { name: "nss-smime", keys: ["Fran", "Fran-ec"].map((who) => `tests/smime/interop-openssl/${who}.p12`), roots: [] },
  {
    name: "rfc4134-bc",
    keys: [
      ["rfc4134/BobPrivRSAEncrypt.pri", "rfc4134/BobRSASignByCarl.cer"],
      ["rfc4134/DianePrivRSASignEncrypt.pri", "rfc4134/DianeRSASignByCarl.cer"],
    ],
    roots: ["rfc4134/CarlRSASelf.cer", "rfc4134/CarlDSSSelf.cer"],
  },
];
const NO_MESSAGE = /\.(?:p12|pri|cer|crl|pem|db|json|sql|md)$/u;

/** undefined, with words on standard error, where the corpora are missing. */
export function corpora(bench) {
  if (!existsSync(folder)) {
    console.error("skipped: no corpora; KAKITOME_CORPORA names the folder that holds them");
    return undefined;
  }
  return SETS.map((set) => new Corpus(bench, set).read());
}

class Corpus {
  #bench;
  #set;
  #keys;
  #roots;
  /** `layer | ours | OpenSSL` -> how many. */
  #counts = new Map();
  #layers = 0;

  constructor(bench, set) {
    this.#bench = bench;
    this.#set = set;
    this.#keys = set.keys.map((key, at) => this.#key(key, `corpus-${set.name}-${at}`));
    this.#roots = set.roots.map((file) => this.#file(file));
    bench.put(this.#roots.map((octets) => pemOf(octets)).join(""), "corpus-roots.pem");
  }

  #file(...path) {
    return readFileSync(join(folder, this.#set.name, ...path));
  }

  /** Key and certificate as files for OpenSSL, and as an opener where we accept the certificate. */
  #key(key, name) {
    const bench = this.#bench;
    if (typeof key === "string") {
      const p12 = ["pkcs12", "-in", bench.put(this.#file(key)), "-passin", "pass:nss", "-nodes"];
      bench.openssl(...p12, "-nocerts", "-out", `${name}-key.pem`);
      bench.openssl(...p12, "-clcerts", "-nokeys", "-out", `${name}.pem`);
    } else {
      const [secret, certificate] = key.map((file) => this.#file(file));
      bench.put(
        createPrivateKey({ key: secret, format: "der", type: "pkcs8" }).export({ format: "pem", type: "pkcs8" }),
        `${name}-key.pem`,
      );
      bench.put(pemOf(certificate), `${name}.pem`);
    }
    const certificate = accepted(bench.get(`${name}.pem`));
    return { name, opener: certificate && { key: createPrivateKey(bench.get(`${name}-key.pem`)), certificate } };
  }

  read() {
    const files = readdirSync(join(folder, this.#set.name), { recursive: true, withFileTypes: true })
      .filter((entry) => entry.isFile() && !NO_MESSAGE.test(entry.name))
      .map((entry) => join(entry.parentPath, entry.name))
      .sort();
    let withCms = 0;
    for (const path of files) {
      const before = this.#layers;
      const octets = readFileSync(path);
      if (octets[0] === 0x30) this.#cms(octets, besides(path));
      else this.#mime(toCrlf(octets));
      if (this.#layers > before) withCms++;
    }
    const rows = [...this.#counts].sort(([a], [b]) => (a < b ? -1 : 1)).map(([key, count]) => [...key.split("\0"), String(count)]);
    return { name: this.#set.name, files: withCms, rows };
  }

  #count(layer, ours, openssl) {
    this.#layers++;
    const key = [layer, ours.said, openssl.said].join("\0");
    this.#counts.set(key, (this.#counts.get(key) ?? 0) + 1);
    return ours.content ?? openssl.content;
  }

  #mime(octets) {
    let entity;
    let parts = [];
    let body;
    try {
      entity = parseEntity(octets);
      if (entity.contentType.type.startsWith("multipart/")) parts = splitMultipart(entity);
      if (/^application\/(?:x-)?pkcs7-mime$/u.test(entity.contentType.type)) body = decodedBody(entity);
    } catch (thrown) {
      if (entity && /pkcs7/u.test(octets.toString("latin1"))) this.#count("MIME", refusal(thrown), { said: "not asked" });
      return;
    }
    if (body) this.#cms(body, undefined);
    else if (entity.contentType.type === "multipart/signed" && parts.length === 2 && isSignatureFile(parts[1])) {
      this.#signature(decodedBody(parseEntity(parts[1])), parts[0]);
      this.#mime(parts[0]);
    } else for (const part of parts) this.#mime(part);
  }

  #cms(der, detached) {
    const type = typeOf(der);
    if (type === OID.signedData) {
      const content = this.#signature(der, detached);
      if (content && !detached) this.#mime(toCrlf(content));
    } else if (type === OID.envelopedData || type === OID.authEnvelopedData) {
      const content = this.#envelope(der, type);
      if (content?.[0] === 0x30) this.#cms(content, undefined);
      else if (content) this.#mime(toCrlf(content));
    } else if (type) this.#count("another content type", { said: "refused (neither signature nor envelope)" }, { said: "not asked" });
  }

  #signature(der, detached) {
    const roots = this.#roots.flatMap((octets) => accepted(octets) ?? []);
    const ours = attempt(() => verify(der, { roots, at: AT, purpose: OID.emailProtection }, detached).content, "verified");
    const out = this.#bench.name("out");
    const beside = detached ? ["-content", this.#bench.put(detached)] : [];
    const trusted = ["-CAfile", "corpus-roots.pem", "-attime", String(AT.getTime() / 1000)];
    const file = this.#bench.put(der);
    const openssl = attempt(() => {
      this.#bench.openssl("cms", "-verify", "-binary", "-inform", "DER", "-in", file, ...beside, ...trusted, "-out", out);
      return this.#bench.get(out);
    }, "verified");
    return this.#count("signature", ours, openssl) ?? contentOf(der);
  }

  #envelope(der, type) {
    const openers = this.#keys.flatMap(({ opener }) => opener ?? []);
    const open = type === OID.envelopedData ? openEnclosed : openWithPrivateKey;
    const ours = attempt(() => open(der, openers), "opened");
    const file = this.#bench.put(der);
    const out = this.#bench.name("out");
    let openssl;
    for (const { name } of this.#keys) {
      const by = ["-recip", `${name}.pem`, "-inkey", `${name}-key.pem`];
      openssl = attempt(() => {
        this.#bench.openssl("cms", "-decrypt", "-inform", "DER", "-in", file, ...by, "-out", out);
        return this.#bench.get(out);
      }, "opened");
      if (openssl.content) break;
    }
    return this.#count("envelope", ours, openssl);
  }
}

const refusal = (thrown) => ({ said: `refused (${reasonOf(thrown).replace(/certificate of .* does/u, "certificate does")})` });

function attempt(work, word) {
  try {
    return { said: word, content: work() };
  } catch (thrown) {
    return thrown instanceof ToolSaid ? { said: "refused" } : refusal(thrown);
  }
}

function accepted(octets) {
  try {
    return parseCertificate(octets);
  } catch {
    return undefined;
  }
}

const pemOf = (octets) => new X509Certificate(octets).toString();

function isSignatureFile(part) {
  try {
    return /pkcs7-signature/u.test(parseEntity(part).contentType.type);
  } catch {
    return false;
  }
}

/** Dotted OID of a CMS object among those we know, "other" for another, undefined where it is none. */
function typeOf(der) {
  try {
    const [type] = parse(der, limitsFor(der.length)).children ?? [];
    const known = [OID.signedData, OID.envelopedData, OID.authEnvelopedData].find((dotted) => isOid(type, dotted));
    return known ?? (type.tag === 0x06 ? "other" : undefined);
  } catch {
    return undefined;
  }
}

function contentOf(der) {
  try {
    return readSignedData(der).content;
  } catch {
    return undefined;
  }
}

/** The file that a detached signature is over, by its name: alice.mime for alice.mime.dsig.SHA256. */
function besides(path) {
  const content = /^(.*)\.dsig\.SHA\d+$/u.exec(basename(path))?.[1];
  const file = content && join(path, "..", content);
  return file && existsSync(file) ? readFileSync(file) : undefined;
}
