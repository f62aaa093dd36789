/** What a reload takes of a configuration, and what it names until the restart. */
import { readFileSync, writeFileSync } from "node:fs";
import { afterAll, beforeAll, expect, test } from "@jest/globals";
import { parse, stringify } from "yaml";
import { loadGateway } from "../../config/load.ts";
import { startGateway } from "../../gateway/main.ts";
import { heardLog } from "../broker/happenings.ts";
import { openHouse, type House } from "../broker/house.ts";
import { freePort } from "../servers/ports.ts";
import { prepareSender } from "../system/sender.ts";

let house: House;
beforeAll(async () => {
  house = await openHouse();
});
afterAll(() => house?.stop());

test.each([
  ["others", "pass"],
  ["control", "recall@a.example"],
  ["listen", [{ address: "127.0.0.1:2525", tls: "starttls" }]],
])("submission.%s, which needs a restart, is named at each reload until then, beside what counts at once", async (key, value) => {
  const { config } = await prepareSender(house, await freePort());
  const gateway = await startGateway(loadGateway(config), heardLog().log);
  const file = parse(readFileSync(config, "utf8")) as { submission: object };
  Object.assign(file.submission, { [key]: value, mostRecipients: 7 });
  writeFileSync(config, stringify(file));
  const [first, second] = [await gateway.reload(loadGateway(config)), await gateway.reload(loadGateway(config))];
  await gateway.stop();
  const named = expect.stringMatching(new RegExp(`^submission\\.${key}\\b`, "u"));
  expect(first).toEqual({ changed: ["submission.mostRecipients"], restart: [named] });
  expect(second).toEqual({ changed: [], restart: [named] });
});
