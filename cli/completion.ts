/** `kakitome completion bash|zsh|fish`: completion for a shell, made from the commands as they are. */
import { Argument, type Command, type Option } from "commander";
import { manual } from "./manual.ts";

/** One command with what may stand behind it. */
interface Place {
  /** Words from the program's name on. */
  readonly path: readonly string[];
  readonly commands: readonly Command[];
  readonly options: readonly Option[];
}

const SHELLS = { bash, zsh, fish } as const;

/** Needs every other command to be there already. */
export function addCompletion(program: Command): void {
  program
    .command("completion")
    .description("print completion for a shell, such as: source <(kakitome completion bash)")
    .addArgument(new Argument("<shell>").choices(Object.keys(SHELLS)))
    .action((shell: keyof typeof SHELLS) => console.log(SHELLS[shell](placesOf(program, [])).trimEnd()));
  program
    .command("manual", { hidden: true })
    .description("print the page of the manual")
    .action(() => console.log(manual(program).trimEnd()));
}

function placesOf(command: Command, above: readonly string[]): Place[] {
  const path = [...above, command.name()];
  const commands = command.commands.filter((one) => one.name() !== "manual").toSorted((a, b) => a.name().localeCompare(b.name()));
  return [{ path, commands, options: command.options }, ...commands.flatMap((inner) => placesOf(inner, path))];
}

/** What may stand at a place: commands first. */
const wordsAt = ({ commands, options }: Place): string[] => [
  ...commands.map((one) => one.name()),
  ...options.map(({ long }) => long ?? "").filter(Boolean),
  "--help",
];

const keyOf = ({ path }: Place): string => path.slice(1).join(" ");

const isTaking = (one: Option): boolean => one.required || one.optional;

/** In words that zsh reads as bash does: no bare names in a slice, and no variable `words`, which zsh keeps for itself while it completes. */
function bash(places: readonly Place[]): string {
  const known = places.slice(1).map((place) => `"${keyOf(place)}"`);
  const rows = places.map((place) => `    "${keyOf(place)}") offered="${wordsAt(place).join(" ")}" ;;`);
  const choices = places.flatMap((place) =>
    place.options
      .filter(({ argChoices }) => argChoices)
      .map(({ long, argChoices }) => `    "${keyOf(place)} ${long}") offered="${argChoices?.join(" ")}" ;;`),
  );
  const values = places.flatMap((place) =>
    place.options.filter((one) => isTaking(one) && !one.argChoices).map(({ long }) => `"${keyOf(place)} ${long}"`),
  );
  return `# bash completion for kakitome
_kakitome() {
  local word place="" offered="" next
  local current="\${COMP_WORDS[COMP_CWORD]}" before="\${COMP_WORDS[COMP_CWORD-1]}"
  for word in "\${COMP_WORDS[@]:1:$((COMP_CWORD - 1))}"; do
    next="\${place:+$place }$word"
    case "$next" in ${known.join("|")}) place="$next" ;; esac
  done
  case "$place" in
${rows.join("\n")}
  esac
  case "$place $before" in
${choices.join("\n")}
    ${values.join("|")}) offered="" ;;
  esac
  COMPREPLY=($(compgen -W "$offered" -- "$current"))
}
complete -o default -F _kakitome kakitome
`;
}

/** zsh runs the completions of bash. */
function zsh(places: readonly Place[]): string {
  return `#compdef kakitome\nautoload -Uz compinit bashcompinit\n(( $+functions[compdef] )) || compinit\nbashcompinit\n${bash(places)}`;
}

/** The place is found as in bash: `gateway` means one thing by itself and another behind `init`. */
function fish(places: readonly Place[]): string {
  const text = (words: string): string => `'${words.replaceAll("\\", "\\\\").replaceAll("'", "\\'")}'`;
  const known = places.slice(1).map((place) => text(keyOf(place)));
  const lines = places.flatMap((place) => {
    const when = `complete -c kakitome -n ${text(`__kakitome_at ${text(keyOf(place))}`)}`;
    return [
      ...place.commands.map((one) => `${when} -f -a ${one.name()} -d ${text(one.description())}`),
      ...place.options.map((one) => {
        const value = one.argChoices ? ` -x -a ${text(one.argChoices.join(" "))}` : isTaking(one) ? " -r" : "";
        return `${when} -l ${(one.long ?? "").replace(/^--/u, "")}${value} -d ${text(one.description)}`;
      }),
    ];
  });
  return `# fish completion for kakitome
function __kakitome_at
  set -l place
  for word in (commandline -opc)[2..]
    switch (string join ' ' -- $place $word)
      case ${known.join(" ")}
        set -a place $word
    end
  end
  test "$place" = "$argv[1]"
end
${lines.join("\n")}
`;
}
