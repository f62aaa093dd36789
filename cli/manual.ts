/** The page of the manual, man(7), made from the commands as they are; `npm run docs` writes it to man/kakitome.1. */
import type { Command } from "commander";

/** What a script may rely on. */
const EXIT_CODES: readonly (readonly [number, string])[] = [
  [0, "Done. Long-running commands: ended by SIGTERM or SIGINT after everything was put away."],
  [1, "Not done; one line on standard error says what, where, and how to mend it. verify: the proof does not hold."],
  [2, "The command line cannot be understood; nothing was done."],
  [3, "recall: too late for a recipient, or sent without a session. reload: something waits for a restart. readyz: not ready."],
  [4, "readyz: no answer."],
];

const FILES: readonly (readonly [string, string])[] = [
  ["gateway.yaml", "The gateway's configuration; --config names another one. Every setting: config/gateway.example.yaml."],
  ["broker.yaml", "The broker's configuration; every setting: config/broker.example.yaml."],
];

/** @param program with all of its commands */
export function manual(program: Command): string {
  const lines = [
    `.TH KAKITOME 1 2026-11-27 "" "Kakitome"`,
    ".SH NAME",
    "kakitome \\- registered mail for S/MIME",
    ".SH SYNOPSIS",
    ".B kakitome",
    ".I command",
    ".RI [ options ]",
    ".SH DESCRIPTION",
    text(program.description()),
    ".SH COMMANDS",
    ...program.commands.filter((one) => one.name() !== "manual").flatMap((command) => section(command, [])),
    ".SH EXIT STATUS",
    ...EXIT_CODES.flatMap(([code, words]) => [".TP", `.B ${code}`, text(words)]),
    ".SH FILES",
    ...FILES.flatMap(([name, words]) => [".TP", `.I ${text(name)}`, text(words)]),
    ".SH SIGNALS",
    "SIGTERM and SIGINT end a broker or a gateway: letters that are coming in are still accepted, transactions that run are ended.",
    ".SH STANDARDS",
    "RFC 5652, RFC 5083, RFC 8551, RFC 9788, RFC 3464, RFC 6409, RFC 9051.",
  ];
  return `${lines.join("\n")}\n`;
}

function section(command: Command, above: readonly string[]): string[] {
  const path = [...above, command.name()];
  if (command.commands.length > 0) return command.commands.flatMap((inner) => section(inner, path));
  const values = command.registeredArguments.map((one) => (one.required ? `<${one.name()}>` : `[${one.name()}]`));
  return [
    `.SS ${text([...path, ...values].join(" "))}`,
    text(sentence(command.description())),
    ...command.registeredArguments
      .filter(({ description }) => description)
      .flatMap((one) => [".TP", `.I ${text(one.name())}`, text(sentence(one.description))]),
    ...command.options.flatMap(({ flags, description, defaultValue, argChoices }) => {
      const standard = typeof defaultValue === "string" ? ` Default: ${defaultValue}.` : "";
      const choices = argChoices ? ` One of ${argChoices.join(", ")}.` : "";
      return [".TP", `.B ${text(flags)}`, text(`${sentence(description)}${choices}${standard}`)];
    }),
  ];
}

const sentence = (words: string): string => `${words.charAt(0).toUpperCase()}${words.slice(1)}${/[.!?:]$/u.test(words) ? "" : "."}`;

/** Text that roff must not read as its own. */
const text = (words: string): string =>
  words
    .replaceAll("\\", "\\e")
    .replaceAll("-", "\\-")
    .replaceAll(/\s+/gu, " ")
    .replaceAll(/^([.'])/gu, "\\&$1");
