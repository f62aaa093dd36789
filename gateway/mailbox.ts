/** One IMAP mailbox: what the watcher and the inbound walk do to it, and nothing else (RFC 3501, RFC 4315, RFC 6851). */
import { createSecureContext, type SecureContext } from "node:tls";
import { ImapFlow } from "imapflow";
import type { ImapConfig } from "../config/schema.ts";
import { Slots } from "../config/slots.ts";
import type { Use } from "../mime/entity.ts";
import { Fault } from "../mime/fault.ts";
import { Gathering } from "./gathering.ts";
import { Listing } from "./listing.ts";
import { LoginRefused, withLogin, type Login, type Proof } from "./login.ts";

/** A message as it is seen before it is fetched. */
export interface Seen {
  readonly uid: number;
  readonly octets: number;
  readonly flags: readonly string[];
  readonly internalDate: Date | undefined;
  /** As the header says it; undefined where there is none. */
  readonly messageId: string | undefined;
  /** Undefined where the message cannot be read, or described. */
  readonly structure: Structure | undefined;
}

/** The types of a message and its parts. */
export interface Structure {
  readonly type: string;
  readonly childNodes?: readonly Structure[] | undefined;
}

/** What the inbound walk does to one letter, wherever it is: in a mailbox, or on its way through us (passage.ts). */
export type Letterbox = Pick<ImapMailbox, "use" | "fetch" | "hasOpened" | "keepOne" | "append" | "flagNotOpened" | "retire">;

/** And what the watcher does to a mailbox, wherever that is (IMAP here, maildir.ts). */
export type Mailbox = Letterbox &
  Pick<ImapMailbox, "usable" | "canIdle" | "mayHaveMissed" | "uidValidity" | "seenAbove" | "idle" | "noop" | "close">;

/** Keyword on letters that were not opened; it says so to mail clients and other gateways. */
const NOT_OPENED = "$KakitomeNotOpened";

export interface MailboxAccess {
  readonly config: ImapConfig;
  readonly login: Login;
  /** PEM of the authorities to trust instead of the system's. */
  readonly ca: string | undefined;
}

/** The server said no to the login itself. */
const isRefusal = (cause: unknown): boolean => cause instanceof Error && Reflect.get(cause, "authenticationFailed") === true;

/** The library says `false` where the server refused or the line broke. */
function demandDone(answer: unknown): void {
  if (answer === false || answer === undefined) throw new Fault("unavailable", "the server did not do what it was asked");
}

function unlessRefused(cause: unknown): void {
  if (!(cause instanceof Error) || Reflect.get(cause, "responseStatus") !== "NO") throw cause;
}

const contexts = new Map<string | undefined, SecureContext>();

/** One for all mailboxes that trust the same authorities: each of its own would cost them 15 KiB. @param ca PEM; undefined for the system's */
function trusting(ca: string | undefined): SecureContext {
  const known = contexts.get(ca);
  if (known) return known;
  const context = createSecureContext({ ca });
  contexts.set(ca, context);
  return context;
}

/** A connection to one mailbox with its watched folder open. Every failure of the server or the line is Fault `unavailable`. */
export class ImapMailbox {
  /** Of what `fetch` gives: it is fetched anew each time. */
  readonly use: Use = "spend";
  readonly #client: ImapFlow;
  readonly #config: ImapConfig;
  readonly #listing: Listing;
  readonly #line = new Slots(1);
  readonly #fetching = new Gathering(this.#line, (uids: readonly number[]) => this.#fetchAll(uids));
  readonly #retiring = new Gathering(this.#line, (uids: readonly number[]) => this.#retireAll(uids));

  /** Folders that are there, as far as this connection knows. */
  readonly #made = new Set<string>();
  #wasAway = false;
  /** Of the watched folder; for all of this connection. */
  readonly uidValidity: string;

  private constructor(client: ImapFlow, config: ImapConfig, listing: Listing) {
    this.#client = client;
    this.#config = config;
    this.#listing = listing;
    this.uidValidity = uidValidityOf(client);
  }

  /**
   * Connects, authenticates and opens the watched folder. Without TLS only where the configuration says `none`.
   * @param changed called whenever the folder may hold something new, and when the connection ends
   * @param listing of the same folder, with what former connections found out
   */
  static async open(access: MailboxAccess, changed: () => void, listing = new Listing()): Promise<ImapMailbox> {
    const where = `the mailbox ${access.config.user} at ${access.config.host}`;
    return withLogin(access.login, where, async (proof) => {
      return new ImapMailbox(await ImapMailbox.#connect(access, proof, changed), access.config, listing);
    });
  }

  static async #connect({ config, ca }: MailboxAccess, proof: Proof, changed: () => void): Promise<ImapFlow> {
    const client = new ImapFlow({
      host: config.host,
      port: config.port,
      secure: config.tls === "implicit",
      ...(config.tls === "starttls" && { doSTARTTLS: true }),
      ...(config.tls === "none" && { doSTARTTLS: false }),
      tls: { rejectUnauthorized: true, secureContext: trusting(ca) }, // whatever NODE_TLS_REJECT_UNAUTHORIZED says
      auth: { user: config.user ?? "", ...proof },
      logger: false,
      disableAutoIdle: true,
      missingIdleCommand: "NOOP",
    });
    client.on("error", changed); // without a listener an error of the line would end the process
    client.on("exists", changed);
    client.on("close", changed);
    try {
      await client.connect();
      await client.mailboxOpen(config.watch);
    } catch (cause) {
      client.close();
      if (isRefusal(cause)) throw new LoginRefused(cause);
      throw new Fault("unavailable", `the mailbox ${config.user} at ${config.host} cannot be opened`, { cause });
    }
    return client;
  }

  /** What the server can, and which folders there are. */
  async survey(): Promise<{ readonly canIdle: boolean; readonly canExpungeExactly: boolean; readonly folders: readonly string[] }> {
    const folders = await this.#try("list folders", () => this.#client.list());
    const canExpungeExactly = this.#client.capabilities.has("UIDPLUS");
    return { canIdle: this.canIdle, canExpungeExactly, folders: folders.map(({ path }) => path) };
  }

  get usable(): boolean {
    return this.#client.usable;
  }

  get canIdle(): boolean {
    return this.#client.capabilities.has("IDLE");
  }

  /** Whether something may have come, unannounced, since messages were listed: the watched folder was left for a step. */
  get mayHaveMissed(): boolean {
    return this.#wasAway;
  }

  /** Messages above a UID, in order. */
  seenAbove(uid: number): Promise<Seen[]> {
    return this.#try("list messages", () => {
      this.#wasAway = false;
      return this.#listing.above(this.#client, uid);
    });
  }

  /** The whole message without marking it as read; undefined where it has gone meanwhile. */
  fetch(uid: number): Promise<Buffer | undefined> {
    return unavailableWhere("fetch a message", () => this.#fetching.add(uid));
  }

  async #fetchAll(uids: readonly number[]): Promise<ReadonlyMap<number, Buffer>> {
    const found = new Map<number, Buffer>();
    for await (const { uid, source } of this.#client.fetch(uids.join(","), { uid: true, source: true }, { uid: true })) {
      if (source) found.set(uid, source);
    }
    return found;
  }

  /** Whether the folder for opened letters holds the copy of this session. @param header name and value that mark it */
  hasOpened(header: { name: string; value: string }): Promise<boolean> {
    return this.#inOpened("search for an opened letter", async () => (await this.#find(header)).length > 0);
  }

  /** Removes every copy of this session's opened letter but the first. @param header name and value that mark them */
  keepOne(header: { name: string; value: string }): Promise<void> {
    return this.#inOpened("look for a second copy", async () => {
      const [, ...surplus] = await this.#find(header);
      if (surplus.length === 0) return;
      await this.#remove(surplus.join(","), this.#client.capabilities.has("UIDPLUS"));
    });
  }

  /**
   * Files an opened letter with the flags and the date of its original.
   * @param demandTurn throws where it is not to be filed any more; asked when nothing but filing is left to do
   */
  append(letter: Buffer, { flags, internalDate }: Seen, demandTurn: () => void = () => undefined): Promise<void> {
    const { opened } = this.#config;
    const kept = flags.filter((flag) => flag !== "\\Recent" && flag !== "\\Deleted" && flag !== NOT_OPENED);
    return this.#try("file an opened letter", () =>
      this.#with(opened, async () => {
        demandTurn();
        demandDone(await this.#client.append(opened, letter, kept, internalDate));
      }),
    );
  }

  /** Where the server keeps no keywords (PERMANENTFLAGS, RFC 3501 §7.1) the letter stays without. */
  flagNotOpened(uid: number): Promise<void> {
    return this.#try("flag a letter", async () => {
      const isFlagged = await this.#client.messageFlagsAdd(String(uid), [NOT_OPENED], { uid: true });
      if (!this.usable) demandDone(isFlagged);
    });
  }

  /** Moves the sealed original away, or removes it; no other message is ever expunged with it. */
  async retire(uid: number): Promise<void> {
    await unavailableWhere("put the sealed original away", () => this.#retiring.add(uid));
  }

  async #retireAll(uids: readonly number[]): Promise<ReadonlyMap<number, never>> {
    const [all, done] = [uids.join(","), new Map<number, never>()];
    const exact = this.#client.capabilities.has("UIDPLUS");
    const { sealed } = this.#config;
    if (sealed !== "remove") {
      const canMove = exact || this.#client.capabilities.has("MOVE");
      const put = canMove ? this.#client.messageMove : this.#client.messageCopy;
      await this.#with(sealed, async () => demandDone(await put.call(this.#client, all, sealed, { uid: true })));
      if (canMove) return done;
    }
    await this.#remove(all, exact);
    return done;
  }

  /** Waits inside IDLE; returns when another command is given. */
  async idle(): Promise<void> {
    try {
      await this.#client.idle();
    } catch {
      // the line broke: `changed` was called, and the next command says so
    }
  }

  /** Asks the server for news where it has no IDLE. */
  noop(): Promise<void> {
    return this.#try("ask for news", () => this.#client.noop());
  }

  async close(): Promise<void> {
    if (this.#client.usable) await this.#client.logout().catch(() => undefined);
    this.#client.close();
  }

  async #find({ name, value }: { name: string; value: string }): Promise<number[]> {
    const found = await this.#client.search({ header: { [name]: value } }, { uid: true });
    if (!Array.isArray(found)) throw new Fault("unavailable", "the server did not search");
    return found.sort((a, b) => a - b);
  }

  /** @param exact whether the server expunges what it is told and nothing else; EXPUNGE would take others' deleted messages along */
  async #remove(uids: string, exact: boolean): Promise<void> {
    if (exact) demandDone(await this.#client.messageDelete(uids, { uid: true }));
    else demandDone(await this.#client.messageFlagsAdd(uids, ["\\Deleted"], { uid: true }));
  }

  /** Works in the folder of opened letters; what came into the watched one meanwhile was not announced. */
  #inOpened<T>(what: string, step: () => Promise<T>): Promise<T> {
    const { opened, watch } = this.#config;
    return this.#try(what, async () => {
      try {
        await this.#with(opened, () => this.#client.mailboxOpen(opened));
        return await step();
      } finally {
        if (opened !== watch) await this.#backToWatched();
      }
    });
  }

  /** No step may go on in the other folder, nor in one that was made anew meanwhile: there the same UIDs are other messages. */
  async #backToWatched(): Promise<void> {
    try {
      await this.#client.mailboxOpen(this.#config.watch);
      if (uidValidityOf(this.#client) !== this.uidValidity) throw new Fault("unavailable", "the watched folder is another one now");
      this.#wasAway = true;
    } catch (cause) {
      this.#client.close();
      throw cause;
    }
  }

  /**
   * Does something with a folder, which is made before where it is missing. That is asked for once in a connection, and again after a failure:
   * somebody may have deleted it. A server that refuses may just have it: it need not say so in a code (RFC 3501 §6.3.3).
   */
  async #with<T>(path: string, step: () => Promise<T>): Promise<T> {
    if (path.toUpperCase() !== "INBOX" && !this.#made.has(path)) await this.#client.mailboxCreate(path).catch(unlessRefused);
    this.#made.add(path);
    try {
      return await step();
    } catch (thrown) {
      this.#made.delete(path);
      throw thrown;
    }
  }

  /** One step after the other: some of them leave the watched folder meanwhile. */
  #try<T>(what: string, step: () => Promise<T>): Promise<T> {
    return unavailableWhere(what, () => this.#line.run(step));
  }
}

function uidValidityOf({ mailbox }: ImapFlow): string {
  return mailbox === false ? "" : String(mailbox.uidValidity);
}

async function unavailableWhere<T>(what: string, step: () => Promise<T>): Promise<T> {
  try {
    return await step();
  } catch (cause) {
    if (cause instanceof Fault) throw cause;
    throw new Fault("unavailable", `the mail server did not let us ${what}`, { cause });
  }
}
