/** The HTTP paths at which mail clients look for their settings. It tells everybody of a domain the same, and never who is there. */
import { createServer, type IncomingMessage } from "node:http";
import { reasonOf, type Log } from "../config/log.ts";
import type { GatewayConfig } from "../config/schema.ts";
import { autoconfig, autodiscover, mobileconfig, pacc } from "./client-formats.ts";
import { settingsForDomain, type ClientSettings } from "./client-settings.ts";

const LARGEST_BODY = 16 << 10;
const SLOWEST_MS = 10_000;
const MOST_CONNECTIONS = 200;
const [OK, NOT_FOUND, NOT_ALLOWED, TOO_LARGE] = [200, 404, 405, 413];

interface Page {
  readonly type: string;
  /** Whether the address stands in the page, so that it has to be named. */
  readonly isPersonal?: boolean;
  write(settings: ClientSettings): string;
}

const XML = "text/xml; charset=utf-8";
const PAGES: Readonly<Record<string, Page>> = {
  "/mail/config-v1.1.xml": { type: XML, write: autoconfig },
  "/.well-known/autoconfig/mail/config-v1.1.xml": { type: XML, write: autoconfig },
  "/.well-known/user-agent-configuration.json": { type: "application/json", write: pacc },
  "/apple.mobileconfig": { type: "application/x-apple-aspen-config", isPersonal: true, write: mobileconfig },
  "/autodiscover/autodiscover.xml": { type: XML, isPersonal: true, write: autodiscover },
};

/** Listens until it is closed. @returns the port that was bound */
export async function openDiscovery(
  config: GatewayConfig,
  { host, port }: { readonly host: string; readonly port: number },
  log: Log,
): Promise<{ readonly port: number; stop(): Promise<void> }> {
  const server = createServer({ requestTimeout: SLOWEST_MS, headersTimeout: SLOWEST_MS }, (request, response) => {
    void answer(config, request).then(
      ([status, text, type]) => {
        response.writeHead(status, { "content-type": type, "cache-control": "max-age=3600", "x-content-type-options": "nosniff" });
        response.end(request.method === "HEAD" ? undefined : text);
        request.resume();
      },
      (thrown: unknown) => {
        log.warn({ event: "discovery.failed", reason: reasonOf(thrown) });
        response.destroy();
      },
    );
  });
  server.maxConnections = MOST_CONNECTIONS;
  await new Promise<void>((resolve, reject) => server.once("error", reject).listen(port, host, resolve));
  const bound = server.address();
  const actual = typeof bound === "object" && bound ? bound.port : port;
  log.info({ event: "discovery.listening", port: actual });
  return {
    port: actual,
    stop: () =>
      new Promise((resolve) => {
        server.close(() => resolve());
        server.closeAllConnections();
      }),
  };
}

type Answer = readonly [status: number, text: string, type: string];
const saying = (status: number, text: string): Answer => [status, `${text}\n`, "text/plain; charset=utf-8"];

async function answer(config: GatewayConfig, request: IncomingMessage): Promise<Answer> {
  const target = new URL(request.url ?? "/", "http://discovery");
  const page = PAGES[target.pathname.toLowerCase()];
  if (!page) return saying(NOT_FOUND, "Nothing is here.");
  const isAutodiscover = page.write === autodiscover;
  if (!["GET", "HEAD", ...(isAutodiscover ? ["POST"] : [])].includes(request.method ?? "")) return saying(NOT_ALLOWED, "Not allowed.");
  const body = request.method === "POST" ? await bodyOf(request) : "";
  if (body === undefined) return saying(TOO_LARGE, "Too large.");
  const inBody = /<EMailAddress>\s*([^<\s]{1,254})\s*<\/EMailAddress>/iu.exec(body)?.[1];
  const address = inBody ?? target.searchParams.get("emailaddress") ?? target.searchParams.get("email") ?? undefined;
  if (page.isPersonal && !isAddress(address)) return saying(NOT_FOUND, "Name the address: ?email=name@domain");
  const settings = settingsForDomain(config, domainOf(config, address, request), page.isPersonal ? address : undefined);
  return settings ? [OK, page.write(settings), page.type] : saying(NOT_FOUND, "No such domain is served here.");
}

const isAddress = (text: string | undefined): text is string =>
  text !== undefined && text.length <= 254 && /^[^\s@<>"\\]+@[^\s@<>"\\]+$/u.test(text);

/** By the address, else by the name that was asked (autoconfig.DOMAIN and its like), else the only one that there is. */
function domainOf({ mailboxes }: GatewayConfig, address: string | undefined, { headers }: IncomingMessage): string {
  if (address !== undefined) return address.slice(address.lastIndexOf("@") + 1);
  const asked = (headers.host ?? "").replace(/:\d+$/u, "").toLowerCase();
  const domains = [...new Set(mailboxes.map(({ address: own }) => own.domain))];
  return domains.find((domain) => asked === domain || asked.endsWith(`.${domain}`)) ?? (domains.length === 1 ? (domains[0] ?? "") : "");
}

async function bodyOf(request: IncomingMessage): Promise<string | undefined> {
  const chunks: Buffer[] = [];
  let length = 0;
  for await (const chunk of request) {
    const bytes = Buffer.from(chunk as Uint8Array);
    length += bytes.length;
    if (length > LARGEST_BODY) return undefined;
    chunks.push(bytes);
  }
  return Buffer.concat(chunks).toString("utf8");
}
