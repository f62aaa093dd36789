// Each tool as a writer of what we read.
import { SHELL, THEIR_CONTENT } from "./parties.mjs";

/** The algorithms that we take, in OpenSSL's words, and those that it takes by itself. */
export const OAEP = ["-keyopt", "rsa_padding_mode:oaep", "-keyopt", "rsa_oaep_md:sha256", "-keyopt", "rsa_mgf1_md:sha256"];
export const OAEP_SHA1 = ["-keyopt", "rsa_padding_mode:oaep"];
export const ECDH = ["-keyopt", "ecdh_kdf_md:sha256", "-aes256-wrap"];
export const KEK = ["-secretkey", "c7".repeat(32), "-secretkeyid", SHELL.ticket.toString("hex")];
export const INDEFINITE = ["-stream", "-indef"];

/** The writers: each job returns DER or BER, its content THEIR_CONTENT. @throws ToolSaid */
export function writers(bench, bouncy) {
  const content = bench.put(THEIR_CONTENT, "theirs.mime");
  const openssl = (...args) => {
    const out = bench.name();
    bench.openssl("cms", ...args, "-binary", "-in", content, "-outform", "DER", "-out", out);
    return bench.get(out);
  };
  const withBouncy = async (...job) => {
    const out = bench.name();
    await bouncy.run(...job, content, out);
    return bench.get(out);
  };
  const nss = (...args) => {
    const out = bench.name();
    bench.nss("cmsutil", ...args, "-i", content, "-o", out);
    return bench.get(out);
  };
  return {
    seal: (cipher, to, ...options) => openssl("-encrypt", `-${cipher}`, "-recip", `${to}.pem`, ...options),
    sealTo: (cipher, ...options) => openssl("-encrypt", `-${cipher}`, ...options),
    sign: (who, ...options) => openssl("-sign", "-signer", `${who}.pem`, "-inkey", `${who}-key.pem`, ...options),
    bouncySeal: (form, keys, to) => withBouncy("seal", form, keys, `${to}.der`),
    bouncySign: (algorithm, who, place) => withBouncy("sign", algorithm, `${who}-key.der`, `${who}.der`, place),
    nssSeal: (to) => nss("-E", "-r", to),
    nssSign: (who, ...options) => nss("-S", "-N", who, "-G", ...options),
  };
}
