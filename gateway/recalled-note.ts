/** What stands in a mailbox in place of a letter that its sender recalled: who, when, and nothing of what it said. */
import type { Mailbox } from "../mime/address.ts";
import { field, fieldsNamed, splitMessage, valueOf } from "../mime/headers.ts";
import { noticeMail } from "./notice.ts";
import { MARKER_FIELD } from "./opening.ts";
import { decodedWords } from "./subject.ts";
import { WORDS, type Language } from "./words.ts";

const LONGEST = 300;

/** @param sealed the mail with the envelope; what its header says was never verified, and is shown as what it is: a header's words */
export function recalledNote(
  sealed: Buffer,
  {
    host,
    own,
    language,
    marker,
    isEnclosed,
    now,
  }: { host: string; own: Mailbox; language: Language; marker: string; isEnclosed: boolean; now: Date },
): { readonly mail: Buffer; readonly messageId: string } {
  const { fields } = splitMessage(sealed);
  const said = (name: string): string => {
    const text = fieldsNamed(fields, name).map((item) => decodedWords(valueOf(item)))[0] ?? "-";
    return text
      .replaceAll(/[\p{Cc}\p{Cf}]+/gu, " ")
      .trim()
      .slice(0, LONGEST);
  };
  const messageId = said("message-id");
  const text = WORDS[language].recalledLetter({ sender: said("from"), sentAt: said("date"), messageId, isEnclosed });
  const id = `recalled-${marker}`;
  const mail = noticeMail({ host, to: own.address, language, text, id, now, about: messageId, fields: [field(MARKER_FIELD, marker)] });
  return { mail, messageId };
}
