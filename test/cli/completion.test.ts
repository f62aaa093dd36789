/** Completion in a real bash, zsh and fish, and the pages that are made from the commands and the schemas. */
import { spawnSync } from "node:child_process";
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { beforeAll, describe, expect, test } from "@jest/globals";
import { temporaryFolder } from "../servers/process.ts";
import { must } from "../walks/kakitome.ts";

const root = join(import.meta.dirname, "..", "..");

/** What stands before the cursor, and what each shell offers there. */
const OFFERED: [what: string, words: string[], offered: string[]][] = [
  ["commands by their beginning", ["st"], ["status"]],
  ["a command's own commands", ["broker", "re"], ["restore", "revoke"]],
  ["those of a command of the third rank", ["broker", "rotate", "s"], ["server", "session", "signing"]],
  ["options at their place", ["init", "gateway", "--imap"], ["--imap", "--imap-tls"]],
  ["the choices of an option", ["init", "gateway", "--imap-tls", ""], ["implicit", "none", "starttls"]],
  ["the same behind options that were given", ["status", "--json", "--si"], ["--since"]],
  ["what belongs to the word, not to one of the same name", ["init", "gateway", "ru"], []],
  ["nothing that is not there", ["nonsense", "--x"], []],
];

/** Runs a shell on a script of its own with a home of its own. */
function run(shell: string, script: string, words: readonly string[], input = ""): string {
  const { stdout, stderr } = spawnSync(shell, [...(shell === "zsh" ? ["-f"] : shell === "fish" ? ["-N"] : []), "-c", script, ...words], {
    encoding: "utf8",
    input,
    timeout: 30_000,
    cwd: home,
    env: { PATH: process.env["PATH"], HOME: home, ZDOTDIR: home, XDG_CONFIG_HOME: home, TERM: "dumb" },
  });
  expect(stderr).toBe("");
  return stdout;
}

const isThere = (shell: string): boolean => spawnSync(shell, ["-c", "exit 0"]).status === 0;
const sorted = (text: string): string[] => text.split("\n").filter(Boolean).toSorted();
let home: string;
beforeAll(async () => {
  home = await temporaryFolder("shell");
});

describe("bash offers", () => {
  let script: string;
  beforeAll(() => {
    script = must(["completion", "bash"]);
  });

  test.each([...OFFERED, ["files behind an option that takes one", ["status", "--config", ""], []] as const])(
    "%s",
    (_what, words, offered) => {
      const ask = 'source <(cat); COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); _kakitome; printf "%s\\n" "${COMPREPLY[@]}"';
      expect(sorted(run("bash", ask, ["bash", "kakitome", ...words], script))).toEqual(offered);
    },
  );
});

for (const shell of ["zsh", "fish"]) if (!isThere(shell)) console.log(`skipped: ${shell} is not installed (apt-get install ${shell})`);

(isThere("fish") ? describe : describe.skip)("fish", () => {
  let file: string;
  beforeAll(() => {
    file = join(home, "kakitome.fish");
    writeFileSync(file, must(["completion", "fish"]));
  });

  test("finds no fault in the script's syntax", () => {
    expect(spawnSync("fish", ["-N", "--no-execute", file], { encoding: "utf8" })).toMatchObject({ status: 0, stderr: "" });
  });

  test.each(OFFERED)("offers %s", (_what, words, offered) => {
    const lines = run("fish", `source ${file}; complete -C '${["kakitome", ...words].join(" ")}'`, []).split("\n");
    const found = lines.map((line) => line.split("\t")[0] ?? "").filter((word) => !/kakitome\.fish|\/$/u.test(word)); // files may stand there too
    expect(sorted(found.join("\n"))).toEqual(offered);
  });
});

(isThere("zsh") ? describe : describe.skip)("zsh", () => {
  let file: string;
  beforeAll(() => {
    file = join(home, "_kakitome");
    writeFileSync(file, must(["completion", "zsh"]));
  });

  test("finds no fault in the script's syntax", () => {
    expect(spawnSync("zsh", ["-f", "-n", file], { encoding: "utf8" })).toMatchObject({ status: 0, stderr: "" });
  });

  test.each(OFFERED)("offers %s", (_what, words, offered) => {
    // As zsh's own _bash_complete asks (bashcompinit): the function has said what it offers when compgen -F is over.
    const ask = `source ${file}; COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); words=("$@"); CURRENT=$#; compgen -F _kakitome -- "\${@[-1]}"`;
    const found = sorted(run("zsh", ask, ["zsh", "kakitome", ...words]));
    expect(found.filter((word) => word.startsWith(words.at(-1) ?? ""))).toEqual(offered); // zsh itself leaves out the others
  });

  test("completes what is typed at a terminal", () => {
    const typed = [
      "zmodload zsh/zpty; zpty shell zsh -f -i",
      `zpty -w shell 'source ${file}; kakitome() { print -r -- "typed:$*." }; print -r -- loa""ded'`,
      "zpty -r shell out '*loaded*'",
      "zpty -w -n shell $'kakitome broker rot\\troo\\t--ret\\t\\n'",
      "zpty -r shell out '*typed:*.*'; print -r -- $out; zpty -d shell",
    ];
    expect(run("zsh", typed.join("; "), [])).toContain("typed:broker rotate root --retire.");
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
