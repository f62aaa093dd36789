/** Names that only one entry of a list can have: the first one would win, and the other would stand there for nothing. */
import type { z } from "zod";
import type { Mailbox } from "../mime/address.ts";

/** A name as it is compared and as it is shown, and where in the list it stands: the entry's number first. */
interface Named {
  readonly key: string;
  readonly shown: string;
  readonly path: readonly [number, ...(string | number)[]];
}

/** Complains of each name that an entry before has; one entry may say the same twice. @param list its name in the file */
function once(list: string, named: readonly Named[], context: z.core.$RefinementCtx): void {
  const first = new Map<string, Named["path"]>();
  for (const { key, shown, path } of named) {
    const before = first.get(key) ?? path;
    first.set(key, before);
    if (before[0] === path[0]) continue;
    context.addIssue({ code: "custom", path: [...path], message: `${shown} stands at ${[list, ...before].join(".")} already` });
  }
}

/** Each address belongs to one mailbox, be it as an alias. */
export function eachAddressOnce(
  mailboxes: readonly { readonly address: Mailbox; readonly aliases: readonly Mailbox[] }[],
  context: z.core.$RefinementCtx,
): void {
  const named = mailboxes.flatMap(({ address, aliases }, at): Named[] => [
    { key: address.key, shown: address.address, path: [at, "address"] },
    ...aliases.map((alias, of): Named => ({ key: alias.key, shown: alias.address, path: [at, "aliases", of] })),
  ]);
  once("mailboxes", named, context);
}

/** Each name for AUTH belongs to one user; it is compared as it is written. */
export function eachUserOnce(users: readonly { readonly name: string }[], context: z.core.$RefinementCtx): void {
  const named = users.map(({ name }, at): Named => ({ key: name, shown: name, path: [at, "name"] }));
  once("users", named, context);
}
