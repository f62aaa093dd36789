/** What an administrator may write, with every default: the schemas of broker.yaml and gateway.yaml. */
import { isIPv4 } from "node:net";
import { z } from "zod";
import { parseDomain, parseMailbox } from "../mime/address.ts";
import { host, listen, network, parsed, path, port, time, tls } from "./parsed.ts";
import { clients } from "./schema-clients.ts";
import { doorLimits, size } from "./schema-door.ts";
import { inbound } from "./schema-inbound.ts";
import { maildir } from "./schema-maildir.ts";
import { oauth } from "./schema-oauth.ts";
import { policySchema } from "./schema-policy.ts";
import { eachAddressOnce, eachUserOnce } from "./twice.ts";
import { duration } from "./units.ts";

const mailbox = parsed(parseMailbox);

const httpsUrl = parsed((text) => {
  const url = URL.canParse(text) ? new URL(text) : undefined;
  if (url?.protocol !== "https:" || url.pathname !== "/" || url.search !== "" || url.username !== "") {
    throw new Error(`"${text}" is not an address such as https://broker.example:8443`);
  }
  return url.origin;
});

const account = {
  host,
  port,
  tls,
  /** PEM of the authorities to trust instead of the system's. */
  ca: path.optional(),
  user: z.string().min(1).optional(),
  passwordFile: path.optional(),
};

/** Refinements run beside other mistakes of the same object, so that all are named at once. */
const always = { when: ({ value }: { value: unknown }): boolean => typeof value === "object" && value !== null };

const bothOrNone = (value: { user?: string | undefined; passwordFile?: string | undefined }): boolean =>
  (value.user === undefined) === (value.passwordFile === undefined);
const relay = z.strictObject(account).refine(bothOrNone, { ...always, message: "user and passwordFile belong together" });

/** A user has one of the two. */
const hasOneProof = ({ passwordFile, oauth: token }: { passwordFile?: string | undefined; oauth?: unknown }): boolean =>
  (passwordFile === undefined) !== (token === undefined);
const gatewayRelay = z
  .strictObject({ ...account, oauth: oauth.optional() })
  .refine((value) => (value.user === undefined ? !value.passwordFile && !value.oauth : hasOneProof(value)), {
    ...always,
    message: "user and passwordFile belong together, or user and oauth",
  });

/** A token bucket. */
const rate = (burst: number, perSecond: number) =>
  z
    .strictObject({
      /** How many requests may come at once. */
      burst: z.int().min(1).max(1_000_000).default(burst),
      /** How many may come for good. */
      perSecond: z.number().positive().max(1_000_000).default(perSecond),
    })
    .prefault({});

/** The loopback needs no TLS. */
const isLoopback = ({ host: name }: { host: string }): boolean =>
  name === "localhost" || name === "::1" || (isIPv4(name) && name.startsWith("127."));

/** A listener that tells how the process is: /livez, /readyz and /metrics. Without it there is none. */
const health = z.strictObject({
  /** Plain HTTP, and no secret in it: the loopback, or a network of your own. */
  listen,
});

export const brokerSchema = z
  .strictObject({
    /** Where gateways reach the broker; also its name in envelopes and evidence. */
    url: httpsUrl,
    listen,
    /** Processes that answer gateways, beside the one that they belong to; where it is 1 that one does all of it. More than one need the table in Redis. */
    workers: z.int().min(1).max(64).default(1),
    /** Folder of keys, certificates and the embedded table; made by `kakitome init broker`. */
    data: path,
    /** Folder of the days' wrapping keys, `days` in `data` where left out; brokers on one table share it. */
    dayKeys: path.optional(),
    table: z
      .union([
        z.literal("embedded"),
        z
          .strictObject({
            /** One server. */
            redis: z
              .string()
              .regex(/^rediss?:\/\//u, "must begin with redis:// or rediss://")
              .optional(),
            /** Or the primary that these sentinels know by this name. */
            sentinel: z.strictObject({ name: z.string().min(1), hosts: z.array(listen).min(1), passwordFile: path.optional() }).optional(),
            /** Or a cluster, by some of its nodes. */
            cluster: z.array(listen).min(1).optional(),
            /** For sentinel and cluster; `redis` has it in its address. */
            user: z.string().min(1).optional(),
            passwordFile: path.optional(),
            /** TLS to sentinels and to servers that they or the cluster name. */
            tls: z.boolean().default(false),
            /** PEM of the authorities to trust instead of the system's. */
            ca: path.optional(),
            prefix: z
              .string()
              .regex(/^[^{}]*$/u, "must not hold a brace, which would change the slot of a key")
              .default("kakitome:"),
            /** How many replicas must have a step before it is answered. */
            replicas: z.int().min(0).max(10).default(0),
          })
          .refine(({ redis, sentinel, cluster }) => [redis, sentinel, cluster].filter((place) => place !== undefined).length === 1, {
            ...always,
            message: "needs one of redis, sentinel and cluster",
          }),
      ])
      .default("embedded"),
    receipts: z.strictObject({
      /** A person should read what is answered to it. */
      from: mailbox,
      relay,
      retryFirst: time("10s"),
      retryLongest: time("30m"),
    }),
    expiry: z
      .strictObject({
        longest: time("90d"),
        /** After how long at the latest a sender is told once that a letter is not opened yet; left out, only senders who wish it are told. */
        warnAfter: parsed(duration).optional(),
      })
      .prefault({}),
    /** A letter that no next hop took vanishes after this. */
    vanishAfter: time("24h"),
    retention: time("30d"),
    certificates: z.strictObject({ lifetime: time("365d") }).prefault({}),
    /** How long a revocation list counts; gateways fetch a new one long before. */
    crl: z.strictObject({ lifetime: time("7d") }).prefault({}),
    /** Under which the days' keys are encrypted: a file, `master.key` in `data` where left out, or a credential that systemd hands over. */
    masterKey: z
      .strictObject({
        file: path.optional(),
        credential: z
          .string()
          .regex(/^\w[\w.-]{0,254}$/u, "must be a name")
          .optional(),
      })
      .refine(({ file, credential }) => (file === undefined) !== (credential === undefined), {
        ...always,
        message: "needs either file or credential",
      })
      .optional(),
    /** What one party may ask for; more is answered 429 for a while. */
    limits: z
      .strictObject({
        /** For each gateway. */
        perGateway: rate(5_000, 500),
        /** For each address (IPv6: each /64) that shows no certificate. */
        perAddress: rate(300, 10),
        /** Connections at a time. */
        connections: z.int().min(10).max(1_000_000).default(10_000),
        /** For a TLS handshake, and again for the header of a request. */
        header: time("10s"),
        /** For a whole request to come in. */
        request: time("30s"),
      })
      .prefault({}),
    health: health.optional(),
    /** A listener for the operator's programs, apart from the gateways'. Without it there is none. */
    admin: z
      .strictObject({
        /** On the loopback it speaks HTTP, elsewhere HTTPS with the broker's server certificate. */
        listen,
        /** A file of mode 600 with the token that every request shows, 128 bits or more. */
        tokenFile: path,
      })
      .transform((admin) => ({ ...admin, tls: !isLoopback(admin.listen) }))
      .optional(),
  })
  .refine(({ table, workers }) => table !== "embedded" || typeof workers !== "number" || workers === 1, {
    ...always,
    path: ["workers"],
    message: "more than one need the table in Redis: write table: { redis: redis://HOST:PORT }, or leave workers out",
  });

const user = z.strictObject({
  name: z.string().min(1).max(254),
  /** Made by `kakitome user add`. */
  password: z.string().regex(/^\$scrypt\$/u, 'must be made by "kakitome user add"'),
  /** Whom this user may send as. */
  identities: z.array(mailbox).min(1),
});

const imap = z
  .strictObject({
    ...account,
    /** Instead of passwordFile: a token from the provider's server (schema-oauth.ts). */
    oauth: oauth.optional(),
    watch: z.string().min(1).default("INBOX"),
    /** Where opened letters are filed. */
    opened: z.string().min(1).default("INBOX"),
    /** Where the sealed originals go after the confirmation; `remove` deletes them. */
    sealed: z.string().min(1).default("remove"),
    /** How often a server without IDLE is asked. */
    poll: time("30s"),
  })
  .refine((value) => value.user !== undefined && hasOneProof(value), {
    ...always,
    message: "user and passwordFile are needed, or user and oauth",
  });

const ownMailbox = z
  .strictObject({
    address: mailbox,
    aliases: z.array(mailbox).default([]),
    /** `signed`: the letter with its signature as it was sealed; `plain`: exactly as it was submitted. */
    deliver: z.enum(["signed", "plain"]).default("signed"),
    /** Without it and maildir the mailbox sends only, unless its mail comes in by us (`inbound`). */
    imap: imap.optional(),
    /** Instead of imap: a folder of files on this machine (schema-maildir.ts). */
    maildir: maildir.optional(),
  })
  .refine((value) => !value.imap || !value.maildir, {
    ...always,
    path: ["maildir"],
    message: "a mailbox is at imap or in a maildir, not both",
  });

export const gatewaySchema = z
  .strictObject({
    /** Host name of this gateway: in greetings, Received and Authentication-Results. */
    name: parsed(parseDomain),
    /** Folder of keys, spool and journal. */
    data: path,
    /** Processes that take letters in and watch mailboxes, beside the one that they belong to; where it is 1 that one does all of it. */
    workers: z.int().min(1).max(64).default(1),
    broker: z.strictObject({
      url: httpsUrl,
      timeout: time("20s"),
      /** How often the broker's revocation list is fetched. */
      revocations: time("1h"),
    }),
    submission: z
      .strictObject({
        listen: z.array(z.strictObject({ address: listen, tls: z.enum(["implicit", "starttls"]) })).min(1),
        certificate: path,
        key: path,
        largest: size("35MiB"),
        mostRecipients: z.int().min(1).max(1_000).default(100),
        /** From here the gateway's own mailboxes may send without AUTH: a mail server in front that knows its users. */
        trustedNetworks: z.array(network).default([]),
        /** Mail of all other senders, and of nobody, from these networks: refuse it, or pass it on as it is (a content filter). */
        others: z.enum(["refuse", "pass"]).default("refuse"),
        /** A mail of a sender to this address is a command, such as `recall <message-id>` in its Subject; it goes nowhere. */
        control: mailbox.optional(),
        limits: doorLimits.prefault({}),
      })
      .optional(),
    users: z.array(user).superRefine(eachUserOnce).default([]),
    mailboxes: z.array(ownMailbox).min(1).superRefine(eachAddressOnce),
    /** What happens to recipients, and how letters travel (schema-policy.ts). */
    policy: policySchema.prefault({}),
    relay: gatewayRelay.optional(),
    /** Mail that comes in by us on its way to the mailboxes (schema-inbound.ts); letters to mailboxes without imap and maildir are opened. */
    inbound: inbound.optional(),
    /** What mail clients are told of their servers. */
    clients: clients.prefault({}),
    /** How long is remembered what was done with a letter that came in. */
    retention: time("30d"),
    health: health.optional(),
    retry: z.strictObject({ first: time("10s"), longest: time("30m"), giveUpAfter: time("2d") }).prefault({}),
  })
  .refine((value) => !value.submission || value.relay, {
    ...always,
    path: ["relay"],
    message: "needed where submission is configured: the next hop",
  });

export type BrokerConfig = z.output<typeof brokerSchema>;
export type GatewayConfig = z.output<typeof gatewaySchema>;
export type ImapConfig = z.output<typeof imap>;
export type OwnMailbox = z.output<typeof ownMailbox>;
export type User = z.output<typeof user>;
export type { Network } from "./parsed.ts";
export { standardDoorLimits, type DoorLimits } from "./schema-door.ts";
export type { InboundConfig } from "./schema-inbound.ts";
