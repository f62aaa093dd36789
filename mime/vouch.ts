/** Trust that passes from one root of a broker to its next: a root that is trusted certifies the other's key (RFC 4210 §4.4). */
import { issued, type Certificate } from "./certificate.ts";

/**
 * Which of the listed roots hold: those that are trusted already, and those whose key a root that holds has certified in a link. Whoever
 * has a broker's server, signing or session key, and no root's, can bring nobody to trust a root of his own.
 * @param links certificates of roots by roots, in any order
 */
export function vouched(
  trusted: readonly Certificate[],
  { listed, links, at }: { listed: readonly Certificate[]; links: readonly Certificate[]; at: Date },
): Certificate[] {
  const isTrusted = ({ fingerprint }: Certificate): boolean => trusted.some((root) => root.fingerprint === fingerprint);
  const holding = new Set(listed.filter(isTrusted));
  const isLinked = (root: Certificate): boolean =>
    isRoot(root, at) &&
    links.some((link) => speaksOf(link, root) && isSound(link, at) && [...trusted, ...holding].some((issuer) => issued(issuer, link)));
  for (let before = -1; before < holding.size;) {
    before = holding.size; // a root that was just vouched for may vouch for another
    for (const root of listed) if (!holding.has(root) && isLinked(root)) holding.add(root);
  }
  return listed.filter((root) => holding.has(root));
}

const isSound = ({ x509, strongSignature, unknownCritical, notBefore, notAfter }: Certificate, at: Date): boolean =>
  x509.ca && strongSignature && !unknownCritical && notBefore <= at && at <= notAfter;

const isRoot = (certificate: Certificate, at: Date): boolean => isSound(certificate, at) && issued(certificate, certificate);

/** A link carries the root's key under the root's name. */
function speaksOf(link: Certificate, root: Certificate): boolean {
  return link.publicKey.equals(root.publicKey) && link.x509.subject === root.x509.subject;
}
