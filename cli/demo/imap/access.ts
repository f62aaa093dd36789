/** Commands that need no mailbox: capabilities, logging in, TLS, identity and IDLE: RFC 3501 §6.1 to §6.2, RFC 2177, RFC 2971, RFC 4616, RFC 5161. */

import { bad, no, Refusal } from "./refusal.ts";
import type { Command, Done, Session } from "./session.ts";
import { lenientText } from "./header.ts";

const ALWAYS = "IMAP4rev1 LITERAL+ SASL-IR ENABLE ID IDLE NAMESPACE CHILDREN SPECIAL-USE UIDPLUS MOVE UNSELECT";
const MOST_FAILED_LOGINS = 5;

/** What the server can do for this session now. */
export function capabilities(session: Session): string {
  if (session.state !== "guest") return ALWAYS;
  const { secure, offersTls } = session.wire;
  const words = [ALWAYS];
  if (offersTls && !secure) words.push("STARTTLS");
  words.push(mayLogIn(session) ? "AUTH=PLAIN" : "LOGINDISABLED");
  return words.join(" ");
}

// A password in the clear goes no further than this machine.
function mayLogIn({ wire }: Session): boolean {
  return wire.secure || wire.local;
}

export const capability: Command = (session, args) => {
  args.finish();
  session.say(`* CAPABILITY ${capabilities(session)}`);
  return { text: "that is all" };
};

export const noop: Command = (_session, args) => {
  args.finish();
  return { text: "done" };
};

export const logout: Command = (session, args) => {
  args.finish();
  session.say("* BYE until next time");
  return { text: "logged out", after: () => session.wire.end() };
};

export const startTls: Command = (session, args) => {
  args.finish();
  const { offersTls, secure } = session.wire;
  if (!offersTls || secure) throw bad(secure ? "TLS has been started" : "there is no TLS here");
  return { text: "begin TLS now", after: () => session.wire.startTls() };
};

export const login: Command = (session, args) => {
  args.space();
  const user = lenientText(args.astring());
  args.space();
  const password = args.astring();
  args.finish();
  return admit(session, user, password);
};

/** AUTHENTICATE PLAIN, with or without the initial response of RFC 4959. */
export const authenticate: Command = async (session, args) => {
  args.space();
  if (args.word() !== "PLAIN") throw no("only PLAIN is supported");
  let response = args.more() ? args.need(/[A-Za-z0-9+/=]+/y, "not base64") : undefined;
  args.finish();
  if (response === undefined) {
    session.say("+ ");
    response = await session.wire.line();
  }
  if (response === undefined || response === "*") throw bad("the authentication was given up");
  if (!/^(?:[A-Za-z0-9+/]{4})*(?:[A-Za-z0-9+/]{2}==|[A-Za-z0-9+/]{3}=)?$/.test(response)) throw bad("not base64");
  // authorization identity, NUL, authentication identity, NUL, password; the last may hold no NUL either.
  const octets = Buffer.from(response, "base64");
  const [first, second] = [octets.indexOf(0), octets.lastIndexOf(0)];
  if (second <= first || octets.indexOf(0, first + 1) !== second) throw bad("not a PLAIN response");
  const [acting, user] = [lenientText(octets.subarray(0, first)), lenientText(octets.subarray(first + 1, second))];
  if (acting !== "" && acting !== user) throw no("nobody may act for another", "AUTHORIZATIONFAILED");
  return admit(session, user, octets.subarray(second + 1));
};

function admit(session: Session, user: string, password: Buffer): Done {
  if (!mayLogIn(session)) throw no("start TLS before logging in", "PRIVACYREQUIRED");
  const account = session.store.open(user, password);
  if (account === undefined) {
    session.failedLogins += 1;
    const fatal = session.failedLogins >= MOST_FAILED_LOGINS;
    throw new Refusal("NO", "wrong name or password", { code: "AUTHENTICATIONFAILED", fatal });
  }
  session.logIn(account);
  return { text: "logged in", code: `CAPABILITY ${capabilities(session)}` };
}

export const identify: Command = (session, args) => {
  args.space();
  const value = (): string | undefined => (args.take(/NIL(?=[ )]|$)/iy) === undefined ? need(args.string()).toString("latin1") : undefined);
  if (args.take(/NIL$/iy) === undefined) args.list(value);
  args.finish();
  session.say('* ID ("name" "Kakitome demo" "vendor" "Kakitome")');
  return { text: "pleased to meet you" };
};

function need(octets: Buffer | undefined): Buffer {
  if (octets === undefined) throw bad("a string is missing");
  return octets;
}

/** There is nothing to enable; RFC 5161 wants unknown names to pass. */
export const enable: Command = (session, args) => {
  do {
    args.space();
    args.word();
  } while (args.sees(" "));
  args.finish();
  session.say("* ENABLED");
  return { text: "nothing more to enable" };
};

export const idle: Command = async (session, args) => {
  args.finish();
  session.say("+ idling");
  const stop = session.goLive();
  try {
    const line = await session.wire.line();
    if (line?.toUpperCase() !== "DONE") throw bad("IDLE ends with DONE");
    return { text: "idled" };
  } finally {
    stop();
  }
};
