/** What the broker counts of presentations: each refusal by its reason, each key once, and once more where it is given out again. */
import { expect, test } from "@jest/globals";
import { Counted } from "../../broker/metrics.ts";
import { forever, openHouse, ticketOf } from "./house.ts";

test("keys and refusals are counted as they happen: a stranger's presentation, the recipient's, the recipient's again", async () => {
  const house = await openHouse();
  try {
    const alice = await (await house.gateway("a.example")).enrol("alice@a.example");
    const gateway = await house.gateway("b.example");
    const [bob, carol] = [await gateway.enrol("bob@b.example"), await gateway.enrol("carol@b.example")];
    const ticket = await ticketOf(house, alice, "bob@b.example");
    await expect(gateway.client.present(ticket, carol.identity, forever)).rejects.toMatchObject({ code: "session-gone" });
    await gateway.client.present(ticket, bob.identity, forever);
    await gateway.client.present(ticket, bob.identity, forever);
    const counted = new Counted();
    for (const line of house.heard.lines.all) counted.hear(line as Parameters<typeof counted.hear>[0]);
    const text = await counted.metrics.text();
    expect(text).toContain('kakitome_key_refusals_total{reason="session-gone"} 1\n');
    expect(text).toContain('kakitome_key_releases_total{again="no"} 1\n');
    expect(text).toContain('kakitome_key_releases_total{again="yes"} 1\n');
    expect(text).toContain('kakitome_sessions_total{step="declared"} 1\n');
    const refused = house.heard.lines.all.find(({ event }) => event === "session.refused");
    const released = house.heard.lines.all.find(({ event }) => event === "session.released");
    expect(refused?.["session"]).toBe(released?.["session"]);
    expect(Object.keys(refused ?? {}).includes("letter")).toBe(false); // looking it up would cost time that tells
  } finally {
    await house.stop();
  }
});
