/** Fetching from mailboxes and managing them, by lines over a socket: RFC 3501 §6.3 and §6.4, RFC 4315, RFC 6851. */

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

describe("a fetch", () => {
  test("of a partial gives that piece, with its start in the label, and an empty string past the end", async () => {
    house.store.deliver(USER, Buffer.from("Subject: x\r\n\r\n0123456789"));
    const talker = await house.reader();
    await expect(talker.command("FETCH 1 BODY.PEEK[TEXT]<3.4>")).resolves.toMatch(/^\* 1 FETCH \(BODY\[TEXT\]<3> \{4\}\r\n3456\)\r\nOK/);
    await expect(talker.command("FETCH 1 BODY.PEEK[TEXT]<8.99>")).resolves.toMatch(/BODY\[TEXT\]<8> \{2\}\r\n89\)/);
    await expect(talker.command("FETCH 1 BODY.PEEK[TEXT]<10.1>")).resolves.toMatch(/BODY\[TEXT\]<10> \{0\}\r\n\)/);
  });

  test("that does not peek marks as seen, and says so; a peek or EXAMINE does not", async () => {
    house.store.deliver(USER, note("x"));
    const talker = await house.reader();
    await talker.command("FETCH 1 (BODY.PEEK[] RFC822.HEADER)");
    expect(house.store.list(USER)[0]?.flags).toEqual([]);
    await talker.command("EXAMINE INBOX");
    await talker.command("FETCH 1 BODY[]");
    expect(house.store.list(USER)[0]?.flags).toEqual([]);
    await talker.command("SELECT INBOX");
    await expect(talker.command("FETCH 1 BODY[TEXT]")).resolves.toMatch(/hello\r\n FLAGS \(\\Seen\)\)\r\nOK/);
    expect(house.store.list(USER)[0]?.flags).toEqual([SEEN]);
  });

  test("of header fields gives those fields as they stand, and the blank line", async () => {
    house.store.deliver(USER, Buffer.from("A: 1\r\nsubject:  folded\r\n\tonce\r\nB: 2\r\nSubject: again\r\n\r\nbody"));
    const talker = await house.reader();
    const fields = await talker.command("FETCH 1 BODY.PEEK[HEADER.FIELDS (SUBJECT x)]");
    expect(fields).toContain("BODY[HEADER.FIELDS (SUBJECT x)] {43}\r\nsubject:  folded\r\n\tonce\r\nSubject: again\r\n\r\n)");
    const others = await talker.command("FETCH 1 BODY.PEEK[HEADER.FIELDS.NOT (Subject)]");
    expect(others).toContain("BODY[HEADER.FIELDS.NOT (Subject)] {14}\r\nA: 1\r\nB: 2\r\n\r\n)");
  });

  test("of a part that is not there gives NIL", async () => {
    house.store.deliver(USER, note("x"));
    const talker = await house.reader();
    await expect(talker.command("FETCH 1 (BODY.PEEK[2] BODY.PEEK[1.1] BODY.PEEK[1.HEADER])")).resolves.toBe(
      "* 1 FETCH (BODY[2] NIL BODY[1.1] NIL BODY[1.HEADER] NIL)\r\nOK fetched\r\n",
    );
  });

  test("by the macros gives their items", async () => {
    house.store.deliver(USER, Buffer.from("\r\nx"), { internalDate: new Date("2025-01-02T03:04:05Z") });
    const talker = await house.reader();
    const fast = String.raw`FLAGS (\Recent) INTERNALDATE " 2-Jan-2025 03:04:05 +0000" RFC822.SIZE 3`;
    const envelope = "ENVELOPE (NIL NIL NIL NIL NIL NIL NIL NIL NIL NIL)";
    await expect(talker.command("FETCH * FAST")).resolves.toBe(`* 1 FETCH (${fast})\r\nOK fetched\r\n`);
    await expect(talker.command("FETCH 1 ALL")).resolves.toBe(`* 1 FETCH (${fast} ${envelope})\r\nOK fetched\r\n`);
    await expect(talker.command("UID FETCH 1:* FULL")).resolves.toBe(
      `* 1 FETCH (UID 1 ${fast} ${envelope} BODY ("text" "plain" ("charset" "us-ascii") NIL NIL "7bit" 1 0))\r\nOK fetched\r\n`,
    );
  });
});

function validity(answer: string): string | undefined {
  return /UIDVALIDITY (\d+)/.exec(answer)?.[1];
}

describe("mailboxes", () => {
  test("UIDVALIDITY is the same for every session, and another for a folder made again under the same name", async () => {
    const [one, other] = [await house.reader(), await house.reader()];
    await one.command("CREATE Letters");
    const first = validity(await one.command("SELECT Letters"));
    expect(first).toBeDefined();
    expect(validity(await other.command("STATUS Letters (UIDVALIDITY)"))).toBe(first);
    await one.command("UNSELECT");
    await one.command("DELETE Letters");
    await one.command("CREATE Letters");
    expect(validity(await other.command("EXAMINE Letters"))).not.toBe(first);
  });

  test("in an empty mailbox a search of 1:* finds nothing, and a fetch of it is wrong", async () => {
    const talker = await house.reader();
    await expect(talker.command("SEARCH 1:*")).resolves.toBe("* SEARCH\r\nOK searched\r\n");
    await expect(talker.command("UID FETCH 1:* FLAGS")).resolves.toBe("OK fetched\r\n");
    await expect(talker.command("FETCH 1:* FLAGS")).resolves.toMatch(/^BAD/);
  });

  test("a failed SELECT leaves no mailbox open", async () => {
    const talker = await house.reader();
    await expect(talker.command("SELECT Nowhere")).resolves.toMatch(/^NO \[NONEXISTENT\]/);
    await expect(talker.command("CHECK")).resolves.toMatch(/^BAD/);
  });

  test("EXAMINE refuses what would change the mailbox", async () => {
    house.store.deliver(USER, note("x"), { flags: [String.raw`\Deleted`] });
    const talker = await house.reader();
    await expect(talker.command("EXAMINE INBOX")).resolves.toMatch(/PERMANENTFLAGS \(\)[^]*OK \[READ-ONLY\]/);
    for (const line of ["STORE 1 FLAGS ()", "EXPUNGE", "MOVE 1 INBOX"])
      await expect(talker.command(line)).resolves.toMatch(/^NO \[READ-ONLY\]/);
    await talker.command("CLOSE");
    expect(house.store.list(USER)).toHaveLength(1);
  });

  test("CLOSE expunges without a word, UNSELECT leaves what is marked", async () => {
    house.store.deliver(USER, note("x"), { flags: [String.raw`\Deleted`] });
    const talker = await house.reader();
    await expect(talker.command("UNSELECT")).resolves.toBe("OK unselected\r\n");
    expect(house.store.list(USER)).toHaveLength(1);
    await talker.command("SELECT INBOX");
    await expect(talker.command("CLOSE")).resolves.toBe("OK closed\r\n");
    expect(house.store.list(USER)).toHaveLength(0);
  });

  test.each(["APPEND Nowhere {1+}\r\nx", "COPY 1 Nowhere", "MOVE 1 Nowhere"])(
    "a missing target is said so that the client may make it: %s",
    async (line) => {
      house.store.deliver(USER, note("x"));
      const talker = await house.reader();
      await expect(talker.command(line)).resolves.toMatch(/^NO \[TRYCREATE\]/);
      expect(house.store.list(USER)).toHaveLength(1);
    },
  );

  test("a move within one folder gives the message a new UID at the end", async () => {
    house.store.deliver(USER, note("x"));
    house.store.deliver(USER, note("y"));
    const talker = await house.reader();
    const answer = await talker.command("MOVE 1 INBOX");
    expect(answer).toMatch(/^\* OK \[COPYUID \d+ 1 3\] moved\r\n\* 1 EXPUNGE\r\n\* 2 EXISTS\r\n\* 2 RECENT\r\nOK moved\r\n$/);
  });

  test("UID EXPUNGE removes only what is both marked and named", async () => {
    for (const flags of [[], [String.raw`\Deleted`], [String.raw`\Deleted`]]) house.store.deliver(USER, note("x"), { flags });
    const talker = await house.reader();
    await expect(talker.command("UID EXPUNGE 1:2")).resolves.toBe("* 2 EXPUNGE\r\nOK expunged\r\n");
    expect(house.store.list(USER).map(({ uid }) => uid)).toEqual([1, 3]);
  });

  test("LIST knows its wildcards, the separator, and several patterns", async () => {
    const talker = await house.reader();
    for (const name of ["a/b/c", "ab", "Sent"]) await talker.command(`CREATE ${name}`);
    const names = async (args: string): Promise<string[]> =>
      [...(await talker.command(args)).matchAll(/"\/" "([^"]*)"/g)].map((found) => found[1] ?? "");
    await expect(names('LIST "" *')).resolves.toEqual(["INBOX", "Sent", "a", "a/b", "a/b/c", "ab"]);
    await expect(names('LIST "" %')).resolves.toEqual(["INBOX", "Sent", "a", "ab"]);
    await expect(names('LIST "a/" %')).resolves.toEqual(["a/b"]);
    await expect(names('LIST "" inbox')).resolves.toEqual(["INBOX"]);
    await expect(names('LIST "" ("a%" "S*") RETURN (SPECIAL-USE)')).resolves.toEqual(["Sent", "a", "ab"]);
    await expect(talker.command('LIST (SPECIAL-USE) "" "*"')).resolves.toBe('* LIST (\\HasNoChildren \\Sent) "/" "Sent"\r\nOK listed\r\n');
    await expect(talker.command('LIST "" ""')).resolves.toBe('* LIST (\\Noselect) "/" ""\r\nOK listed\r\n');
  });

  test("LSUB lists what is subscribed, and no more once it is not", async () => {
    const talker = await house.reader();
    await talker.command("CREATE Letters");
    await talker.command("SUBSCRIBE Letters");
    await expect(talker.command('LSUB "" *')).resolves.toBe('* LSUB () "/" "INBOX"\r\n* LSUB () "/" "Letters"\r\nOK listed\r\n');
    await talker.command("UNSUBSCRIBE Letters");
    await expect(talker.command('LSUB "" *')).resolves.toBe('* LSUB () "/" "INBOX"\r\nOK listed\r\n');
  });

  test("INBOX cannot be deleted, and renamed it only hands its messages over", async () => {
    house.store.deliver(USER, note("x"));
    const talker = await house.reader();
    await expect(talker.command("DELETE inbox")).resolves.toMatch(/^NO \[CANNOT\]/);
    await expect(talker.command("RENAME INBOX Old")).resolves.toBe("* 1 EXPUNGE\r\nOK renamed\r\n");
    expect(house.store.list(USER, "Old")).toHaveLength(1);
    await expect(talker.command("DELETE INBOX")).resolves.toMatch(/^NO/);
  });
});
