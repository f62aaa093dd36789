/** A small disk of its own, which a test fills, empties and makes read-only. */
import { execFileSync } from "node:child_process";
import { closeSync, mkdirSync, openSync, readdirSync, rmSync, writeSync } from "node:fs";
import { join } from "node:path";
import { temporaryFolder } from "../servers/process.ts";

export interface SmallDisk {
  readonly folder: string;
  /** Takes all of its room. */
  fill(): void;
  /** Takes all of its inodes, and leaves room. */
  fillInodes(): void;
  /** Gives back what was taken. */
  free(): void;
  remount(how: "ro" | "rw"): void;
  unmount(): void;
}

const PAGE = Buffer.alloc(4096, "x");

/** @param folder an empty one that is there; a temporary one where undefined @param options of the mount */
export async function mountSmallDisk(folder?: string, options = "size=3m,nr_inodes=300"): Promise<SmallDisk> {
  const at = folder ?? (await temporaryFolder("disk"));
  mkdirSync(at, { recursive: true });
  execFileSync("mount", ["-t", "tmpfs", "-o", `${options},mode=700`, "tmpfs", at]);
  const takeAll = (take: () => void): void => {
    try {
      for (;;) take();
    } catch (thrown) {
      if ((thrown as NodeJS.ErrnoException).code !== "ENOSPC") throw thrown;
    }
  };
  let count = 0;
  return {
    folder: at,
    fill() {
      const ballast = openSync(join(at, "ballast"), "a");
      takeAll(() => void writeSync(ballast, PAGE));
      closeSync(ballast);
    },
    fillInodes: () => takeAll(() => closeSync(openSync(join(at, `ballast${count++}`), "a"))),
    free() {
      for (const name of readdirSync(at)) if (name.startsWith("ballast")) rmSync(join(at, name));
    },
    remount: (how) => void execFileSync("mount", ["-o", `remount,${how}`, at]),
    unmount: () => void execFileSync("umount", ["-l", at]),
  };
}

/** Why no disk can be mounted here; undefined where one can. */
export async function whyNoDisk(): Promise<string | undefined> {
  if (process.getuid?.() !== 0) return "only root mounts a disk";
  try {
    (await mountSmallDisk()).unmount();
    return undefined;
  } catch {
    return "no disk may be mounted here";
  }
}
