/**
 * Loaded into a process before its own code (`node --import`): writes down what it does to the files below a folder, so that a test can
 * tell what a disk would hold had the power failed (power-cut.ts). What it does not know how to write down it does not let happen.
 */
import fs from "node:fs";
import { syncBuiltinESMExports } from "node:module";
import { join, resolve, sep } from "node:path";

/** One thing that was done; `at` counts them. `before`: what was done later than that had not been done when a sync was asked for. */
export type Done = { readonly at: number } & (
  | { readonly did: "make"; readonly path: string; readonly inode: number }
  | { readonly did: "write"; readonly path: string; readonly inode: number }
  | { readonly did: "sync"; readonly inode: number; readonly before: number; /** A file beside the record. */ readonly content: string }
  | { readonly did: "sync-names"; readonly path: string; readonly before: number }
  | { readonly did: "rename" | "link"; readonly path: string; readonly to: string }
  | { readonly did: "remove"; readonly path: string }
);
type Unnumbered<T> = T extends unknown ? Omit<T, "at"> : never;

/** In the folder that KAKITOME_RECORD names, beside the synced contents. */
export const RECORD = "done.jsonl";
/** There, the number of the thing after which the process is to stand still; missing, it goes on. */
export const STOP = "stop";

const [root, folder] = [process.env["KAKITOME_RECORD_OF"], process.env["KAKITOME_RECORD"]];
if (root !== undefined && folder !== undefined) record(resolve(root), folder);

function record(below: string, into: string): void {
  const real = { ...fs, promises: { ...fs.promises } };
  const out = real.openSync(join(into, RECORD), "a");
  let count = 0;

  const isOurs = (path: unknown): path is string => typeof path === "string" && `${resolve(path)}${sep}`.startsWith(`${below}${sep}`);
  const nameOf = (file: number): string => real.readlinkSync(`/proc/self/fd/${file}`);
  const pathOf = (file: unknown): string => resolve(typeof file === "number" ? nameOf(file) : String(file));

  function note(done: Unnumbered<Done>): void {
    real.writeSync(out, `${JSON.stringify({ at: ++count, ...done })}\n`);
    const stop = real.existsSync(join(into, STOP)) ? Number(real.readFileSync(join(into, STOP), "utf8")) : undefined;
    if (stop !== count) return;
    real.writeSync(1, `${JSON.stringify({ event: "halted", done })}\n`);
    process.kill(process.pid, "SIGSTOP");
  }

  function noteWrite(file: unknown): void {
    if (isOurs(pathOf(file))) note({ did: "write", path: pathOf(file), inode: real.statSync(pathOf(file)).ino });
  }

  /** A file that an opening makes. */
  function opening(path: unknown): () => void {
    const isNew = isOurs(path) && !real.existsSync(path);
    return () => {
      if (isNew) note({ did: "make", path: pathOf(path), inode: real.statSync(path).ino });
    };
  }

  /** What is on the disk when this sync has ended: what was there when it was asked for. */
  function syncing(file: number): () => void {
    const path = nameOf(file);
    if (!isOurs(path)) return () => undefined;
    const before = count;
    if (real.fstatSync(file).isDirectory()) return () => note({ did: "sync-names", path, before });
    const content = `${process.pid}-${before}-${file}`;
    const inode = real.fstatSync(file).ino;
    real.copyFileSync(`/proc/self/fd/${file}`, join(into, content));
    return () => note({ did: "sync", inode, before, content });
  }

  const renamed = (path: string, to: string): void => {
    if (isOurs(path) || isOurs(to)) note({ did: "rename", path: pathOf(path), to: pathOf(to) });
  };
  const linked = (path: string, to: string): void => {
    if (isOurs(to)) note({ did: "link", path: pathOf(path), to: pathOf(to) });
  };
  const removed = (path: string): void => {
    if (isOurs(path)) note({ did: "remove", path: pathOf(path) });
  };

  /** Calls with a callback, the last argument. */
  function later(call: (...args: unknown[]) => void, begin: (...args: unknown[]) => () => void) {
    return (...args: unknown[]): void => {
      const [end, callback] = [begin(...args), args.pop() as (...answer: unknown[]) => void];
      call(...args, (...answer: unknown[]) => {
        if (!answer[0]) end();
        callback(...answer);
      });
    };
  }
  function atOnce(call: (...args: never[]) => unknown, begin: (...args: unknown[]) => () => void) {
    return (...args: unknown[]): unknown => {
      const end = begin(...args);
      const answer = call(...(args as never[]));
      end();
      return answer;
    };
  }
  function promised(call: (...args: never[]) => Promise<unknown>, begin: (...args: unknown[]) => () => void) {
    return async (...args: unknown[]): Promise<unknown> => {
      const end = begin(...args);
      const answer = await call(...(args as never[]));
      end();
      return answer;
    };
  }

  const writing = (file: unknown): (() => void) => {
    const opened = typeof file === "number" ? (): void => undefined : opening(file);
    return () => {
      opened();
      noteWrite(file);
    };
  };
  const pair = (end: (path: string, to: string) => void) => (path: unknown, to: unknown) => () => end(String(path), String(to));
  const one = (path: unknown) => () => removed(String(path));
  const syncOf = (file: unknown): (() => void) => syncing(file as number);

  Object.assign(fs, {
    openSync: atOnce(real.openSync, opening),
    writeSync: atOnce(real.writeSync, writing),
    writeFileSync: atOnce(real.writeFileSync, writing),
    ftruncateSync: atOnce(real.ftruncateSync, writing),
    truncateSync: atOnce(real.truncateSync, writing),
    fsyncSync: atOnce(real.fsyncSync, syncOf),
    renameSync: atOnce(real.renameSync, pair(renamed)),
    linkSync: atOnce(real.linkSync, pair(linked)),
    unlinkSync: atOnce(real.unlinkSync, one),
    rmSync: atOnce(real.rmSync, one),
    writeFile: later(real.writeFile as never, writing),
    ftruncate: later(real.ftruncate as never, writing),
    fsync: later(real.fsync as never, syncOf),
    unlink: later(real.unlink as never, one), // by which promises.rm removes a file
  });
  Object.assign(fs.promises, {
    writeFile: promised(real.promises.writeFile, writing),
    rename: promised(real.promises.rename, pair(renamed)),
    link: promised(real.promises.link, pair(linked)),
    unlink: promised(real.promises.unlink, one),
    copyFile: promised(real.promises.copyFile, (_from, to) => writing(to)),
    open: async (path: string, flags: string | number = "r", mode?: number) => {
      if (isOurs(path) && flags !== "r") throw new Error(`${path}: a file handle that writes is not recorded`);
      return real.promises.open(path, flags, mode);
    },
  });
  const unknown = ["appendFile", "cp", "createWriteStream", "fdatasync", "link", "rename", "symlink", "truncate", "write", "writev"];
  const unknownSync = ["appendFileSync", "cpSync", "copyFileSync", "fdatasyncSync", "symlinkSync", "writevSync"];
  for (const [home, names] of [
    [fs, [...unknown, ...unknownSync]],
    [fs.promises, ["appendFile", "cp", "symlink", "truncate"]],
  ] as const) {
    for (const name of names) {
      const call = Reflect.get(home, name) as (...args: unknown[]) => unknown;
      Reflect.set(home, name, (...args: unknown[]) => {
        if (args.slice(0, 2).some((file) => (typeof file === "number" ? isOurs(nameOf(file)) : isOurs(file))))
          throw new Error(`${name} is not recorded`);
        return call(...args);
      });
    }
  }
  syncBuiltinESMExports();
}
