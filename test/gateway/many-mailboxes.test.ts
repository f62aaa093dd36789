/** A gateway of more mailboxes than a function takes arguments: what looks at all of them at once. */
import { expect, test } from "@jest/globals";
import { Health } from "../../config/health.ts";
import type { Identities } from "../../gateway/identities.ts";
import { addGauges, Counted } from "../../gateway/metrics.ts";
import { Renewal } from "../../gateway/renewal.ts";
import { Standing } from "../../gateway/standing.ts";
import { heardLog } from "../broker/happenings.ts";
import { openHouse } from "../broker/house.ts";

const MANY = 130_000;

test("renewals go on", async () => {
  const house = await openHouse();
  const alice = await (await house.gateway("a.example")).enrol("alice@a.example");
  const stopping = new AbortController();
  const own = { address: "alice@a.example", certificates: [alice.identity.signer.certificate] };
  const identities = {
    all: () => Array.from({ length: MANY }, () => own),
    async renew() {
      stopping.abort();
      return true;
    },
  } as unknown as Identities;
  const nothing = async (): Promise<void> => undefined;
  const channel = { channel: () => alice.gateway.channel.certificate, renew: nothing, learn: async () => true };
  const { now } = house;
  const renewal = new Renewal({ channel, broker: alice.gateway.client, identities, log: heardLog().log, now });
  await expect(renewal.keep(stopping.signal, () => ({}))).resolves.toBeUndefined();
  await house.stop();
});

test.each([
  ["none of which is connected", MANY, 7],
  ["all of which are connected", 0, 0],
])("metrics are told of mailboxes %s", async (_what, count, seconds) => {
  let time = Date.parse("2026-03-01T12:00:00Z");
  const now = () => new Date(time);
  const standing = new Standing(
    Array.from({ length: count }, (_, at) => `user${at}@a.example`),
    now,
  );
  time += 7_000;
  const { metrics } = new Counted();
  const identities = { all: () => [] };
  const certificates = () => ({});
  addGauges(metrics, {
    health: new Health([], now),
    standing,
    spool: { probe: async () => 1 },
    waiting: async () => undefined,
    identities,
    certificates,
    now,
  });
  expect(await metrics.text()).toMatch(new RegExp(`^kakitome_watcher_disconnected_seconds ${seconds}$`, "mu"));
});
