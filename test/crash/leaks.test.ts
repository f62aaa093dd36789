/** A slice of `npm run leaks`: after a few letters and kills no text and no key stands on any disk but in the mailboxes. */
import { describe, expect, test } from "@jest/globals";
import { canRunPostfix } from "../servers/postfix.ts";
import { runLeaks } from "./leaks.ts";

const suite = canRunPostfix ? describe : describe.skip;
if (!canRunPostfix) console.log("skipped: Postfix runs as root only");

suite("what is left on disks", () => {
  test("tells nothing of the letters", async () => {
    const { found, findings, keys, kills } = await runLeaks({ mails: 24, seed: 3, between: 1_000 });
    expect([found, findings]).toEqual([[], []]);
    expect(keys).toBeGreaterThan(10);
    expect(kills).toBeGreaterThan(0);
  }, 240_000);
});
