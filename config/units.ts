/** Quantities with their unit in the type: a time in milliseconds and a size in octets cannot take each other's place. */
import { Fault } from "../mime/fault.ts";

declare const unit: unique symbol;
export type Milliseconds = number & { readonly [unit]: "ms" };
export type Octets = number & { readonly [unit]: "octets" };

const TIMES = { ms: 1, s: 1_000, m: 60_000, h: 3_600_000, d: 86_400_000 } as const;
const SIZES = { B: 1, KiB: 1 << 10, MiB: 1 << 20, GiB: 1 << 30 } as const;

function quantity(text: string, units: Readonly<Record<string, number>>, example: string): number {
  const match = /^(\d{1,9})([A-Za-z]+)$/u.exec(text);
  const factor = match?.[2] && Object.hasOwn(units, match[2]) ? units[match[2]] : undefined;
  if (!match || factor === undefined) {
    throw new Fault(
      "malformed",
      `"${text}" is not a quantity: write a whole number and one of ${Object.keys(units).join(", ")}, such as ${example}`,
    );
  }
  return Number(match[1]) * factor;
}

/** Parse `30s`, `5m`, `24h`, `30d`, `500ms`. @throws Fault `malformed`. */
export function duration(text: string): Milliseconds {
  return quantity(text, TIMES, "30s") as Milliseconds;
}

/** Parse `512B`, `64KiB`, `25MiB`, `1GiB`. @throws Fault `malformed`. */
export function octets(text: string): Octets {
  return quantity(text, SIZES, "25MiB") as Octets;
}
