/** The inbound hop: the doors at which a mail server hands mail over, and the delivery server that gets it from us (docs/install-lmtp.md). */
import { z } from "zod";
import { host, listen, network, path, port, tls } from "./parsed.ts";
import { doorLimits, size } from "./schema-door.ts";

/** Local delivery (RFC 2033), or like any other hop (RFC 5321). */
const protocol = z.enum(["lmtp", "smtp"]);

/** As at the door for clients, without what is there for passwords. */
const limits = doorLimits.omit({ authenticate: true, failures: true, userFailures: true, firstPause: true, longestPause: true });

export const inbound = z
  .strictObject({
    /** In the clear: the loopback, or a network of your own. */
    listen: z
      .array(
        z.strictObject({
          address: listen,
          /** `lmtp` (RFC 2033) or `smtp`; either way one recipient in a transaction. */
          protocol,
        }),
      )
      .min(1),
    /** From here mail is taken; everybody else is sent away at the greeting. */
    trustedNetworks: z.array(network).prefault(["127.0.0.0/8", "::1"]),
    /** The delivery server: everything goes on to it, letters opened. */
    deliver: z.strictObject({
      host,
      port,
      protocol,
      tls,
      ca: path.optional(),
    }),
    /** Of a mail on the wire; a letter is sealed and in base64 there. */
    largest: size("100MiB"),
    limits: limits.prefault({}),
  })
  .refine(({ listen: doors, deliver }) => !doors.some(({ address }) => address.host === deliver.host && address.port === deliver.port), {
    path: ["deliver"],
    message: "is one of the doors in listen: mail would go in circles",
  });

export type InboundConfig = z.output<typeof inbound>;
