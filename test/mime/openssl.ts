/** The stock openssl command in a folder of its own: the second opinion on everything that is signed or sealed. */
import { spawnSync } from "node:child_process";
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { temporaryFolder } from "../servers/process.ts";

export interface Said {
  readonly status: number | null;
  readonly stdout: Buffer;
  readonly stderr: string;
}

export interface OpenSsl {
  readonly folder: string;
  /** Writes a file beside the command and returns its name. */
  put(name: string, content: Buffer | string): string;
  /** Runs it, whatever comes of it. */
  try(args: readonly string[], input?: Buffer): Said;
  /** Runs it. @returns what it wrote @throws Error where it fails */
  run(args: readonly string[], input?: Buffer): Buffer;
}

export async function openSsl(name: string): Promise<OpenSsl> {
  const folder = await temporaryFolder(name);
  const attempt = (args: readonly string[], input?: Buffer): Said => {
    const { status, stdout, stderr, error } = spawnSync("openssl", args, { cwd: folder, maxBuffer: 64 << 20, ...(input && { input }) });
    if (error) throw error;
    return { status, stdout, stderr: stderr.toString() };
  };
  return {
    folder,
    put(name, content) {
      writeFileSync(join(folder, name), content);
      return name;
    },
    try: attempt,
    run(args, input) {
      const { status, stdout, stderr } = attempt(args, input);
      if (status !== 0) throw new Error(`openssl ${args.join(" ")} exited ${status}: ${stderr}`);
      return stdout;
    },
  };
}
