/** AUTH with a token at the next hop: OAUTHBEARER (RFC 7628) or XOAUTH2, whichever it offers; one refused token is renewed on the same connection. */
import { LoginRefused, withLogin } from "./login.ts";
import type { TokenSource } from "./oauth.ts";

/** Names the exchange to the library; the wire never sees it. */
export const TOKEN_METHOD = "TOKEN";

/** What the library lends to an exchange of our own. */
export interface Exchange {
  readonly authMethods: readonly string[];
  sendCommand(line: string): Promise<{ readonly status?: number | undefined; readonly response?: string | undefined }>;
}

const CHALLENGE = 334; // RFC 4954 §4
const SUCCEEDED = 235;

/** @throws Fault `unauthenticated`, `unavailable` */
export async function loginByToken(tokens: TokenSource, user: string, { authMethods, sendCommand }: Exchange): Promise<void> {
  const isOld = authMethods.includes("XOAUTH2"); // the library lists no OAUTHBEARER: a hop without XOAUTH2 is asked for that
  await withLogin({ tokens }, `the next hop as ${user}`, async (proof) => {
    const token = "accessToken" in proof ? proof.accessToken : "";
    const [method, words] = isOld
      ? ["XOAUTH2", `user=${user}\u0001auth=Bearer ${token}\u0001\u0001`]
      : ["OAUTHBEARER", `n,a=${user.replaceAll("=", "=3D").replaceAll(",", "=2C")},\u0001auth=Bearer ${token}\u0001\u0001`];
    let answer = await sendCommand(`AUTH ${method} ${Buffer.from(words).toString("base64")}`);
    if (answer.status === CHALLENGE) answer = await sendCommand(isOld ? "" : "AQ=="); // what is wrong; the refusal follows (RFC 7628 §3.2.3)
    if (answer.status !== SUCCEEDED) throw new LoginRefused(new Error(answer.response ?? "no answer"));
  });
}
