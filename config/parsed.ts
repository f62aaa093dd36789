/** Schemas made of parsers that throw, shared by the schema of a configuration and its parts. */
import { z } from "zod";
import { duration } from "./units.ts";

/** A schema from a parser that throws: its message becomes the complaint at that place of the file. */
export function parsed<T>(parse: (text: string) => T): z.ZodType<T, string> {
  return z.string().transform((text, context) => {
    try {
      return parse(text);
    } catch (thrown) {
      context.addIssue({ code: "custom", message: thrown instanceof Error ? thrown.message : String(thrown) });
      return z.NEVER;
    }
  });
}

/** A duration with its default. */
export const time = (standard: string) => parsed(duration).prefault(standard);

/** A path; load.ts makes it absolute, counted from the file that names it. */
export const path = z.string().min(1).meta({ path: true });

/** `host:port`, IPv6 hosts in brackets. */
export const listen = parsed((text) => {
  const match = /^(?:\[([0-9A-Fa-f:.]+)\]|([^:\s]+)):(\d{1,5})$/u.exec(text);
  const number = Number(match?.[3]);
  if (!match || number > 65_535) throw new Error(`"${text}" is not host:port, such as 127.0.0.1:2587`);
  return { host: match[1] ?? match[2] ?? "", port: number };
});
