/** Whose a data folder is: what another user writes there would be closed to the service that works in it. */
import { existsSync, statSync } from "node:fs";
import { dirname } from "node:path";
import { Fault } from "../mime/fault.ts";

let became: string | undefined;

/**
 * A process of root's becomes the user who owns the folder, for good, as the service's own unit would start it; another's stays as it is.
 * Where the folder is not there yet, the owner is that of the folder in which it will be made.
 * @throws Fault `forbidden`: this root may not become another user, as in a container without that right
 */
export function actAsOwner(folder: string): void {
  if (process.geteuid?.() !== 0) return;
  const { uid, gid } = statSync(nearest(folder));
  if (uid === 0) return;
  try {
    takeGroups(uid, gid);
    process.setgid?.(gid);
    process.setuid?.(uid);
  } catch (cause) {
    const advice = `${folder} belongs to the user ${uid}, whom this process may not become: start it as that user`;
    throw new Fault("forbidden", advice, { cause, advice });
  }
  became = `${uid}, who owns ${folder}`;
}

/** The user whom this process became, in words; undefined where it is who started it. */
export const actingAs = (): string | undefined => became;

/** The groups that the system knows of this user; a user without a name, as in a container, has the folder's alone. */
function takeGroups(uid: number, gid: number): void {
  const { initgroups } = process as NodeJS.Process & { initgroups?: (user: number, group: number) => void }; // its types leave this one out
  try {
    initgroups?.(uid, gid);
  } catch {
    process.setgroups?.([gid]);
  }
}

function nearest(folder: string): string {
  let place = folder;
  while (!existsSync(place) && place !== dirname(place)) place = dirname(place);
  return place;
}
