/** What a session is told of the changes that others make, and when: RFC 3501 §5.2, §5.5 and §7.4.1, RFC 2177. */

import { afterEach, beforeEach, describe, expect, test } from "@jest/globals";
import { House, note, USER } from "./talk.ts";

const SEEN = String.raw`\Seen`;

let house: House;
beforeEach(async () => {
  house = await House.open();
});
afterEach(async () => {
  await house.close();
});

describe("what others did", () => {
  beforeEach(() => {
    for (const subject of ["a", "b", "c"]) house.store.deliver(USER, note(subject));
  });

  test("expunges wait during FETCH, STORE and SEARCH, so that numbers stay, and come with the next NOOP", async () => {
    const [one, other] = [await house.reader(), await house.reader()];
    await other.command(String.raw`STORE 1 +FLAGS.SILENT (\Deleted)`);
    await expect(other.command("EXPUNGE")).resolves.toBe("* 1 EXPUNGE\r\nOK expunged\r\n");
    await expect(one.command("FETCH 2:3 UID")).resolves.toBe("* 2 FETCH (UID 2)\r\n* 3 FETCH (UID 3)\r\nOK fetched\r\n");
    await expect(one.command("STORE 3 FLAGS ($X)")).resolves.not.toMatch(/EXPUNGE\r\n/);
    await expect(one.command("SEARCH ALL")).resolves.toMatch(/^\* SEARCH 2 3\r\nOK/);
    await expect(one.command("FETCH 1 UID")).resolves.toBe("OK [EXPUNGEISSUED] fetched\r\n");
    await expect(one.command("NOOP")).resolves.toBe("* 1 EXPUNGE\r\nOK done\r\n");
    await expect(one.command("FETCH 2 UID")).resolves.toMatch(/^\* 2 FETCH \(UID 3\)/);
  });

  test("an arrival is told with any command, a FETCH too", async () => {
    const one = await house.reader();
    house.store.deliver(USER, note("d"));
    await expect(one.command("FETCH 1 UID")).resolves.toBe("* 1 FETCH (UID 1)\r\n* 4 EXISTS\r\n* 4 RECENT\r\nOK fetched\r\n");
  });

  test("a UID learnt elsewhere is found before the session was told of its message", async () => {
    const one = await house.reader();
    const uid = house.store.deliver(USER, note("d"));
    await expect(one.command(`UID FETCH ${uid} RFC822.SIZE`)).resolves.toMatch(
      /^\* 4 EXISTS\r\n\* 4 RECENT\r\n\* 4 FETCH \(UID 4 RFC822.SIZE \d+\)\r\nOK/,
    );
  });

  test("a message that came and went between two commands is never told", async () => {
    const [one, other] = [await house.reader(), await house.reader()];
    house.store.deliver(USER, note("brief"));
    await other.command(String.raw`UID STORE 4 +FLAGS (\Deleted)`);
    await other.command("EXPUNGE");
    await expect(one.command("NOOP")).resolves.toBe("OK done\r\n");
  });

  test("a new keyword is announced before the flags that use it", async () => {
    const [one, other] = [await house.reader(), await house.reader()];
    await other.command("STORE 2 +FLAGS ($New)");
    await expect(one.command("NOOP")).resolves.toMatch(
      /^\* FLAGS \(.*\$New\)\r\n\* OK \[PERMANENTFLAGS \(.*\$New \\\*\)\].*\r\n\* 2 FETCH \(UID 2 FLAGS \(\$New \\Recent\)\)\r\nOK/,
    );
  });

  test("a silent store is silent to its own session and told to others", async () => {
    const [one, other] = [await house.reader(), await house.reader()];
    await expect(one.command(String.raw`UID STORE 2 +FLAGS.SILENT \Seen \Flagged`)).resolves.toBe("OK stored\r\n");
    await expect(other.command("NOOP")).resolves.toBe(`* 2 FETCH (UID 2 FLAGS (${SEEN} \\Flagged))\r\nOK done\r\n`);
  });

  test("during IDLE all is told at once", async () => {
    const [one, other] = [await house.reader(), await house.reader()];
    one.send("i IDLE\r\n");
    await one.until(/^\+ idling\r\n/);
    house.store.deliver(USER, note("d"));
    await one.until(/\* 4 EXISTS\r\n/);
    await other.command(String.raw`STORE 1 +FLAGS (\Deleted)`);
    await one.until(/\* 1 FETCH \(UID 1 FLAGS \(\\Deleted( \\Recent)?\)\)\r\n/);
    await other.command("EXPUNGE");
    await one.until(/\* 1 EXPUNGE\r\n/);
    one.send("done\r\n");
    await expect(one.until(/i .*\r\n/)).resolves.toBe("i OK idled\r\n");
  });

  test("only the first session sees a message as recent", async () => {
    const [one, other] = [await house.reader(), await house.reader()];
    await expect(one.command("SEARCH RECENT")).resolves.toMatch(/^\* SEARCH 1 2 3\r\n/);
    await expect(other.command("SEARCH RECENT")).resolves.toMatch(/^\* SEARCH\r\n/);
  });

  test("a folder deleted under a session runs empty, and the session goes on", async () => {
    house.store.deliver(USER, note("x"), { folder: "Gone" });
    const [one, other] = [await house.reader("Gone"), await house.reader()];
    await expect(other.command("DELETE Gone")).resolves.toMatch(/^OK/);
    await expect(one.command("NOOP")).resolves.toBe("* 1 EXPUNGE\r\nOK done\r\n");
  });
});
