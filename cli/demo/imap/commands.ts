/** The table of commands, and how one is run from its line to its tagged answer: RFC 3501 §5.5 and §6. */

import * as access from "./access.ts";
import * as folders from "./folders.ts";
import type { RawCommand } from "./input.ts";
import * as messages from "./messages.ts";
import { Arguments } from "./parse.ts";
import { bad, Refusal } from "./refusal.ts";
import type { Command, Done, Session } from "./session.ts";

/** When a command is allowed, what it does, and whether expunges must wait until another. */
interface Row {
  readonly state: "any" | "guest" | "user" | "selected";
  readonly run: Command;
  readonly holdsExpunges?: true;
}

const ROWS: Readonly<Record<string, Row>> = {
  CAPABILITY: { state: "any", run: access.capability },
  NOOP: { state: "any", run: access.noop },
  LOGOUT: { state: "any", run: access.logout },
  ID: { state: "any", run: access.identify },
  STARTTLS: { state: "guest", run: access.startTls },
  LOGIN: { state: "guest", run: access.login },
  AUTHENTICATE: { state: "guest", run: access.authenticate },
  ENABLE: { state: "user", run: access.enable },
  IDLE: { state: "user", run: access.idle },
  NAMESPACE: { state: "user", run: folders.namespace },
  SELECT: { state: "user", run: folders.open(false) },
  EXAMINE: { state: "user", run: folders.open(true) },
  CREATE: { state: "user", run: folders.create },
  DELETE: { state: "user", run: folders.remove },
  RENAME: { state: "user", run: folders.rename },
  SUBSCRIBE: { state: "user", run: folders.subscribe },
  UNSUBSCRIBE: { state: "user", run: folders.unsubscribe },
  LIST: { state: "user", run: folders.listFolders },
  LSUB: { state: "user", run: folders.listSubscribed },
  STATUS: { state: "user", run: folders.status },
  APPEND: { state: "user", run: folders.append },
  CHECK: { state: "selected", run: access.noop },
  CLOSE: { state: "selected", run: messages.close },
  UNSELECT: { state: "selected", run: messages.unselect },
  EXPUNGE: { state: "selected", run: messages.expunge("seq") },
  "UID EXPUNGE": { state: "selected", run: messages.expunge("uid") },
  // RFC 3501 §7.4.1: no EXPUNGE in answer to these three; their UID forms do not speak in sequence numbers.
  FETCH: { state: "selected", run: messages.fetch("seq"), holdsExpunges: true },
  STORE: { state: "selected", run: messages.store("seq"), holdsExpunges: true },
  SEARCH: { state: "selected", run: messages.search("seq"), holdsExpunges: true },
  "UID FETCH": { state: "selected", run: messages.fetch("uid") },
  "UID STORE": { state: "selected", run: messages.store("uid") },
  "UID SEARCH": { state: "selected", run: messages.search("uid") },
  COPY: { state: "selected", run: messages.copy("seq") },
  "UID COPY": { state: "selected", run: messages.copy("uid") },
  MOVE: { state: "selected", run: messages.move("seq") },
  "UID MOVE": { state: "selected", run: messages.move("uid") },
};

/** Run one command and answer it. What is no Refusal is a fault of ours: `report` gets it, and the client a NO. */
export async function execute(session: Session, raw: RawCommand, report: (fault: unknown) => void): Promise<void> {
  const args = new Arguments(raw);
  const tag = args.tag();
  let done: Done;
  try {
    if (raw.refusal !== undefined) throw raw.refusal;
    if (tag === undefined) throw bad("a command begins with a tag");
    done = await run(session, args);
  } catch (cause) {
    if (!(cause instanceof Refusal)) report(cause);
    refuse(session, tag, cause instanceof Refusal ? cause : new Refusal("NO", "the server failed", { code: "SERVERBUG" }));
    return;
  }
  session.say(`${tag ?? "*"} OK ${done.code === undefined ? "" : `[${done.code}] `}${done.text}`);
  await done.after?.();
}

async function run(session: Session, args: Arguments): Promise<Done> {
  args.space();
  const first = args.word("the name of a command is missing");
  const name = first === "UID" ? `UID ${(args.space(), args.word())}` : first;
  const row = Object.hasOwn(ROWS, name) ? ROWS[name] : undefined;
  if (row === undefined) throw bad("an unknown command");
  allow(row.state, session.state);
  // A UID may come from elsewhere, before this session was told of the message: it is told first.
  if (first === "UID") session.tellNews(false);
  const done = await row.run(session, args);
  session.tellNews(row.holdsExpunges === undefined);
  return done;
}

function allow(needed: Row["state"], state: Session["state"]): void {
  if (needed === "guest" && state !== "guest") throw bad("already logged in");
  if (needed === "user" && state === "guest") throw bad("log in first");
  if (needed === "selected" && state !== "selected") throw bad("select a mailbox first");
}

function refuse(session: Session, tag: string | undefined, { kind, code, message, fatal }: Refusal): void {
  const words = `${code === undefined ? "" : `[${code}] `}${message}`;
  session.say(tag === undefined ? `* BAD ${message}` : `${tag} ${kind} ${words}`);
  if (!fatal) return;
  session.say(`* BYE ${message}`);
  session.wire.end();
}
