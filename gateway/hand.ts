/** What the gateway asks of the broker about letters that are on their way: take them back, and say how far they are. */
import type { BrokerClient } from "../broker/client.ts";

export type { RecallOutcome, SessionStatus } from "../broker/client.ts";

/** Both answer in the order of the tickets, to the sender of the letters only. */
export type Hand = Pick<BrokerClient, "recall" | "status">;
