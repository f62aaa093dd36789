/** Tokens from a provider's server (RFC 6749 §4.4, RFC 7523 §2.1): kept until shortly before they expire, asked for once at a time. */
import { sign, type KeyObject } from "node:crypto";
import { readPrivateKey, readSecret, type Secret } from "../config/secrets.ts";
import type { OAuthConfig } from "../config/schema-oauth.ts";
import { Fault } from "../mime/fault.ts";

const ANSWER_WITHIN_MS = 20_000;
/** RFC 6749 §5.1 lets a server leave the lifetime out. */
const ASSUMED_LIFETIME_S = 300;
const LONGEST_MARGIN_MS = 5 * 60_000;
const ASSERTION_LIFETIME_S = 300;
const LARGEST_ANSWER = 64 << 10;

interface Kept {
  readonly token: string;
  /** From when another one is asked for; milliseconds since the epoch. */
  readonly staleAt: number;
}

export class TokenSource {
  readonly #config: OAuthConfig;
  readonly #user: string;
  readonly #proof: { readonly secret: Secret } | { readonly key: KeyObject };
  readonly #now: () => Date;
  #kept: Kept | undefined;
  #asking: Promise<Kept> | undefined;

  /** @param user for whom a service account signs. @throws Fault `malformed`: the file of the secret or key cannot be used */
  constructor(config: OAuthConfig, user: string, now: () => Date) {
    this.#config = config;
    this.#user = user;
    this.#now = now;
    this.#proof =
      config.keyFile === undefined ? { secret: readSecret(config.clientSecretFile ?? "") } : { key: readPrivateKey(config.keyFile) };
  }

  get clientId(): string {
    return this.#config.clientId;
  }

  /** A token that is good for a while. @throws Fault `unauthenticated`: the server refuses, and what to mend; `unavailable` */
  async token(): Promise<string> {
    if (this.#kept && this.#now().getTime() < this.#kept.staleAt) return this.#kept.token;
    this.#asking ??= this.#ask().finally(() => (this.#asking = undefined));
    this.#kept = await this.#asking;
    return this.#kept.token;
  }

  /** A mail server did not take this token: the next one is new. */
  refused(token: string): void {
    if (this.#kept?.token === token) this.#kept = undefined;
  }

  async #ask(): Promise<Kept> {
    const { tokenUrl } = this.#config;
    const asked = this.#now().getTime();
    let status: number;
    let text: string;
    try {
      const body = this.#request();
      const signal = AbortSignal.timeout(ANSWER_WITHIN_MS);
      const response = await fetch(tokenUrl, { method: "POST", body, signal, redirect: "error", headers: { accept: "application/json" } });
      [status, text] = [response.status, (await response.text()).slice(0, LARGEST_ANSWER)];
    } catch (cause) {
      throw new Fault("unavailable", `the token server ${tokenUrl} does not answer (oauth.tokenUrl)`, { cause });
    }
    const answer = recordIn(text);
    const { access_token: token, expires_in: lifetime } = answer;
    if (status === 200 && typeof token === "string" && /^[\x21-\x7e]+$/u.test(token)) {
      const seconds = typeof lifetime === "number" && lifetime > 0 ? lifetime : Number(lifetime) || ASSUMED_LIFETIME_S;
      const milliseconds = seconds * 1_000;
      return { token, staleAt: asked + milliseconds - Math.min(LONGEST_MARGIN_MS, milliseconds / 10) };
    }
    if (status >= 500 || status === 429) throw new Fault("unavailable", `the token server ${tokenUrl} answered ${status}`);
    throw new Fault("unauthenticated", this.#refusal(status, answer));
  }

  #request(): URLSearchParams {
    const { clientId, scope, tokenUrl } = this.#config;
    if ("secret" in this.#proof) {
      const secret = this.#proof.secret.reveal();
      const fields = { grant_type: "client_credentials", client_id: clientId, client_secret: secret };
      return new URLSearchParams({ ...fields, ...(scope !== undefined && { scope }) });
    }
    const now = Math.floor(this.#now().getTime() / 1_000);
    const claims = { iss: clientId, sub: this.#user, aud: tokenUrl, scope, iat: now, exp: now + ASSERTION_LIFETIME_S };
    const assertion = signed(claims, this.#proof.key);
    return new URLSearchParams({ grant_type: "urn:ietf:params:oauth:grant-type:jwt-bearer", assertion });
  }

  /** The server's word, and what is to be mended here (RFC 6749 §5.2). */
  #refusal(status: number, { error, error_description: said }: Readonly<Record<string, unknown>>): string {
    const { tokenUrl, clientId, clientSecretFile, keyFile, scope } = this.#config;
    const word = typeof error === "string" ? error.slice(0, 60) : `HTTP ${status}`;
    const mend: Readonly<Record<string, string>> = {
      invalid_client: `oauth.clientId is not ${clientId} there, or the secret in ${clientSecretFile ?? keyFile} is wrong or has expired: make a new one and write it there`,
      unauthorized_client: `the application ${clientId} may not do this yet: give it the permission, and an administrator's consent`,
      access_denied: `the application ${clientId} may not do this yet: give it the permission, and an administrator's consent`,
      invalid_scope: `oauth.scope is "${scope ?? ""}", which this server does not know`,
      invalid_grant: `the assertion is not taken: oauth.keyFile must be the key of ${clientId}, which must be allowed to act for ${this.#user}; is the clock right?`,
      unsupported_grant_type: `this server gives no tokens to applications: look at oauth.tokenUrl`,
    };
    const detail = typeof said === "string" ? ` (it says: ${said.replaceAll(/\s+/gu, " ").slice(0, 200)})` : "";
    return `the token server ${tokenUrl} refused with ${word}: ${mend[word] ?? "look at oauth.tokenUrl, clientId and scope"}${detail}`;
  }
}

/** One source for each application and user, so that many mailboxes of one application share its token. */
export class TokenSources {
  readonly #sources = new Map<string, TokenSource>();
  readonly #now: () => Date;

  constructor(now: () => Date) {
    this.#now = now;
  }

  of(config: OAuthConfig, user: string): TokenSource {
    const key = JSON.stringify([config, config.keyFile === undefined ? "" : user]);
    const source = this.#sources.get(key) ?? new TokenSource(config, user, this.#now);
    this.#sources.set(key, source);
    return source;
  }
}

/** A JSON Web Token (RFC 7519), RS256 or ES256 as the key is. */
function signed(claims: object, key: KeyObject): string {
  const alg = key.asymmetricKeyType === "ec" ? "ES256" : "RS256";
  const part = (value: object): string => Buffer.from(JSON.stringify(value)).toString("base64url");
  const text = `${part({ alg, typ: "JWT" })}.${part(claims)}`;
  return `${text}.${sign("sha256", Buffer.from(text), { key, dsaEncoding: "ieee-p1363" }).toString("base64url")}`;
}

function recordIn(text: string): Readonly<Record<string, unknown>> {
  try {
    const value: unknown = JSON.parse(text);
    return typeof value === "object" && value !== null ? (value as Record<string, unknown>) : {};
  } catch {
    return {};
  }
}
