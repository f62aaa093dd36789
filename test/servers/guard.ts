/** The guard: a small shell that outlives the test process only to kill its servers and remove its folders. */

import { spawn } from "node:child_process";
import type { Socket } from "node:net";

/**
 * Reads one order a line until its input ends, which the kernel sees to however the test process dies:
 * jest hides the process's own exit event from tests, and SIGKILL raises none.
 */
const SCRIPT = `
groups=" "
while read -r order what; do
  case $order in
    kill) groups="$groups$what " ;;
    spare) groups="\${groups%% $what *} \${groups#* $what }" ;;
    remove) set -- "$@" "$what" ;;
  esac
done
for group in $groups; do kill -s KILL -- "-$group"; done
[ $# -eq 0 ] || rm -rf -- "$@" || rm -rf -- "$@"
`;

let orders: Socket | undefined;

function order(line: string): void {
  if (orders === undefined) {
    // In a session of its own, so that Ctrl-C in the terminal does not end the guard before its work.
    const guard = spawn("/bin/sh", ["-c", SCRIPT, "guard"], { cwd: "/", detached: true, stdio: ["pipe", "ignore", "ignore"] });
    guard.unref();
    orders = guard.stdin as Socket;
    orders.unref();
  }
  orders.write(`${line}\n`);
}

/** Kill this process group when the test process ends. */
export function killAtExit(group: number): void {
  order(`kill ${group}`);
}

/** This group has ended: its number may soon belong to somebody else. */
export function spareAtExit(group: number): void {
  order(`spare ${group}`);
}

/** Remove this folder, after the kills, when the test process ends. */
export function removeAtExit(folder: string): void {
  order(`remove ${folder}`);
}
