/** Schemas made of parsers that throw, shared by the schema of a configuration and its parts. */
import { isIP } from "node:net";
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

export const host = z.string().min(1).max(253);
export const port = z.int().min(1).max(65_535);

/** Certificates and names are checked wherever TLS is used; `none` is for the loopback and must be written out. */
export const tls = z.enum(["implicit", "starttls", "none"]);

/** `10.0.0.0/8`, `2001:db8::/32`, `192.0.2.7`; larger networks than /8 and /32 are nobody's own. */
export const network = parsed((text) => {
  const match = /^([0-9A-Fa-f.:]+)(?:\/(\d{1,3}))?$/u.exec(text);
  const [address = "", length] = match?.slice(1) ?? [];
  const family = isIP(address);
  const [least, longest] = family === 6 ? [32, 128] : [8, 32];
  const prefix = length === undefined ? longest : Number(length);
  if (family === 0 || prefix < least || prefix > longest) {
    throw new Error(`"${text}" is not a network such as 192.0.2.0/24 or 2001:db8::/48, at the widest /8 or /32`);
  }
  return { address, prefix, family: family === 6 ? ("ipv6" as const) : ("ipv4" as const) };
});

export type Network = z.output<typeof network>;
