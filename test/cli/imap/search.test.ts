/** SEARCH as imapflow asks it: RFC 3501 §6.4.4. */

import { afterEach, beforeEach, describe, expect, test } from "@jest/globals";
import { House, mail, note, USER } from "./talk.ts";

const SEEN = String.raw`\Seen`;
const FLAGGED = String.raw`\Flagged`;

let house: House;
beforeEach(async () => {
  house = await House.open();
});
afterEach(async () => {
  await house.close();
});

describe("a search", () => {
  const uids: number[] = [];
  beforeEach(() => {
    uids.length = 0;
    uids.push(
      house.store.deliver(USER, note("first"), { flags: [SEEN, "$Done"], internalDate: new Date("2025-02-04T12:00:00Z") }),
      house.store.deliver(
        USER,
        Buffer.concat([mail("X-Kakitome: Session=Ab12", "Subject: =?utf-8?B?R3LDvMOfZQ==?=", "From: Carol <carol@c.example>", "", "")]),
        { flags: [FLAGGED] },
      ),
      house.store.deliver(
        USER,
        mail(
          "Subject: third",
          "Content-Type: text/plain; charset=utf-8",
          "Content-Transfer-Encoding: base64",
          "",
          Buffer.from("ein schöner Tag").toString("base64"),
          "",
        ),
      ),
    );
  });

  test.each([
    ["all", { all: true }, [0, 1, 2]],
    ["a header by part of its value, in any case", { header: { "x-kakitome": "session=aB" } }, [1]],
    ["a header that is only there", { header: { "X-Kakitome": true } }, [1]],
    ["a keyword", { keyword: "$done" }, [0]],
    ["the lack of a keyword", { unKeyword: "$Done" }, [1, 2]],
    ["seen", { seen: true }, [0]],
    ["not flagged", { flagged: false }, [0, 2]],
    ["a subject in an encoded word", { subject: "GRÜSSE" }, []],
    ["a subject in an encoded word, other case", { subject: "grÜße" }, [1]],
    ["a sender", { from: "carol@" }, [1]],
    ["text in a base64 body", { body: "schöner tag" }, [2]],
    ["a day of arrival", { on: new Date("2025-02-04") }, [0]],
    ["the day in the Date field, whatever its zone", { sentOn: new Date("2025-02-03") }, [0]],
    ["either of two", { or: [{ seen: true }, { flagged: true }] }, [0, 1]],
    ["not", { not: { from: "alice" } }, [1, 2]],
    ["a UID range to the end", { uid: "2:*" }, [1, 2]],
    ["a range of numbers and a flag", { seq: "1:2", flagged: true }, [1]],
    ["larger", { larger: 115 }, [2]],
    ["smaller", { smaller: 100 }, [1]],
  ])("finds by %s", async (_what, query, hits) => {
    const client = await house.flow();
    await client.mailboxOpen("INBOX");
    await expect(client.search(query, { uid: true })).resolves.toEqual(hits.map((index) => uids[index]));
  });
});
