/** The alert rules: Debian's promtool accepts them, they fire when they should, and every metric they name is one that a broker or gateway has. */
import { execFileSync } from "node:child_process";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { expect, test } from "@jest/globals";
import { addGauges as addBrokerGauges, Counted as BrokerCounted } from "../../broker/metrics.ts";
import { Health } from "../../config/health.ts";
import { addGauges as addGatewayGauges, Counted as GatewayCounted } from "../../gateway/metrics.ts";
import { Standing } from "../../gateway/standing.ts";

const RULES = join(import.meta.dirname, "..", "..", "config", "alerts.yml");
const now = () => new Date();

test("promtool accepts the rules", () => {
  expect(execFileSync("promtool", ["check", "rules", RULES], { encoding: "utf8" })).toMatch(/SUCCESS: \d\d rules found/u);
});

test("they fire when they should and not before", () => {
  const said = execFileSync("promtool", ["test", "rules", join(import.meta.dirname, "alerts.tests.yml")], { encoding: "utf8" });
  expect(said).toContain("SUCCESS");
});

test("every metric that a rule names is counted by the broker or the gateway", async () => {
  const [broker, gateway] = [new BrokerCounted(), new GatewayCounted()];
  const health = new Health([{ name: "table", look: async () => "well" }], now);
  addBrokerGauges(broker.metrics, {
    health,
    outbox: { waiting: { receipts: 0, oldestMs: 0, reason: undefined } },
    certificates: () => ({}),
    now,
  });
  const standing = new Standing(["alice@a.example"], now);
  const gauged = { health, standing, spool: { probe: async () => 1 }, waiting: async () => undefined, identities: { all: () => [] } };
  addGatewayGauges(gateway.metrics, { ...gauged, certificates: () => ({}), now });
  const known = `${await broker.metrics.text()}${await gateway.metrics.text()}`;
  const named = new Set(readFileSync(RULES, "utf8").match(/\bkakitome_\w+/gu));
  expect(named.size).toBeGreaterThan(10);
  expect([...named].filter((name) => !known.includes(`# TYPE ${name} `))).toEqual([]);
});
