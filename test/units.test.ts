/** The systemd units: systemd takes them, and what they leave open stays under 2 of its 10 points. */
import { execFileSync } from "node:child_process";
import { join } from "node:path";
import { describe, expect, test } from "@jest/globals";

describe.each([["kakitome-broker.service"], ["kakitome-gateway.service"]])("%s", (name) => {
  const file = join(import.meta.dirname, "..", "config", name);

  test("scores under 2.0", () => {
    const rated = execFileSync("systemd-analyze", ["security", "--offline=true", file], {
      encoding: "utf8",
      env: { ...process.env, LC_ALL: "C" },
    });
    const score = Number(/exposure level for \S+: (\d+\.\d+)/u.exec(rated)?.[1]);
    expect(score).toBeGreaterThan(0);
    expect(score).toBeLessThan(2);
  });
});
