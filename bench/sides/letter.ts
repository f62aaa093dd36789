/** What is sealed and opened in the measurements: a letter of so many octets from Alice to Bob. */
import { randomBytes } from "node:crypto";
import { makeParties, BROKER, MESSAGE, type Parties } from "../../test/mime/parties.ts";

export interface Order {
  readonly message: Buffer;
  readonly parties: Parties;
  readonly ticket: Buffer;
  readonly brokerUrl: string;
  readonly expiresAt: Date;
}

/** @param octets of the whole message; base64 lines behind the header, as an attachment would be */
export async function orderOf(octets: number): Promise<Order> {
  const head = MESSAGE.subarray(0, MESSAGE.indexOf("\r\n\r\n") + 4);
  const line = Buffer.from(`${randomBytes(57).toString("base64")}\r\n`);
  const body = Buffer.alloc(Math.max(0, octets - head.length), line);
  const message = Buffer.concat([head, body.subarray(0, Math.floor(body.length / line.length) * line.length)]);
  return {
    message,
    parties: await makeParties(),
    ticket: randomBytes(340),
    brokerUrl: BROKER,
    expiresAt: new Date("2026-03-31T12:00:00Z"),
  };
}
