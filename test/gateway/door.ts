/** A door of a gateway for tests: the real one, with users, a directory of three and an outbound walk that only keeps what it was given. */
import { createPublicKey, scryptSync } from "node:crypto";
import { createRoot, issue } from "../../broker/authority.ts";
import { newKey } from "../../mime/request.ts";
import { Fault } from "../../mime/fault.ts";
import type { Mailbox } from "../../mime/address.ts";
import { parseMailbox } from "../../mime/address.ts";
import { standardDoorLimits, type DoorLimits, type Network } from "../../config/schema.ts";
import { standardPolicy } from "../../config/schema-policy.ts";
import { Attempts } from "../../gateway/attempts.ts";
import { Policy } from "../../gateway/policy.ts";
import { openDoor, type Submission } from "../../gateway/submission.ts";
import type { Transit } from "../../gateway/transit.ts";
import { Users } from "../../gateway/users.ts";
import { Visits, networksOf } from "../../gateway/visits.ts";
import { heardLog, type HeardLog } from "../broker/happenings.ts";
import { Talk } from "./talk.ts";

export const ALICE = "alice@a.example";
export const PASSWORD = "alice-secret";
export const LARGEST = 100_000;

export interface TestDoor {
  readonly port: number;
  readonly tlsPort: number;
  readonly ca: string;
  readonly taken: Submission[];
  /** Of other senders. */
  readonly passed: Transit[];
  readonly heard: HeardLog;
  /** What the next consignments do instead of succeeding. */
  consign: (submission: Submission) => Promise<string>;
  demandSigner: (mailbox: Mailbox) => void;
  /** A client that is through STARTTLS and AUTH. */
  enter(name?: string): Promise<Talk>;
  stop(): Promise<void>;
}

/** A second user, who has one identity. */
export const CAROL = "carol@a.example";

/** A hash that costs little to check; what `kakitome user add` makes costs a tenth of a second. */
export function quickHash(password: string): string {
  const salt = Buffer.from("salt");
  const key = scryptSync(password, salt, 32, { N: 1_024, r: 8, p: 1 });
  return `$scrypt$1024$8$1$${salt.toString("base64url")}$${key.toString("base64url")}`;
}

/** Made once for all doors of a test file. */
let lasting: Promise<{ ca: string; key: string; certificate: string; password: string }> | undefined;

async function make() {
  const [from, until] = [new Date(Date.now() - 86_400_000), new Date(Date.now() + 86_400_000)];
  const root = await createRoot("Door root", from, until);
  const key = newKey();
  const order = { profile: "server" as const, publicKey: createPublicKey(key), commonName: "door", hosts: ["127.0.0.1"] };
  const certificate = await issue(root, { ...order, notBefore: from, notAfter: until });
  return {
    ca: root.certificate.pem,
    key: key.export({ type: "pkcs8", format: "pem" }).toString(),
    certificate: certificate.pem,
    password: quickHash(PASSWORD),
  };
}

export interface DoorOptions {
  readonly mostRecipients?: number;
  readonly limits?: Partial<DoorLimits>;
  readonly trustedNetworks?: readonly Network[];
  readonly visits?: Visits;
  /** Whether mail of other senders is passed on. */
  readonly others?: boolean;
}

export async function openTestDoor({ mostRecipients = 5, ...options }: DoorOptions = {}): Promise<TestDoor> {
  const limits = { ...standardDoorLimits(), failures: 1_000, userFailures: 1_000, ...options.limits };
  const isTrusted = networksOf(options.trustedNetworks ?? []);
  lasting ??= make();
  const { ca, password, key, certificate } = await lasting;
  const heard = heardLog();
  const users = [
    { name: "alice", password, identities: [parseMailbox(ALICE), parseMailbox("a.liddell@a.example")] },
    { name: "carol", password, identities: [parseMailbox(CAROL)] },
  ];
  const household = { name: "the network", identities: [parseMailbox(ALICE)] };
  const enrolled = new Set(["bob@b.example", "carol@b.example", "böb@b.example"]);
  const directory = {
    isEnrolled: async ({ key: name, domain }: Mailbox) => {
      if (domain === "away.example") throw new Fault("unavailable", "the broker is away");
      return enrolled.has(name);
    },
  };
  const rules = standardPolicy({ rules: { "pass.example": { unenrolled: "pass" } } });
  const stopping = new AbortController();
  const keep = async (submission: Submission): Promise<string> => `id-${door.taken.push(submission)}`;
  const parts = {
    users: new Users(users),
    visits: options.visits ?? new Visits(limits, isTrusted),
    attempts: new Attempts(limits),
    trusted: (address: string) => (isTrusted(address) ? household : undefined),
    policy: new Policy(rules, directory),
    log: heard.log,
    demandSigner: (mailbox: Mailbox) => door.demandSigner(mailbox),
    consign: (submission: Submission) => door.consign(submission),
    passOn: options.others ? async (transit: Transit) => `passed-${door.passed.push(transit)}` : undefined,
  };
  const about = {
    name: "gateway.a.example",
    listen: { host: "127.0.0.1", port: 0 },
    key,
    certificate,
    largest: LARGEST,
    mostRecipients,
    limits,
  };
  const open = await openDoor({ ...about, tls: "starttls" }, parts);
  const openTls = await openDoor({ ...about, tls: "implicit" }, parts);
  const clients: Talk[] = [];
  const door: TestDoor = {
    port: open.port,
    tlsPort: openTls.port,
    ca,
    taken: [],
    passed: [],
    heard,
    consign: keep,
    demandSigner: () => undefined,
    async enter(name = "alice") {
      const talk = await Talk.open(open.port);
      clients.push(talk);
      await talk.say("EHLO client.example");
      await talk.secure(ca);
      const answer = await talk.login(name, PASSWORD);
      if (!answer.startsWith("235")) throw new Error(`not let in: ${answer}`);
      return talk;
    },
    async stop() {
      stopping.abort();
      for (const client of clients) client.close();
      await Promise.all([open.stop(), openTls.stop()]);
    },
  };
  return door;
}
