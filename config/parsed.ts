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
