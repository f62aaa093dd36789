/** The built command at a pseudo-terminal, made by script(1) of util-linux: what it asks can be waited for, and what is typed arrives as from a keyboard. */
import { spawn, spawnSync } from "node:child_process";
import { COMMAND } from "./kakitome.ts";

export const hasTerminal = spawnSync("script", ["--version"]).status === 0;

export const CTRL_D = "\u0004";

export interface Terminal {
  /** Everything on the screen so far. */
  screen(): string;
  /** Resolves when the text stands there, behind what was waited for before. */
  until(text: string): Promise<void>;
  type(keys: string): void;
  readonly ended: Promise<number | null>;
}

export function atTerminal(args: readonly string[]): Terminal {
  const command = [process.execPath, COMMAND, ...args].map((word) => `'${word}'`).join(" ");
  const child = spawn("script", ["--quiet", "--return", "--command", command, "/dev/null"], { stdio: ["pipe", "pipe", "inherit"] });
  const ended = new Promise<number | null>((resolve) => child.once("close", resolve));
  let screen = "";
  let seen = 0;
  let look = (): void => undefined;
  child.stdout.setEncoding("utf8").on("data", (text: string) => {
    screen += text;
    look();
  });
  return {
    screen: () => screen,
    ended,
    type: (keys) => void child.stdin.write(keys),
    until: (text) =>
      new Promise((resolve, reject) => {
        look = () => {
          const at = screen.indexOf(text, seen);
          if (at < 0) return;
          seen = at + text.length;
          resolve();
        };
        void ended.then(() => reject(new Error(`ended before "${text}":\n${screen}`)));
        look();
      }),
  };
}
