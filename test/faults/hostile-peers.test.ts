/** The next hop, the broker's next hop and the mailbox behind a thief on the line: no mail and no password leaves without TLS to the right name. */
import { afterEach, beforeAll, describe, expect, test } from "@jest/globals";
import { smtpMailer } from "../../broker/outbox.ts";
import { ImapMailbox } from "../../gateway/mailbox.ts";
import { connectTo } from "../../gateway/next-hop.ts";
import {
  TRICKS,
  makeCertificates,
  startHostilePeer,
  type Certificates,
  type HostilePeer,
  type Protocol,
  type Trick,
} from "./hostile-peer.ts";

const USER = "the-user";
const PASSWORD = "the-password";
const MAIL = Buffer.from("From: alice@a.example\r\nTo: bob@b.example\r\n\r\nthe-text\r\n");
const TIMEOUTS = { connect: 2_000, greeting: 2_000, answer: 2_000 };

let certificates: Certificates;
const running: (() => Promise<void> | void)[] = [];
beforeAll(async () => {
  certificates = await makeCertificates();
});
afterEach(async () => {
  for (let stop = running.pop(); stop; stop = running.pop()) await stop();
});

async function peer(protocol: Protocol, trick: Trick, implicit: boolean): Promise<HostilePeer> {
  const started = await startHostilePeer(protocol, trick, certificates, implicit);
  running.push(() => started.close());
  return started;
}

interface Client {
  readonly name: string;
  readonly protocol: Protocol;
  /** Does what it would do with an honest server. */
  work(port: number, tls: "implicit" | "starttls"): Promise<unknown>;
}

const CLIENTS: readonly Client[] = [
  {
    name: "the relay to its next hop",
    protocol: "smtp",
    work(port, tls) {
      const auth = { user: USER, login: { pass: PASSWORD } };
      const transport = connectTo({
        host: "127.0.0.1",
        port,
        tls,
        ca: certificates.ca,
        auth,
        name: "gateway.a.example",
        timeouts: TIMEOUTS,
      });
      running.push(() => transport.close());
      return transport.sendMail({ envelope: { from: "alice@a.example", to: "bob@b.example" }, raw: MAIL });
    },
  },
  {
    name: "the broker to the next hop of its receipts",
    protocol: "smtp",
    work(port, tls) {
      const mailer = smtpMailer({ host: "127.0.0.1", port, tls, ca: certificates.ca, auth: { user: USER, pass: PASSWORD } });
      running.push(() => mailer.close());
      return mailer.send("bob@b.example", MAIL);
    },
  },
  {
    name: "the watcher to its mailbox",
    protocol: "imap",
    work: (port, tls) => openMailbox(port, tls, certificates.ca),
  },
];

async function openMailbox(port: number, tls: "implicit" | "starttls", ca: string): Promise<void> {
  const config = { host: "127.0.0.1", port, tls, user: USER, passwordFile: "", watch: "INBOX", opened: "INBOX", sealed: "remove" } as const;
  const access = { config: { ...config, poll: 1_000 as never }, login: { pass: PASSWORD }, ca };
  const mailbox = await ImapMailbox.open(access, () => undefined);
  running.push(() => mailbox.close());
}

const SECRETS = [
  USER,
  PASSWORD,
  Buffer.from(`\0${USER}\0${PASSWORD}`).toString("base64"),
  Buffer.from(USER).toString("base64"),
  "bob@b.example",
  "the-text",
];
const secretsIn = (text: string): string[] => SECRETS.filter((secret) => text.includes(secret));

describe.each(CLIENTS)("$name", ({ protocol, work }) => {
  test.each(["implicit", "starttls"] as const)(
    "works with an honest server (%s), which hears the password inside TLS only",
    async (tls) => {
      const honest = await peer(protocol, "none", tls === "implicit");
      await work(honest.port, tls);
      const { clear, inside } = honest.heard();
      expect(secretsIn(clear)).toEqual([]);
      expect(inside).toMatch(/AUTH/u);
    },
  );

  test.each(TRICKS)("tells a server nothing that plays this trick at STARTTLS: %s", async (trick) => {
    const hostile = await peer(protocol, trick, false);
    await expect(work(hostile.port, "starttls")).rejects.toThrow();
    const { clear, inside } = hostile.heard();
    expect(secretsIn(clear + inside)).toEqual([]);
  });

  test.each(["self-signed", "unknown authority", "expired", "wrong name"] as const)(
    "tells a server nothing that has this certificate: %s",
    async (trick) => {
      const hostile = await peer(protocol, trick, true);
      await expect(work(hostile.port, "implicit")).rejects.toThrow();
      const { clear, inside } = hostile.heard();
      expect(clear + inside).toBe("");
    },
  );

  test("believes no answer that was sent in the clear behind that to STARTTLS", async () => {
    const hostile = await peer(protocol, "injected", false);
    await expect(work(hostile.port, "starttls")).rejects.toThrow();
    const { clear, inside } = hostile.heard();
    expect(secretsIn(clear + inside)).toEqual([]);
    expect(inside).not.toMatch(/AUTH|LOGIN|MAIL|SELECT/u);
  });
});

test("the watcher leaves a server that says it is logged in already, before TLS: PREAUTH makes STARTTLS impossible", async () => {
  const hostile = await peer("imap", "preauth", false);
  const watcher = CLIENTS.find(({ protocol }) => protocol === "imap");
  await expect(watcher?.work(hostile.port, "starttls")).rejects.toMatchObject({ code: "unavailable" });
  expect(hostile.heard().clear).not.toMatch(/SELECT|APPEND|LOGIN|AUTHENTICATE|the-/u);
});

test("a mailbox trusts its own authorities, not those of a mailbox that was opened before it", async () => {
  const [before, honest] = [await peer("imap", "none", true), await peer("imap", "none", true)];
  await openMailbox(before.port, "implicit", certificates.ca);
  await expect(openMailbox(honest.port, "implicit", certificates.otherCa)).rejects.toMatchObject({ code: "unavailable" });
  const { clear, inside } = honest.heard();
  expect(clear + inside).toBe("");
});
