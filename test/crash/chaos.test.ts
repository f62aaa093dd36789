/** A slice of `npm run chaos`: processes die at random for a quarter of a minute. */
import { describe, expect, test } from "@jest/globals";
import { canRunPostfix } from "../servers/postfix.ts";
import { inWords, runChaos } from "./chaos.ts";

const suite = canRunPostfix ? describe : describe.skip;
if (!canRunPostfix) console.log("skipped: Postfix runs as root only");

suite("letters arrive exactly once, sealed, with one receipt each", () => {
  test("whatever dies whenever", async () => {
    const chaos = await runChaos({ minutes: 0.3, seed: 7, rate: 2, say: () => undefined });
    expect([chaos.findings, inWords(chaos)]).toEqual([[], expect.any(String)]);
  }, 240_000);
});
