/** What a command prints: one JSON document for programs, or words for people. */
export function say(json: boolean | undefined, data: object, words: string | readonly string[]): void {
  if (json) console.log(JSON.stringify(data));
  else for (const line of typeof words === "string" ? [words] : words) console.log(line);
}
