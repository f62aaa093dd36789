/** `kakitome demo --json --stay`: a whole place for another program, described in one line, that carries a letter and its receipt and ends when asked. */
import { existsSync, readFileSync } from "node:fs";
import { afterAll, beforeAll, expect, test } from "@jest/globals";
import { ImapFlow } from "imapflow";
import { createTransport } from "nodemailer";
import { startKakitome, type Process } from "../walks/kakitome.ts";

interface Account {
  readonly host: string;
  readonly port: number;
  readonly user: string;
  readonly password: string;
}

interface Description {
  readonly smtp: Account;
  readonly imap: { readonly alice: Account; readonly bob: Account };
  readonly broker: { readonly url: string };
  readonly next_hop: { readonly host: string; readonly port: number };
  readonly ca: string;
  readonly data: string;
}

let demo: Process;
let place: Description;

beforeAll(async () => {
  demo = startKakitome(["demo", "--json", "--stay"]);
  place = (await demo.until("the description", (line) => "smtp" in line)) as unknown as Description;
});
afterAll(() => demo?.stop());

/** The first mail of an account that holds these words; news come by IDLE. */
async function mailWith({ host, port, user, password }: Account, words: string): Promise<string> {
  const client = new ImapFlow({
    host,
    port,
    secure: false,
    doSTARTTLS: false,
    auth: { user, pass: password },
    logger: false,
    disableAutoIdle: true,
  });
  client.on("error", () => undefined);
  await client.connect();
  try {
    await client.mailboxOpen("INBOX");
    for (;;) {
      const changed = new Promise<void>((resolve) => client.once("exists", () => resolve()));
      for await (const { source } of client.fetch("1:*", { source: true })) if (source?.includes(words)) return String(source);
      void client.idle().catch(() => undefined);
      await changed;
    }
  } finally {
    client.close();
  }
}

test("it prints one JSON line with everything a program needs, and no log", () => {
  expect(demo.text().split("\n")).toHaveLength(1);
  const account = { host: "127.0.0.1", port: expect.any(Number), user: expect.any(String), password: expect.any(String) };
  expect(place).toMatchObject({
    smtp: { ...account, user: "alice@a.example" },
    imap: { alice: { ...account, user: "alice@a.example" }, bob: { ...account, user: "bob@b.example" } },
    broker: { url: expect.stringMatching(/^https:\/\/127\.0\.0\.1:\d+$/u) },
    next_hop: { host: "127.0.0.1", port: expect.any(Number) },
    ca: expect.any(String),
    data: expect.any(String),
  });
  expect(readFileSync(place.ca, "utf8")).toMatch(/^-----BEGIN CERTIFICATE-----/u);
  expect(existsSync(place.data)).toBe(true);
});

test("a letter from nodemailer reaches Bob's INBOX opened, and its receipt Alice's", async () => {
  const { host, port, user, password } = place.smtp;
  const transport = createTransport({
    host,
    port,
    requireTLS: true,
    tls: { ca: readFileSync(place.ca, "utf8") },
    auth: { user, pass: password },
  });
  const sent = await transport.sendMail({
    from: user,
    to: place.imap.bob.user,
    subject: "from a program",
    text: "The text of the program.",
  });
  transport.close();
  expect(sent.response).toMatch(/^250 2\.0\.0 Accepted as [0-9a-f]{32}$/u);
  const letter = await mailWith(place.imap.bob, "The text of the program.");
  expect(letter).toContain("Subject: from a program");
  expect(letter).toMatch(/^Authentication-Results: gateway\.b\.example; smime=pass/u);
  const receipt = await mailWith(place.imap.alice, `In-Reply-To: ${sent.messageId}`);
  expect(receipt).toContain("Your registered letter was opened.");
});

test("SIGTERM ends it with 0, and its folder goes with it", async () => {
  expect(await demo.stop()).toBe(0);
  expect(existsSync(place.data)).toBe(false);
});
