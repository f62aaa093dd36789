/** Names in the broker's data folder. */

export const FILES = {
  rootKey: "root.key.pem",
  /** Every root that ever issued or is about to, for whoever verifies; the one that issues now stands first. */
  roots: "ca.pem",
  /** Roots certified by each other. */
  links: "ca-links.pem",
  /** Of a root that is announced and does not issue yet. */
  nextRootKey: "root-next.key.pem",
  signingKey: "signing.key.pem",
  signing: "signing.crt.pem",
  sessionKey: "session.key.pem",
  session: "session.crt.pem",
  serverKey: "server.key.pem",
  server: "server.crt.pem",
  masterKey: "master.key",
  dayKeys: "days",
  witness: "table.witness",
  table: "table.db",
} as const;

/** Session keys of former times keep their pair under this name and their fingerprint, so that tickets sealed to them still open. */
export const FORMER_SESSION = /^session-([0-9a-f]{64})\.crt\.pem$/u;

/** A former root's key, which signs revocation lists until nothing of it counts any more. */
export const formerRootKey = (fingerprint: string): string => `root-${fingerprint}.key.pem`;

/** When the last certificate of a former root ends. */
export const formerRootEnd = (fingerprint: string): string => `root-${fingerprint}.until`;
