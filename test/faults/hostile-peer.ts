/** A mail server that strips, refuses or forges TLS, and keeps every octet that it is told nevertheless (RFC 3207 §6, RFC 9051 §6.2.1). */
import { createPublicKey } from "node:crypto";
import { createServer, type Socket } from "node:net";
import { TLSSocket, createSecureContext, type SecureContext } from "node:tls";
import { createRoot, issue } from "../../broker/authority.ts";
import { newKey } from "../../mime/request.ts";
import { freePort } from "../servers/ports.ts";

export type Protocol = "smtp" | "imap";

/** What the server does instead of starting TLS with a good certificate. */
export const TRICKS = [
  "stripped",
  "refused",
  "answered in the clear",
  "self-signed",
  "unknown authority",
  "expired",
  "wrong name",
] as const;
export type Trick = (typeof TRICKS)[number] | "injected" | "preauth" | "none";

export interface Certificates {
  /** PEM of the authority that the client trusts. */
  readonly ca: string;
  /** PEM of an authority that has certified nobody whom the client should believe. */
  readonly otherCa: string;
  readonly contexts: Readonly<Record<"good" | "self-signed" | "unknown authority" | "expired" | "wrong name", SecureContext>>;
}

export async function makeCertificates(): Promise<Certificates> {
  const day = 86_400_000;
  const at = (days: number): Date => new Date(Date.now() + days * day);
  const [root, stranger] = await Promise.all(["Known root", "Unknown root"].map((name) => createRoot(name, at(-100), at(100))));
  if (!root || !stranger) throw new Error("no roots");
  const context = async (issuer: typeof root, host = "127.0.0.1", [from, until]: [number, number] = [-1, 1]) => {
    const key = newKey();
    const order = { profile: "server" as const, publicKey: createPublicKey(key), commonName: host, hosts: [host] };
    const certificate = await issue(issuer, { ...order, notBefore: at(from), notAfter: at(until) });
    return createSecureContext({ key: key.export({ type: "pkcs8", format: "pem" }), cert: certificate.pem });
  };
  const self = createSecureContext({ key: stranger.key.export({ type: "pkcs8", format: "pem" }), cert: stranger.certificate.pem });
  return {
    ca: root.certificate.pem,
    otherCa: stranger.certificate.pem,
    contexts: {
      good: await context(root),
      "self-signed": self,
      "unknown authority": await context(stranger),
      expired: await context(root, "127.0.0.1", [-20, -10]),
      "wrong name": await context(root, "other.example"),
    },
  };
}

export interface HostilePeer {
  readonly port: number;
  /** All that was said in the clear, and all that was said inside TLS. */
  heard(): { clear: string; inside: string };
  close(): Promise<void>;
}

/** @param implicit whether TLS begins with the first octet */
export async function startHostilePeer(
  protocol: Protocol,
  trick: Trick,
  { contexts }: Certificates,
  implicit = false,
): Promise<HostilePeer> {
  let [clear, inside] = ["", ""];
  const sockets = new Set<Socket>();
  const context = trick in contexts ? contexts[trick as keyof typeof contexts] : contexts.good;
  const speak = protocol === "smtp" ? smtp : imap;

  const secure = (socket: Socket, greets: boolean): void => {
    const secured = new TLSSocket(socket, { isServer: true, secureContext: context });
    secured.on("error", () => undefined);
    secured.once("secure", () => {
      const talk = speak(secured, trick, { isSecure: true, greets, starttls: () => undefined, hangUp: () => undefined });
      secured.on("data", (chunk: Buffer) => {
        inside += chunk.toString("latin1");
        talk(chunk);
      });
    });
  };
  const server = createServer((socket) => {
    sockets.add(socket);
    socket.on("error", () => undefined).once("close", () => sockets.delete(socket));
    if (implicit) return secure(socket, true);
    const starttls = (): void => {
      socket.removeAllListeners("data");
      secure(socket, false);
    };
    const hangUp = (): void => {
      socket.removeAllListeners("data").once("data", (chunk: Buffer) => {
        clear += chunk.toString("latin1");
        socket.destroy();
      });
    };
    const talk = speak(socket, trick, { isSecure: false, greets: true, starttls, hangUp });
    socket.on("data", (chunk: Buffer) => {
      clear += chunk.toString("latin1");
      talk(chunk);
    });
  });
  const port = await freePort();
  await new Promise<void>((resolve) => server.listen(port, "127.0.0.1", resolve));
  return {
    port,
    heard: () => ({ clear, inside }),
    async close() {
      for (const socket of sockets) socket.destroy();
      await new Promise((resolve) => server.close(resolve));
    },
  };
}

interface Stage {
  readonly isSecure: boolean;
  readonly greets: boolean;
  starttls(): void;
  /** Keeps what is said next, and goes. */
  hangUp(): void;
}

/** Cuts what is heard into lines. */
function lines(hear: (line: string) => void): (chunk: Buffer) => void {
  let waiting = "";
  return (chunk) => {
    waiting += chunk.toString("latin1");
    for (let end = waiting.indexOf("\r\n"); end >= 0; end = waiting.indexOf("\r\n")) {
      const line = waiting.slice(0, end);
      waiting = waiting.slice(end + 2);
      hear(line);
    }
  };
}

const SMTP_FEATURES = "250-hop.example\r\n250-AUTH PLAIN LOGIN\r\n250 8BITMIME\r\n";

function smtp(socket: Socket, trick: Trick, { isSecure, greets, starttls, hangUp }: Stage): (chunk: Buffer) => void {
  let inData = false;
  if (greets) socket.write("220 hop.example ESMTP\r\n");
  return lines((line) => {
    const verb = line.slice(0, 8).toUpperCase();
    if (inData) {
      if (line === ".") socket.write("250 2.0.0 Taken\r\n");
      inData = line !== ".";
    } else if (verb === "STARTTLS") {
      if (trick === "stripped") socket.write("502 5.5.1 Unknown\r\n");
      else if (trick === "refused") socket.write("454 4.7.0 Not now\r\n");
      else if (trick === "answered in the clear") {
        socket.write(`220 Go\r\n${SMTP_FEATURES.repeat(3)}`);
        hangUp();
      } else {
        socket.write(trick === "injected" ? `220 Go\r\n${SMTP_FEATURES}235 2.7.0 Welcome\r\n` : "220 Go\r\n");
        starttls();
      }
    } else if (verb.startsWith("EHLO") && isSecure && trick === "injected") socket.write("554 5.3.0 No\r\n");
    else if (verb.startsWith("EHLO")) {
      const offers = !isSecure && trick !== "stripped";
      socket.write(offers ? SMTP_FEATURES.replace("250-AUTH", "250-STARTTLS\r\n250-AUTH") : SMTP_FEATURES);
    } else if (verb.startsWith("AUTH")) socket.write("235 2.7.0 Welcome\r\n");
    else if (verb.startsWith("DATA")) {
      inData = true;
      socket.write("354 Go on\r\n");
    } else if (verb.startsWith("QUIT")) socket.end("221 2.0.0 Bye\r\n");
    else socket.write("250 2.0.0 OK\r\n");
  });
}

const IMAP_FEATURES = "IMAP4rev1 AUTH=PLAIN SASL-IR";

function imap(socket: Socket, trick: Trick, { isSecure, greets, starttls, hangUp }: Stage): (chunk: Buffer) => void {
  const offers = !isSecure && trick !== "stripped";
  const features = offers ? `${IMAP_FEATURES} STARTTLS` : IMAP_FEATURES;
  if (greets && trick === "preauth") socket.write(`* PREAUTH [CAPABILITY ${features}] Welcome\r\n`);
  else if (greets) socket.write(`* OK [CAPABILITY ${features}] Hello\r\n`);
  return lines((line) => {
    const [tag = "", verb = ""] = line.split(" ");
    if (verb.toUpperCase() === "STARTTLS") {
      if (trick === "stripped" || trick === "refused") socket.write(`${tag} NO Not now\r\n`);
      else if (trick === "answered in the clear") {
        socket.write(`${tag} OK Go\r\n* CAPABILITY ${IMAP_FEATURES}\r\n`);
        hangUp();
      } else {
        socket.write(trick === "injected" ? `${tag} OK Go\r\n* PREAUTH Welcome\r\n` : `${tag} OK Go\r\n`);
        starttls();
      }
    } else if (verb.toUpperCase() === "CAPABILITY") socket.write(`* CAPABILITY ${features}\r\n${tag} OK\r\n`);
    else if (verb.toUpperCase() === "LOGOUT") socket.end(`* BYE\r\n${tag} OK\r\n`);
    else if (verb.toUpperCase() === "LOGIN" || verb.toUpperCase() === "AUTHENTICATE") socket.write(`${tag} OK Welcome\r\n`);
    else if (verb.toUpperCase() === "SELECT")
      socket.write(`* 0 EXISTS\r\n* OK [UIDVALIDITY 1]\r\n* OK [UIDNEXT 1]\r\n${tag} OK [READ-WRITE]\r\n`);
    else socket.write(`${tag} OK\r\n`);
  });
}
