/** A slice of `npm run crash`: one kill at each of some telling points. */
import { describe, expect, test } from "@jest/globals";
import { canRunPostfix } from "../servers/postfix.ts";
import { isGood, runMatrix } from "./matrix.ts";

const suite = canRunPostfix ? describe : describe.skip;
if (!canRunPostfix) console.log("skipped: Postfix runs as root only");

suite("a letter arrives exactly once, sealed, with one receipt", () => {
  test.each([
    ["three recipients", 3, ["a6", "a8", "b6", "k3"]],
    ["one recipient", 1, ["a4", "b8", "k7", "k8"]],
  ] as const)(
    "with %s, whichever process dies",
    async (_shape, shape, points) => {
      const said: string[] = [];
      const cells = await runMatrix({ points, shapes: [shape], repeats: 1, say: (line) => said.push(line) });
      expect([cells.filter((cell) => !isGood(cell)), said.join("\n")]).toEqual([[], expect.any(String)]);
    },
    120_000,
  );
});
