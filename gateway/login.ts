/** How the gateway proves who it is to a mail server: by a password, or by a token that is renewed once where the server refuses it. */
import type { ImapConfig } from "../config/schema.ts";
import { readSecret } from "../config/secrets.ts";
import { Fault } from "../mime/fault.ts";
import { TokenSources, type TokenSource } from "./oauth.ts";

export type Login = { readonly pass: string } | { readonly tokens: TokenSource };
/** What is shown now. */
export type Proof = { readonly pass: string } | { readonly accessToken: string };

/** Logins of configured accounts; those of one application share its token. */
export class Logins {
  readonly #tokens: TokenSources;

  constructor(now: () => Date) {
    this.#tokens = new TokenSources(now);
  }

  /** @throws Fault `malformed`: the file of the password or the key cannot be used */
  of({ user = "", passwordFile = "", oauth }: Pick<ImapConfig, "user" | "passwordFile" | "oauth">): Login {
    return oauth ? { tokens: this.#tokens.of(oauth, user) } : { pass: readSecret(passwordFile).reveal() };
  }
}

/** The server answered, and does not let us in. */
export class LoginRefused extends Error {
  override readonly name = "LoginRefused";

  constructor(cause: unknown) {
    super("the login was refused", { cause });
  }
}

/**
 * Runs a login; a refused token is thrown away and the login tried once more with a new one.
 * @param where for people: whose login at which server
 * @throws Fault `unauthenticated` where the token or its request is refused, `unavailable` where a password is or nobody answers
 */
export async function withLogin<T>(login: Login, where: string, attempt: (proof: Proof) => Promise<T>): Promise<T> {
  if ("pass" in login) {
    try {
      return await attempt(login);
    } catch (thrown) {
      if (thrown instanceof LoginRefused) throw new Fault("unavailable", `${where} cannot be opened`, { cause: thrown.cause });
      throw thrown;
    }
  }
  const { tokens } = login;
  for (let isLast = false; ; isLast = true) {
    const accessToken = await tokens.token();
    try {
      return await attempt({ accessToken });
    } catch (thrown) {
      if (!(thrown instanceof LoginRefused)) throw thrown;
      tokens.refused(accessToken);
      if (isLast) throw new Fault("unauthenticated", refusedWords(where, tokens.clientId), { cause: thrown.cause });
    }
  }
}

/** For people: the token is good, and still it does not open this mailbox. */
const refusedWords = (where: string, clientId: string): string =>
  `${where} does not let the application ${clientId} in: allow it this mailbox at the provider, and look at oauth.scope`;
