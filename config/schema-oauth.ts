/** How a gateway gets a token instead of a password: client credentials (RFC 6749 §4.4) or a signed assertion (RFC 7523 §2.1). */
import { z } from "zod";
import { parsed, path } from "./parsed.ts";

/** HTTPS; in the clear only on the loopback. */
const tokenUrl = parsed((text) => {
  const url = URL.canParse(text) ? new URL(text) : undefined;
  const isLocal = url?.protocol === "http:" && /^(?:localhost|127(?:\.\d+){3}|\[::1\])$/u.test(url.hostname);
  if (!url || (url.protocol !== "https:" && !isLocal) || url.username !== "") {
    throw new Error(`"${text}" is not an address such as https://login.example/oauth2/token`);
  }
  return url.href;
});

export const oauth = z
  .strictObject({
    tokenUrl,
    /** The application's name at that server; of a Google service account its address. */
    clientId: z.string().min(1).max(1_000),
    /** Mode 600. */
    clientSecretFile: path.optional(),
    /** Private key of a service account as PEM, mode 600: it signs for the user of the mailbox. */
    keyFile: path.optional(),
    scope: z.string().min(1).max(1_000).optional(),
  })
  .refine(({ clientSecretFile, keyFile }) => (clientSecretFile === undefined) !== (keyFile === undefined), {
    when: ({ value }) => typeof value === "object" && value !== null,
    message: "needs either clientSecretFile or keyFile",
  });

export type OAuthConfig = z.output<typeof oauth>;
