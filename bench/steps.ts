/** Steps of the protocol as octets, signed beforehand, and sent with so many under way at a time: what is timed is the broker's work. */
import { randomBytes } from "node:crypto";
import { setMaxListeners } from "node:events";
import { Pool } from "undici";
import { call } from "../broker/transport.ts";
import { grantsBody, openAnswer, signBody, SIGNED_TYPE } from "../broker/wire.ts";
import { verifyAsBroker } from "../mime/evidence.ts";
import type { Enrolled, Member } from "./enrolled.ts";

const { signal } = new AbortController();
setMaxListeners(0, signal); // every request under way listens
const DAY_MS = 86_400_000;
/** Requests under way, each on a kept connection of its own. */
const IN_FLIGHT = 64;

const name = (): string => randomBytes(18).toString("base64url");
const hash = (): string => randomBytes(32).toString("hex");

function signed({ broker, certificate }: Enrolled, { identity }: Member, step: string, body: object): Buffer {
  const now = new Date();
  const head = { step, broker: broker.url, gateway: certificate.fingerprint, request: name(), time: now.toISOString() };
  return signBody({ ...head, ...body }, identity.signer, now);
}

/** S1 for one recipient, a letter of its own. */
export function declaration(gateway: Enrolled, sender: Member, recipient: Member): Buffer {
  return signed(gateway, sender, "declare", {
    letter: name(),
    sender: sender.mailbox.address,
    messageId: `<${name()}@a.example>`,
    expiresAt: new Date(Date.now() + DAY_MS).toISOString(),
    confirm: "next-session",
    language: "en",
    recipients: [{ address: recipient.mailbox.address, commit: hash(), contentId: hash(), hold: "held", signing: "inner" }],
  });
}

/** S6. */
export function presentation(gateway: Enrolled, recipient: Member, ticket: Buffer): Buffer {
  return signed(gateway, recipient, "present", { ticket: ticket.toString("base64"), holder: name() });
}

/** The ticket in the answer to a declaration for one recipient. */
export function ticketIn(gateway: Enrolled, sender: Member, answer: Buffer): Buffer {
  const { grants } = openAnswer(grantsBody, verifyAsBroker(answer, gateway.client.trust), sender.identity.openers);
  const [grant] = grants;
  if (!grant) throw new Error("a declaration without a grant");
  return grant.ticket;
}

export interface Line {
  /** Asks for all of them. @returns the answers in the order of the requests */
  ask(path: string, requests: readonly Buffer[]): Promise<Buffer[]>;
  close(): Promise<void>;
}

/** Kept connections to every process of the broker, used in turn. */
export function lineTo({ broker, roots, certificate, key }: Enrolled): Line {
  const tls = {
    ca: roots.map(({ pem }) => pem),
    cert: certificate.pem,
    key: key.export({ type: "pkcs8", format: "pem" }),
    minVersion: "TLSv1.3" as const,
  };
  const pools = broker.doors.map((door) => new Pool(door, { connections: IN_FLIGHT / broker.doors.length, connect: tls }));
  return {
    async ask(path, requests) {
      const answers: Buffer[] = [];
      let next = 0;
      const one = async (pool: Pool): Promise<void> => {
        for (let at = next++; at < requests.length; at = next++) {
          const bytes = requests[at] ?? Buffer.alloc(0);
          answers[at] = await call(pool, "POST", path, { type: SIGNED_TYPE, bytes }, signal);
        }
      };
      await Promise.all(pools.flatMap((pool) => Array.from({ length: IN_FLIGHT / pools.length }, () => one(pool))));
      return answers;
    },
    async close() {
      await Promise.all(pools.map((pool) => pool.destroy()));
    },
  };
}
