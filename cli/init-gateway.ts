/** `kakitome init gateway`: the annotated configuration of a new gateway, a certificate for its door, its unit, and what is to be done next. */
import { existsSync, mkdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { join, relative, resolve } from "node:path";
import { Option, type Command } from "commander";
import { isMap, parseDocument, type Document, type YAMLMap } from "yaml";
import { makeDoorCertificate } from "../broker/main.ts";
import { checkGateway } from "../config/load.ts";
import { writeDurably } from "../gateway/main.ts";
import { parseMailbox } from "../mime/address.ts";
import { Fault } from "../mime/fault.ts";
import { ask } from "./ask.ts";
import { hostPort, type HostPort } from "./host-port.ts";
import { serviceSteps, writeUnit } from "./unit.ts";

interface Options {
  readonly dir: string;
  readonly name?: string;
  readonly broker?: string;
  readonly mailbox?: readonly string[];
  readonly imap?: string;
  readonly imapTls: string;
  readonly relay?: string;
  readonly relayTls?: string;
  readonly relayUser?: string;
  readonly listen?: readonly string[];
  readonly certificate?: string;
  readonly key?: string;
  readonly postfix?: true;
  readonly json?: true;
}

const TLS = ["implicit", "starttls", "none"];
const DOOR = { certificate: "door.crt.pem", key: "door.key.pem", authority: "door-ca.crt.pem" };
/** Where docs/install-postfix.md has the filter and the way back. */
const FILTER = { listen: "127.0.0.1:10025", relay: "127.0.0.1:10026" };

export function addInitGateway(init: Command): void {
  init
    .command("gateway")
    .description("make a gateway's configuration, a certificate for its door and a unit; asks for what is not given")
    .option("--dir <folder>", "where", "gateway")
    .option("--name <host>", "host name of the gateway, such as gateway.a.example")
    .option("--broker <url>", "the broker, such as https://broker.example:8443")
    .option("--mailbox <address...>", "the mailboxes that it sends and opens for; may be given again")
    .option("--imap <host:port>", "the mail server of the mailboxes")
    .addOption(new Option("--imap-tls <how>", "how it is reached").choices(TLS).default("implicit"))
    .option("--relay <host:port>", "the mail server that takes what leaves")
    .addOption(new Option("--relay-tls <how>", "how it is reached (starttls, or none with --postfix)").choices(TLS))
    .option("--relay-user <name>", "the gateway's name there, where it wants AUTH")
    .option("--listen <host:port...>", "where mail clients connect; 465 and the like with TLS from the start, others with STARTTLS")
    .option("--certificate <file>", "PEM of the door's certificate, with its chain; one is made unless given")
    .option("--key <file>", "PEM of its private key, mode 600")
    .option("--postfix", "stand behind a Postfix on this machine as its content filter (docs/install-postfix.md)")
    .option("--json", "what was made, as one JSON document")
    .action(async (options: Options) => {
      const order = await complete(options);
      const folder = resolve(options.dir);
      const file = join(folder, "gateway.yaml");
      const text = textOf(order, options);
      const checked = checkGateway(file, text); // before anything is made
      if (existsSync(file)) throw new Fault("forbidden", `${file} is there already; nothing was changed`);
      mkdirSync(folder, { recursive: true, mode: 0o700 });
      const made = options.certificate === undefined ? await writeDoor(folder, checked.name) : undefined;
      const unit = writeUnit("gateway", folder, file);
      await writeDurably(file, [Buffer.from(text)]); // last, and whole: with it the installation is there
      const wanted = secretsOf(order, options).map((name) => join(folder, name));
      if (options.json) console.log(JSON.stringify({ config: file, unit, ...(made && { authority: made }), secrets: wanted }));
      else for (const line of nextSteps({ file, folder, unit, authority: made, secrets: wanted, order, options })) console.log(line);
    });
}

interface Order {
  readonly name: string;
  readonly broker: string;
  readonly mailboxes: readonly string[];
  readonly imap: HostPort;
  readonly relay: HostPort;
}

async function complete(options: Options): Promise<Order> {
  const { name, broker, mailbox, imap, relay, postfix, certificate, key } = options;
  if ((certificate === undefined) !== (key === undefined)) throw new Fault("malformed", "--certificate and --key belong together");
  const [host = "", url = "", addresses = "", imapAt = "", relayAt = ""] = await ask([
    { given: name, flag: "--name <host>", words: "Host name of this gateway, such as gateway.a.example" },
    { given: broker, flag: "--broker <url>", words: "Address of the broker, such as https://broker.example:8443" },
    { given: mailbox?.join(" "), flag: "--mailbox <address>", words: "Mailboxes, with spaces between them" },
    { given: imap, flag: "--imap <host:port>", words: "Their IMAP server, host:port" },
    { given: relay ?? (postfix && FILTER.relay), flag: "--relay <host:port>", words: "The mail server that takes what leaves, host:port" },
  ]);
  const mailboxes = addresses
    .split(/[\s,]+/u)
    .filter(Boolean)
    .map((text) => parseMailbox(text).address);
  if (mailboxes.length === 0) throw new Fault("malformed", "--mailbox: write an address"); // or the example's would be taken
  return { name: host, broker: url, mailboxes, imap: hostPort("--imap", imapAt), relay: hostPort("--relay", relayAt) };
}

const MADE = "# Made by kakitome init gateway. Every setting is here; the ones behind a '#' show their default.";

/** The example with these answers in it: every other setting stays where it is explained. */
function textOf(order: Order, options: Options): string {
  const example = readFileSync(join(import.meta.dirname, "..", "config", "gateway.example.yaml"), "utf8");
  const document = parseDocument(example.replace(/^[^\n]*/u, MADE));
  document.setIn(["name"], order.name);
  document.setIn(["data"], "data");
  document.setIn(["broker", "url"], order.broker);
  for (const [at, name] of (["certificate", "key"] as const).map((part) => [part, options[part]] as const))
    document.setIn(["submission", at], name === undefined ? DOOR[at] : relativeTo(options.dir, name));
  setDoors(document, options);
  setMailboxes(document, order, options);
  setAccount(document, ["relay"], order.relay, options.relayTls ?? (options.postfix ? "none" : "starttls"));
  if (options.relayUser === undefined) for (const key of ["user", "passwordFile"]) document.deleteIn(["relay", key]);
  else document.setIn(["relay", "user"], options.relayUser);
  return asIndented(document.toString({ lineWidth: 0 }), example);
}

/** A comment behind a section is printed as deep as the section's last line; without its '#' it would be a setting of another section. */
function asIndented(text: string, example: string): string {
  const comments = example.split("\n").filter((line) => line.trimStart().startsWith("#"));
  const asWritten = new Map(comments.map((line) => [line.trim(), line]));
  return text.replaceAll(/^ *#.*$/gmu, (line) => asWritten.get(line.trim()) ?? line);
}

const relativeTo = (folder: string, file: string): string => {
  const path = relative(resolve(folder), resolve(file));
  return path.startsWith("..") ? resolve(file) : path;
};

/** TLS from the start on the ports that are known for it (RFC 8314 §7.3). */
const isImplicit = (address: string): boolean => /:(?:\d*465)$/u.test(address);

function setDoors(document: Document, { listen, postfix }: Options): void {
  const addresses = listen ?? (postfix ? [FILTER.listen] : undefined);
  if (addresses) {
    const doors = addresses.map((address) => ({ address, tls: isImplicit(address) ? "implicit" : "starttls" }));
    document.setIn(["submission", "listen"], document.createNode(doors, { flow: false }));
  }
  if (!postfix) return;
  document.setIn(["submission", "trustedNetworks"], ["127.0.0.1"]);
  document.setIn(["submission", "others"], "pass");
}

function setAccount(document: Document, at: readonly (string | number)[], { host, port }: HostPort, tls: string): void {
  document.setIn([...at, "host"], host);
  document.setIn([...at, "port"], port);
  document.setIn([...at, "tls"], tls);
}

function setMailboxes(document: Document, { mailboxes, imap }: Order, options: Options): void {
  const pattern = document.getIn(["mailboxes", 0]);
  if (!isMap(pattern)) throw new Fault("internal", "the example has no mailbox");
  const next = commentsBehind(pattern.get("imap"));
  for (const [at, address] of mailboxes.entries()) {
    if (at > 0) document.addIn(["mailboxes"], withoutComments(pattern));
    document.setIn(["mailboxes", at, "address"], address);
    setAccount(document, ["mailboxes", at, "imap"], imap, options.imapTls);
    document.setIn(["mailboxes", at, "imap", "user"], address);
    document.setIn(["mailboxes", at, "imap", "passwordFile"], passwordFileOf(address));
  }
  const last = document.getIn(["mailboxes", mailboxes.length - 1, "imap"]);
  if (isMap(last)) last.comment = [...(last.comment ? [last.comment] : []), ...next].join("\n\n");
}

/** Takes the comments about the next section from the mailbox: the parser leaves it all up to there, with empty lines in between. */
function commentsBehind(imap: unknown): string[] {
  if (!isMap(imap)) return [];
  const [own = "", ...next] = (imap.comment ?? "").split("\n\n");
  imap.comment = own;
  return next;
}

/** The first mailbox explains its settings; the others need not. */
function withoutComments(pattern: YAMLMap): unknown {
  const next = pattern.clone();
  const pairs = isMap(next) ? next.items : [];
  for (const { key, value } of pairs) {
    if (typeof key === "object" && key) Object.assign(key, { commentBefore: undefined });
    if (isMap(value)) value.comment = null;
  }
  return next;
}

/** Addresses may hold what a path must not. */
const passwordFileOf = (address: string): string => `${address.replaceAll(/[^\p{L}\p{N}@._+-]/gu, "_")}.password`;

function secretsOf({ mailboxes }: Order, { relayUser }: Options): string[] {
  return [...mailboxes.map((address) => passwordFileOf(address)), ...(relayUser === undefined ? [] : ["relay.password"])];
}

async function writeDoor(folder: string, host: string): Promise<string> {
  const { key, certificate, authority } = await makeDoorCertificate(host, new Date());
  const put = (name: string, text: string, mode: number): void => {
    rmSync(join(folder, name), { force: true });
    writeFileSync(join(folder, name), text, { mode, flag: "wx" });
  };
  put(DOOR.key, key, 0o600);
  put(DOOR.certificate, certificate, 0o644);
  put(DOOR.authority, authority, 0o644);
  return join(folder, DOOR.authority);
}

function nextSteps(about: {
  readonly file: string;
  readonly folder: string;
  readonly unit: string;
  readonly authority: string | undefined;
  readonly secrets: readonly string[];
  readonly order: Order;
  readonly options: Options;
}): string[] {
  const { file, folder, unit, authority, secrets, order, options } = about;
  const users = order.mailboxes.map((address) => `  kakitome user add ${address} --identity ${address} --config ${file}`);
  return [
    `Configuration: ${file}`,
    ...(authority === undefined ? [] : [`Certificate:   made for the door; mail clients that check it trust ${authority}`]),
    "",
    "Next, in this order:",
    "1. Passwords of the mailboxes, each in its file:",
    ...secrets.map((path) => `  (umask 077; cat > ${path})`),
    ...(options.postfix
      ? ["2. The lines for Postfix: docs/install-postfix.md"]
      : ["2. Who may submit, with a password of the gateway's own:", ...users]),
    "3. Ask the broker's operator for an invitation, and run what it says:",
    `  kakitome enrol --config ${file} --broker ${order.broker} --fingerprint F --token T`,
    "4. Start:",
    `  kakitome gateway run --config ${file}`,
    "   or as a service, as root:",
    ...serviceSteps(unit, folder).map((line) => `  ${line}`),
  ];
}
