/** A mailbox that the gateway works on as a folder of files (Maildir, maildir(5)), without IMAP. */
import { z } from "zod";
import { path, time } from "./parsed.ts";

/** `INBOX` is the Maildir itself, any other name its folder `.Name` (Maildir++). */
const folder = z.string().regex(/^[^/\0.][^/\0]{0,200}$/u, "must be INBOX or the name of a folder, without a slash and a dot before it");

export const maildir = z.strictObject({
  /** The folder with new, cur and tmp in it; the gateway's user must own what is in there. */
  path,
  watch: folder.default("INBOX"),
  /** Where opened letters are filed. */
  opened: folder.default("INBOX"),
  /** Where the sealed originals go after the confirmation; `remove` deletes them. */
  sealed: folder.default("remove"),
  /** How often is looked for new files that the system does not tell of, as on NFS. */
  poll: time("30s"),
});

export type MaildirConfig = z.output<typeof maildir>;
