/** What `kakitome status` shows: letters that were sent with their receipts, and sealed letters that were not opened with their reasons. */
import { join } from "node:path";
import type { GatewayConfig } from "../config/schema.ts";
import { Journal, type JournalEntry } from "./journal.ts";
import { Letters, type Letter, type LetterRecipient } from "./letters.ts";

/** Folders below a gateway's `data`. */
export const FOLDERS = { spool: "spool", journal: "journal", letters: "letters", directory: "directory" } as const;

export interface Status {
  readonly sent: readonly (Omit<Letter, "recipients"> & {
    readonly recipients: readonly (LetterRecipient & { readonly receipt?: string })[];
  })[];
  readonly notOpened: readonly JournalEntry[];
}

/** Reads the gateway's own records; the gateway may run meanwhile. @param messageId one letter only */
export async function readStatus(config: GatewayConfig, messageId?: string): Promise<Status> {
  const letters = new Letters(join(config.data, FOLDERS.letters));
  const journal = new Journal(join(config.data, FOLDERS.journal));
  const sent = (await letters.all())
    .filter((letter) => messageId === undefined || letter.messageId === messageId)
    .map((letter) => ({
      ...letter,
      recipients: letter.recipients.map((one) => ({
        ...one,
        ...(one.evidence !== undefined && { receipt: letters.pathOf(`${one.evidence}.receipt.eml`) }),
      })),
    }));
  const failed = (await journal.all()).filter(({ stage }) => stage === "failed");
  return { sent, notOpened: messageId === undefined ? failed : [] };
}
