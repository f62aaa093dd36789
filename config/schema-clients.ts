/** What mail clients are told of their servers: on the command line, and over HTTP where a listener is configured. */
import { z } from "zod";
import { listen } from "./parsed.ts";

const server = z.strictObject({
  host: z.string().min(1).max(253),
  port: z.int().min(1).max(65_535),
  tls: z.enum(["implicit", "starttls"]),
});

export const clients = z.strictObject({
  /** Plain HTTP, behind the web server of autoconfig.DOMAIN, which speaks TLS; left out, nothing listens. */
  listen: listen.optional(),
  /** What people see as the name of the account. */
  name: z.string().min(1).max(100).default("Kakitome"),
  /** Where clients submit, if not at the gateway's own door, such as a Postfix in front of it. */
  submission: server.optional(),
  /** Where clients read, if not at the server that the gateway reads at. */
  imap: server.optional(),
});

export type ClientsConfig = z.output<typeof clients>;
