/** What time does to letters: T1 and T2 (docs/protocol.md, section 5); and rows that ended long ago are forgotten. */
import { evidenceId } from "../mime/evidence.ts";
import type { Broker } from "./broker.ts";
import { delayedFacts, endedFacts, type MacKey } from "./facts.ts";
import type { Outcomes } from "./table.ts";

/** The names and MACs of what the sweep may find, for a sweep at this time. */
export function outcomesAt(masterKey: MacKey, at: number): Outcomes {
  const mac = (text: string): string => masterKey.mac(text).toString("hex");
  return ({ session, ticketHash }) => {
    const end = { session, state: "expired" as const, endedAt: at };
    return {
      expired: evidenceId("ContentHandoverFailure", ticketHash),
      delayed: evidenceId("Delayed", ticketHash),
      expiredMac: mac(endedFacts({ ...end, isReleased: false })),
      expiredReleasedMac: mac(endedFacts({ ...end, isReleased: true })),
      delayedMac: mac(delayedFacts({ session, delayedAt: at })),
    };
  };
}

/** Sweeps once, and tells the outbox of what waits then. Several brokers may do so at the same time. */
export async function sweep(broker: Broker): Promise<void> {
  const { table, masterKey, log } = broker;
  const at = broker.now().getTime();
  const tell = async (): Promise<void> => {
    for (const entry of await table.pending()) broker.receiptWaits(entry);
  };
  const changed = await table.sweep(at, outcomesAt(masterKey, at)).catch(async (thrown: unknown) => {
    await tell(); // of the rows beside the broken one
    throw thrown;
  });
  if (changed === 0) return;
  log.info({ event: "table.swept", rows: changed });
  await tell();
}
