/** What a command needs and was not given: asked for at a terminal, or named with its flag where nobody can answer. */
import { createInterface } from "node:readline";
import { Fault } from "../mime/fault.ts";

export interface Question {
  /** The flag that answers it, such as `--name <host>`. */
  readonly flag: string;
  readonly words: string;
  /** What an empty answer means; without it the question is asked again. */
  readonly standard?: string | undefined;
}

/**
 * The answers, in the order of the questions.
 * @param given what the flags said already; undefined asks
 * @throws Fault `malformed` naming every missing flag where there is no terminal, or the one that was not answered (Ctrl-D, Ctrl-C)
 */
export async function ask(questions: readonly (Question & { readonly given: string | undefined })[]): Promise<string[]> {
  const isMissing = (question: { readonly given: string | undefined }): boolean => question.given === undefined;
  if (!process.stdin.isTTY || !process.stderr.isTTY) {
    const missing = questions.filter((question) => isMissing(question) && question.standard === undefined);
    if (missing.length > 0) throw new Fault("malformed", `missing: ${missing.map(({ flag }) => flag).join(", ")}`);
    return questions.map(({ given, standard }) => given ?? standard ?? "");
  }
  const terminal = createInterface({ input: process.stdin, output: process.stderr });
  const lines = terminal[Symbol.asyncIterator](); // keeps what was pasted ahead of its question
  try {
    const answers: string[] = [];
    for (const { given, flag, words, standard } of questions) {
      let answer = given;
      while (answer === undefined || answer === "") {
        terminal.setPrompt(`${words}${standard === undefined ? "" : ` [${standard}]`}: `);
        terminal.prompt();
        const line = await lines.next();
        if (line.done) throw new Fault("malformed", `\nno answer, and nothing was made; it can be given with ${flag}`);
        answer = line.value.trim() || standard;
      }
      answers.push(answer);
    }
    return answers;
  } finally {
    terminal.close();
  }
}
