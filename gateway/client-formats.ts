/** A client's settings in the formats that mail clients read: autoconfig 1.1, Apple's profile, Autodiscover, draft-ietf-mailmaint-pacc, muttrc. */
import { hash } from "node:crypto";
import type { ClientSettings, MailServer } from "./client-settings.ts";

/** Characters that XML 1.0 does not know have no place in a name either. */
export function escaped(text: string): string {
  return text
    .replaceAll(/[^\t\n\r\u{20}-\u{D7FF}\u{E000}-\u{FFFD}\u{10000}-\u{10FFFF}]/gu, "")
    .replaceAll("&", "&amp;")
    .replaceAll("<", "&lt;")
    .replaceAll(">", "&gt;")
    .replaceAll('"', "&quot;")
    .replaceAll("'", "&apos;");
}

const HEAD = '<?xml version="1.0" encoding="UTF-8"?>\n';
const SOCKET = { implicit: "SSL", starttls: "STARTTLS" } as const;

/** For Thunderbird and others (draft-ietf-mailmaint-autoconfig). */
export function autoconfig({ name, domain, submission, imap }: ClientSettings): string {
  const server = (kind: "incoming" | "outgoing", type: string, { host, port, tls, user }: MailServer): string =>
    `    <${kind}Server type="${type}">
      <hostname>${escaped(host)}</hostname>
      <port>${port}</port>
      <socketType>${SOCKET[tls]}</socketType>
      <authentication>password-cleartext</authentication>
      <username>${escaped(user)}</username>
    </${kind}Server>\n`;
  return `${HEAD}<clientConfig version="1.1">
  <emailProvider id="${escaped(domain)}">
    <domain>${escaped(domain)}</domain>
    <displayName>${escaped(name)}</displayName>
    <displayShortName>${escaped(name)}</displayShortName>
${imap ? server("incoming", "imap", imap) : ""}${server("outgoing", "smtp", submission)}  </emailProvider>
</clientConfig>
`;
}

/** A profile for iOS and macOS (Apple, com.apple.mail.managed). */
export function mobileconfig({ name, address, domain, submission, imap }: ClientSettings): string {
  const identifier = `${domain.split(".").toReversed().join(".")}.kakitome`;
  const server = (kind: "Incoming" | "Outgoing", { host, port, user }: MailServer): Entry[] => [
    [`${kind}MailServerAuthentication`, "EmailAuthPassword"],
    [`${kind}MailServerHostName`, host],
    [`${kind}MailServerPortNumber`, port],
    [`${kind}MailServerUseSSL`, true], // with STARTTLS too: the port says which
    [`${kind}MailServerUsername`, user],
  ];
  const account: Entry[] = [
    ["PayloadType", "com.apple.mail.managed"],
    ["PayloadVersion", 1],
    ["PayloadIdentifier", `${identifier}.mail`],
    ["PayloadUUID", uuid(`mail ${address} ${submission.host}`)],
    ["PayloadDisplayName", name],
    ["EmailAccountDescription", name],
    ["EmailAccountType", "EmailTypeIMAP"],
    ["EmailAddress", address],
    ...(imap ? server("Incoming", imap) : []),
    ...server("Outgoing", submission),
  ];
  const profile: Entry[] = [
    ["PayloadType", "Configuration"],
    ["PayloadVersion", 1],
    ["PayloadIdentifier", identifier],
    ["PayloadUUID", uuid(`profile ${address} ${submission.host}`)],
    ["PayloadDisplayName", name],
    ["PayloadDescription", `Mail of ${address}`],
    ["PayloadContent", [account]],
  ];
  const type = '<!DOCTYPE plist PUBLIC "-//Apple//DTD PLIST 1.0//EN" "http://www.apple.com/DTDs/PropertyList-1.0.dtd">\n';
  return `${HEAD}${type}<plist version="1.0">\n${dict(profile)}\n</plist>\n`;
}

type Entry = readonly [key: string, value: string | number | boolean | readonly (readonly Entry[])[]];

function dict(entries: readonly Entry[]): string {
  return `<dict>\n${entries.map(([key, value]) => `<key>${key}</key>${plain(value)}`).join("\n")}\n</dict>`;
}

function plain(value: Entry[1]): string {
  if (typeof value === "string") return `<string>${escaped(value)}</string>`;
  if (typeof value === "number") return `<integer>${value}</integer>`;
  if (typeof value === "boolean") return value ? "<true/>" : "<false/>";
  return `<array>${value.map((one) => dict(one)).join("")}</array>`;
}

/** The same for the same account, so that a profile that is installed again takes the place of the first (RFC 9562 §5.8). */
function uuid(text: string): string {
  const octets = hash("sha256", text, "buffer").subarray(0, 16);
  octets.writeUInt8((octets.readUInt8(6) & 0x0f) | 0x80, 6);
  octets.writeUInt8((octets.readUInt8(8) & 0x3f) | 0x80, 8);
  return octets
    .toString("hex")
    .replace(/^(.{8})(.{4})(.{4})(.{4})/u, "$1-$2-$3-$4-")
    .toUpperCase();
}

const OUTLOOK = "http://schemas.microsoft.com/exchange/autodiscover/outlook/responseschema/2006a";

/** For Outlook (Autodiscover, POX). */
export function autodiscover({ submission, imap }: ClientSettings): string {
  const protocol = (type: string, { host, port, tls, user }: MailServer): string =>
    `      <Protocol>
        <Type>${type}</Type>
        <Server>${escaped(host)}</Server>
        <Port>${port}</Port>
        <LoginName>${escaped(user)}</LoginName>
        <SPA>off</SPA>
        <Encryption>${tls === "implicit" ? "SSL" : "TLS"}</Encryption>
        <AuthRequired>on</AuthRequired>
      </Protocol>\n`;
  return `${HEAD}<Autodiscover xmlns="http://schemas.microsoft.com/exchange/autodiscover/responseschema/2006">
  <Response xmlns="${OUTLOOK}">
    <Account>
      <AccountType>email</AccountType>
      <Action>settings</Action>
${imap ? protocol("IMAP", imap) : ""}${protocol("SMTP", submission)}    </Account>
  </Response>
</Autodiscover>
`;
}

/** The ports that clients of that draft use, with TLS from the start. */
const PACC_PORT = { imap: 993, submission: 465 } as const;

/** draft-ietf-mailmaint-pacc: hosts only; a server that is elsewhere than it has to be is left out. */
export function pacc(settings: ClientSettings): string {
  const at = (kind: "imap" | "submission"): { host: string } | undefined => {
    const server = settings[kind];
    return server?.tls === "implicit" && server.port === PACC_PORT[kind] ? { host: server.host } : undefined;
  };
  const protocols = { imap: at("imap"), smtp: at("submission") };
  const info = { provider: { name: settings.name } };
  return `${JSON.stringify({ protocols, authentication: { password: true }, info }, null, 2)}\n`;
}

/** Lines for ~/.muttrc; the password is asked for. */
export function muttrc({ address, submission, imap }: ClientSettings): string {
  const url = (plain: string, secure: string, { host, port, tls, user }: MailServer): string =>
    `${tls === "implicit" ? secure : plain}://${encodeURIComponent(user)}@${host.includes(":") ? `[${host}]` : host}:${port}/`;
  const word = (text: string): string => `"${text.replaceAll(/["\\`$]/gu, "\\$&")}"`;
  return [
    `set from=${word(address)}`,
    "set ssl_starttls=yes",
    "set ssl_force_tls=yes",
    `set smtp_url=${word(url("smtp", "smtps", submission))}`,
    ...(imap ? [`set folder=${word(url("imap", "imaps", imap))}`, 'set spoolfile="+INBOX"'] : []),
    "",
  ].join("\n");
}

/** For people who type it in. */
export function listed({ address, submission, imap }: ClientSettings): string {
  const lines = (what: string, { host, port, tls, user }: MailServer): string[] => [
    what,
    `  server    ${host}`,
    `  port      ${port}`,
    `  security  ${tls === "implicit" ? "SSL/TLS" : "STARTTLS"}`,
    `  user      ${user}`,
    "  password  normal password",
  ];
  return [`Account ${address}`, ...(imap ? lines("Incoming (IMAP)", imap) : []), ...lines("Outgoing (SMTP)", submission), ""].join("\n");
}
