/** After a loss of power: what was written and not synced is written again from what was (docs/durability.md). */
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { reasonOf, type Log } from "../config/log.ts";
import { readIfPresent, writeDurably } from "./durable.ts";
import type { Letters } from "./letters.ts";
import type { Spool } from "./spool.ts";

/** Names this run of the machine; undefined where the system does not tell. */
function bootOf(): string | undefined {
  try {
    return readFileSync("/proc/sys/kernel/random/boot_id", "utf8").trim();
  } catch {
    return undefined;
  }
}

/** Restores the register, where the machine was started anew since it was done last. @param boot names this run of the machine */
export async function restoreRegister(
  folder: string,
  { spool, letters, log }: { readonly spool: Spool; readonly letters: Letters; readonly log: Log },
  boot = bootOf(),
): Promise<void> {
  const path = join(folder, "boot");
  if (boot !== undefined && (await readIfPresent(path))?.toString() === boot) return;
  const kept = await spool.registered((id, thrown) => log.error({ event: "spool.broken", accepted: id, reason: reasonOf(thrown) }));
  for (const letter of kept) await letters.restore(letter);
  if (boot !== undefined) await writeDurably(path, [Buffer.from(boot)]);
}
