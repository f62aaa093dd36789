/** What the gateway asks of the broker about letters that are on their way: take them back, and say how far they are. */
import type { Identity } from "../broker/client.ts";
import { Fault } from "../mime/fault.ts";

/** What became of one ticket of a recall. */
export type RecallOutcome =
  | { readonly outcome: "recalled"; readonly at: Date }
  | { readonly outcome: "too-late"; readonly releasedAt: Date; readonly confirmedAt?: Date | undefined }
  | { readonly outcome: "gone" };

/** How far the session of one ticket is. */
export interface SessionStatus {
  readonly state: "declared" | "dispatched" | "released" | "confirmed" | "expired" | "recalled" | "withdrawn" | "gone";
  readonly declaredAt?: Date | undefined;
  readonly releasedAt?: Date | undefined;
  readonly confirmedAt?: Date | undefined;
  readonly endedAt?: Date | undefined;
  readonly expiresAt?: Date | undefined;
}

/** Both answer in the order of the tickets, to the sender of the letters only. */
export interface Hand {
  /** @throws Fault `forbidden`, `unavailable` */
  recall(tickets: readonly Buffer[], identity: Identity, signal: AbortSignal): Promise<readonly RecallOutcome[]>;
  /** @throws Fault `forbidden`, `unavailable` */
  status(tickets: readonly Buffer[], identity: Identity, signal: AbortSignal): Promise<readonly SessionStatus[]>;
}

/** The broker's client as such a hand. @throws Fault `forbidden` where it cannot do this */
export function handOf(client: object): Hand {
  if ("recall" in client && "status" in client) return client as Hand;
  throw new Fault("forbidden", "this broker cannot be asked that", { advice: "This broker takes no recalls and answers no questions." });
}
