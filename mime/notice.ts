/** The readable part of a sealed letter: fixed words for whoever opens it in an ordinary mail client. */
import type { Mailbox } from "./address.ts";
import { textEntity } from "./entity.ts";

/** A name that begins with www is a link to many clients. */
const plain = (name: string): string => name.replace(/^(www)\./iu, "$1 dot ");

/** Written so that no mail client makes a link of it: an address that can be clicked in a sealed letter teaches the wrong habit. */
export function noticePart(sender: Mailbox, brokerUrl: string, expiresAt: Date): Buffer {
  const { hostname, port } = new URL(brokerUrl);
  const broker = `${plain(hostname)}${port === "" ? "" : `, port ${port}`}`;
  return textEntity(
    [
      "This is a registered letter. Its text is sealed in the attached file.",
      "",
      `Sender:     ${sender.local} at ${plain(sender.domain)}`,
      `Key kept:   by the broker ${broker}`,
      `            until ${expiresAt.toISOString().slice(0, 16).replace("T", " ")} UTC`,
      "",
      "Your mail gateway opens it by itself and files it readable in your mailbox;",
      "the sender then gets a receipt. If this notice stays, ask the person who",
      "looks after your mail. No password is needed, and no link has to be followed.",
      "",
    ].join("\n"),
  );
}
