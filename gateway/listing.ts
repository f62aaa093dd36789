/** What is in the watched folder of an IMAP server. A message that cannot be described does not keep the others from being listed. */
import type { FetchQueryObject, ImapFlow } from "imapflow";
import type { Seen } from "./mailbox.ts";
import { messageIdOf } from "./structure.ts";

const FACTS = { uid: true, size: true, flags: true, internalDate: true } as const;
/** Not ENVELOPE: it brings along every address of a mail, and one mail of a megabyte can have more of them than the library reads. */
const WHOLE: FetchQueryObject = { ...FACTS, bodyStructure: true, headers: ["message-id"] };
/** So many messages are asked for at a time while one is looked for that cannot be described. */
const PIECE = 100;

/**
 * Lasts longer than a connection: the library ends that at a response with more than a million tokens, such as the BODYSTRUCTURE of a mail that
 * encloses one to 200,000 addresses. From then on messages are asked for in pieces, then those of the piece one by one, until that mail is found.
 */
export class Listing {
  #isCareful = false;
  #uidValidity: bigint | undefined;
  /** One of them cannot be described. */
  #suspects: ReadonlySet<number> = new Set();
  readonly #indescribable = new Set<number>();
  #hasLearned = false;

  /** Whether the last connection ended at a message, and the next one comes further. Says so once. */
  hasLearned(): boolean {
    const hasLearned = this.#hasLearned;
    this.#hasLearned = false;
    return hasLearned;
  }

  /** Messages above a UID, in order; without structure where it cannot be described. @throws what the library throws */
  async above(client: ImapFlow, uid: number): Promise<Seen[]> {
    this.#keepTo(client);
    const range = `${uid + 1}:*`;
    const found = this.#isCareful ? await this.#carefully(client, range, uid) : await this.#ask(client, range, []);
    return found.filter((one) => one.uid > uid).sort((a, b) => a.uid - b.uid); // `n:*` always names the last message (RFC 3501 §6.4.8)
  }

  async #carefully(client: ImapFlow, range: string, uid: number): Promise<Seen[]> {
    const all = (await listed(client, range, FACTS)).filter((one) => one.uid > uid);
    const found = all.filter((one) => this.#indescribable.has(one.uid));
    const uids = all.map((one) => one.uid).filter((one) => !this.#indescribable.has(one));
    for (const piece of this.#pieces(uids)) found.push(...(await this.#ask(client, piece.join(","), piece)));
    this.#suspects = new Set();
    return found;
  }

  #pieces(uids: readonly number[]): number[][] {
    const others = uids.filter((uid) => !this.#suspects.has(uid));
    const pieces = uids.filter((uid) => this.#suspects.has(uid)).map((uid) => [uid]);
    for (let from = 0; from < others.length; from += PIECE) pieces.push(others.slice(from, from + PIECE));
    return pieces;
  }

  /** @param uids what the range names, where that is known */
  async #ask(client: ImapFlow, range: string, uids: readonly number[]): Promise<Seen[]> {
    try {
      return await listed(client, range, WHOLE);
    } catch (thrown) {
      if (thrown instanceof Error && Reflect.get(thrown, "code") === "TooManyTokens") {
        [this.#isCareful, this.#hasLearned] = [true, true];
        if (uids.length === 1) this.#indescribable.add(uids[0] ?? 0);
        this.#suspects = new Set(uids.length === 1 ? [] : uids);
      }
      throw thrown;
    }
  }

  /** With another UIDVALIDITY the same UIDs are other messages. */
  #keepTo({ mailbox }: ImapFlow): void {
    const uidValidity = mailbox === false ? undefined : mailbox.uidValidity;
    if (uidValidity === this.#uidValidity) return;
    this.#uidValidity = uidValidity;
    this.#suspects = new Set();
    this.#indescribable.clear();
  }
}

async function listed(client: ImapFlow, range: string, query: FetchQueryObject): Promise<Seen[]> {
  const found: Seen[] = [];
  for await (const { uid, size, flags, internalDate, headers, bodyStructure } of client.fetch(range, query, { uid: true })) {
    found.push({
      uid,
      octets: size ?? 0,
      flags: [...(flags ?? [])],
      internalDate: internalDate === undefined ? undefined : new Date(internalDate),
      messageId: headers && messageIdOf(headers),
      structure: bodyStructure,
    });
  }
  return found;
}
