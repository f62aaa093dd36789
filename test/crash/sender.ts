/** Alice's mail client: submits a mail again and again, always the same one, until the gateway says 250; tells the ledger what it saw. */
import { readFileSync } from "node:fs";
import { setTimeout as pause } from "node:timers/promises";
import { Talk } from "../gateway/talk.ts";
import { ALICE, passwordOf, type Place } from "../walks/place.ts";

export interface Mail {
  /** Stands in subject and text and nowhere else: whoever holds it can read the mail. */
  readonly token: string;
  /** Unique too, and no secret. */
  readonly messageId: string;
  readonly recipients: readonly string[];
  /** In place of one that holds the token. */
  readonly subject?: string;
}

/** What one attempt ended with. */
export type Answer = "250" | "4xx" | "5xx" | "lost";

const AGAIN_MS = 100;
const REPLY_WITHIN_MS = 30_000;

const kindOf = (reply: string): Answer => (reply.startsWith("2") ? "250" : reply.startsWith("5") ? "5xx" : "4xx");

function textOf({ token, messageId, recipients, subject = `crash ${token}` }: Mail): string {
  const head = [`From: ${ALICE}`, `To: ${recipients.join(", ")}`, `Subject: ${subject}`, `Message-ID: ${messageId}`];
  return [...head, "Date: Thu, 01 Jan 2026 00:00:00 +0000", "", `The text of the letter: ${token}`].join("\r\n");
}

/** One attempt over one connection; a recipient who is refused ends it, so that all get the mail or none. */
export async function attempt(place: Pick<Place, "a" | "doorCa">, mail: Mail): Promise<Answer> {
  let talk: Talk | undefined;
  let patience: NodeJS.Timeout | undefined;
  try {
    talk = await Talk.openTls(place.a.smtpsPort, readFileSync(place.doorCa, "utf8"));
    patience = setTimeout((open: Talk) => open.close(), REPLY_WITHIN_MS, talk);
    await talk.say("EHLO client.a.example");
    const steps = [() => talk?.login(ALICE, passwordOf(ALICE)), () => talk?.say(`MAIL FROM:<${ALICE}>`)];
    for (const recipient of mail.recipients) steps.push(() => talk?.say(`RCPT TO:<${recipient}>`));
    for (const step of steps) {
      const reply = (await step()) ?? "";
      if (kindOf(reply) !== "250") return kindOf(reply);
    }
    return kindOf(await talk.data(textOf(mail)));
  } catch {
    return "lost";
  } finally {
    clearTimeout(patience);
    talk?.close();
  }
}

/** Tries until 250. @param saw told after each attempt @throws Error where it is refused for good */
export async function send(
  place: Pick<Place, "a" | "doorCa">,
  mail: Mail,
  saw: (answer: Answer) => void,
  signal: AbortSignal,
): Promise<void> {
  for (;;) {
    const answer = await attempt(place, mail);
    saw(answer);
    if (answer === "250") return;
    if (answer === "5xx") throw new Error(`the gateway refused ${mail.token} for good`);
    await pause(AGAIN_MS, undefined, { signal });
  }
}
