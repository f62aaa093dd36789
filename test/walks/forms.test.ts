/** Every form of a registered letter through the demo, its receipt verified by the command and by stock OpenSSL; forged files are refused. */
import { spawnSync } from "node:child_process";
import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { beforeAll, describe, expect, test } from "@jest/globals";
import { temporaryFolder } from "../servers/process.ts";
import { kakitome, must } from "./kakitome.ts";

const verify = (folder: string, changes: { original?: string; payload?: string; receipt?: string } = {}) => {
  const at = (name: string): string => join(folder, name);
  const { original = "original.p7s", payload = "letter.mime", receipt = "receipt.eml" } = changes;
  return kakitome(["verify", at(receipt), "--ca", at("ca.pem"), "--original", at(original), "--payload", at(payload)]);
};

/** Runs the commands that the demo prints. @returns their outcome, one after the other */
function stock(folder: string): { command: string; status: number | null }[] {
  return readFileSync(join(folder, "check.sh"), "utf8")
    .split("\n")
    .filter((line) => line !== "" && !line.startsWith("#"))
    .map((command) => ({ command, status: spawnSync("bash", ["-c", command], { cwd: folder, stdio: "ignore" }).status }));
}

describe("each form ends with a verified receipt", () => {
  test.each([
    ["held", "inner", "next-session"],
    ["held", "inner", "same-session"],
    ["held", "outer", "next-session"],
    ["held", "outer", "same-session"],
    ["held", "both", "next-session"],
    ["held", "both", "same-session"],
    ["enclosed", "inner", "next-session"],
    ["enclosed", "inner", "same-session"],
    ["enclosed", "outer", "next-session"],
    ["enclosed", "outer", "same-session"],
    ["enclosed", "both", "next-session"],
    ["enclosed", "both", "same-session"],
  ])("%s, signed %s, confirmed by %s", async (hold, signing, confirm) => {
    const folder = await temporaryFolder("form");
    const story = must(["demo", "--hold", hold, "--signing", signing, "--confirm", confirm, "--out", folder]);
    for (const step of ["S1", "S2", "S3", "S4", "S5", "S6", "S7", "S8", "S9", "S10", "S11"])
      expect(story).toMatch(new RegExp(`^ *${step} +\\d+ ms`, "mu"));
    const { status, stdout } = verify(folder);
    expect(stdout).toMatch(/^Proved: bob@b\.example opened <demo-\d+@a\.example> of alice@a\.example/mu);
    expect(status).toBe(0);
    const failed = stock(folder).filter((one) => one.status !== 0);
    const mustFail = hold === "held" ? [expect.stringContaining("-in registered.p7m -recip bob-encryption.crt.pem") as unknown] : [];
    expect(failed.map(({ command }) => command)).toEqual(mustFail); // Bob's key alone opens nothing that is held back
  });
});

describe("what was tampered with proves nothing", () => {
  let folder = "";
  beforeAll(async () => {
    folder = await temporaryFolder("tampered");
    must(["demo", "--out", folder]);
  });

  test("an altered letter is refused by us, although OpenSSL's -verify_receipt alone accepts it", () => {
    const forged = readFileSync(join(folder, "letter.mime"), "utf8").replace("is signed", "is void");
    writeFileSync(join(folder, "forged.mime"), forged);
    const args = [
      "-verify_receipt",
      "recipient-receipt.p7m",
      "-rctform",
      "DER",
      "-inform",
      "DER",
      "-in",
      "original.p7s",
      "-content",
      "forged.mime",
    ];
    expect(spawnSync("openssl", ["cms", ...args, "-CAfile", "ca.pem"], { cwd: folder }).status).toBe(0);
    const { status, stdout } = verify(folder, { payload: "forged.mime" });
    expect(status).toBe(1);
    expect(stdout).toMatch(/^bad {6}payload: the content is not the one that was signed/mu);
  });

  test("a missing file is named, and the exit code says that nothing is proved", () => {
    const { status, stdout } = kakitome(["verify", join(folder, "receipt.eml"), "--ca", join(folder, "ca.pem")]);
    expect(status).toBe(1);
    expect(stdout).toMatch(/^missing {2}original signature: give it with --original/mu);
  });

  test("the answer is one JSON document for another program", () => {
    const at = (name: string): string => join(folder, name);
    const args = [
      "verify",
      at("receipt.eml"),
      "--ca",
      at("ca.pem"),
      "--original",
      at("original.p7s"),
      "--payload",
      at("letter.mime"),
      "--json",
    ];
    expect(JSON.parse(must(args))).toMatchObject({
      holds: true,
      links: [{ state: "good" }, {}, {}, {}, {}],
      evidence: { event: "ContentHandover" },
    });
  });
});
