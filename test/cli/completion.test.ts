/** Completion in a real bash, and the pages that are made from the commands and the schemas. */
import { spawnSync } from "node:child_process";
import { join } from "node:path";
import { beforeAll, describe, expect, test } from "@jest/globals";
import { must } from "../walks/kakitome.ts";

const root = join(import.meta.dirname, "..", "..");

describe("bash offers", () => {
  let script: string;
  beforeAll(() => {
    script = must(["completion", "bash"]);
  });

  test.each([
    ["commands by their beginning", ["st"], ["status"]],
    ["a command's own commands", ["broker", "re"], ["restore", "revoke"]],
    ["options at their place", ["init", "gateway", "--imap"], ["--imap", "--imap-tls"]],
    ["the choices of an option", ["init", "gateway", "--imap-tls", ""], ["implicit", "starttls", "none"]],
    ["files behind an option that takes one", ["status", "--config", ""], []],
    ["the same behind options that were given", ["status", "--json", "--si"], ["--since"]],
    ["nothing that is not there", ["nonsense", "--x"], []],
  ])("%s", (_what, words, offered) => {
    const ask = 'source <(cat); COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); _kakitome; printf "%s\\n" "${COMPREPLY[@]}"';
    const { stdout, stderr } = spawnSync("bash", ["-c", ask, "bash", "kakitome", ...words], { encoding: "utf8", input: script });
    expect(stderr).toBe("");
    expect(stdout.split("\n").filter(Boolean)).toEqual(offered);
  });
});

test("every shell has a script that names every command", () => {
  for (const shell of ["bash", "zsh", "fish"])
    for (const command of ["enrol", "gateway", "status", "verify"]) expect(must(["completion", shell])).toContain(command);
});

test("man/kakitome.1 and docs/config.md are as the commands and the schemas are", () => {
  const { status, stderr } = spawnSync(process.execPath, ["scripts/docs.mjs", "--check"], { cwd: root, encoding: "utf8" });
  expect({ status, stderr }).toEqual({ status: 0, stderr: "" });
});

test("mandoc finds nothing to warn of in the manual", () => {
  const page = join(root, "man", "kakitome.1");
  expect(spawnSync("mandoc", ["-T", "lint", "-W", "warning", page], { encoding: "utf8" })).toMatchObject({ stdout: "", status: 0 });
});
