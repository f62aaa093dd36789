/** What holds for every input: round trips of the writers, and readers that refuse by a Fault and nothing else. */
import { describe, expect, test } from "@jest/globals";
import * as fc from "fast-check";
import { parseAddressList, parseMailbox } from "../../mime/address.ts";
import { parseCertificate } from "../../mime/certificate.ts";
import { readSignedData } from "../../mime/cms.ts";
import { TAG, encode, integer, octetString, octetsOf, oid, parse, sequence, setOf, type Element } from "../../mime/der.ts";
import { decodedBody, encodeBase64, multipart, parseContentType, parseEntity, splitMultipart, toCrlf } from "../../mime/entity.ts";
import { field, joinMessage, splitMessage, valueOf } from "../../mime/headers.ts";
import { ContentKey } from "../../mime/key.ts";
import { readSealed } from "../../mime/message.ts";
import { openWithKey, readShell } from "../../mime/open.ts";
import { sealWithKey } from "../../mime/seal.ts";
import { outcomeOf } from "../mime/faults.ts";

const octets = (maxLength: number): fc.Arbitrary<Buffer> => fc.uint8Array({ maxLength }).map((array) => Buffer.from(array));
/** Text of the characters that mean something in mail, and a few others. */
const mailText = fc.string({ unit: fc.constantFrom(...'<>@.,;:()[]"\\ \t\r\na1=?-_+*é例\0'), maxLength: 60 });

describe("addresses", () => {
  const atom = fc.string({ unit: fc.constantFrom(..."abcXYZ019!#$%&'*+-/=?^_`{|}~é例"), minLength: 1, maxLength: 6 });
  const quoted = fc
    .string({ unit: fc.constantFrom(...'abc .@<>,;:()[]"\\é'), maxLength: 12 })
    .map((text) => `"${text.replace(/["\\]/gu, "\\$&")}"`);
  const local = fc.oneof(
    fc.array(atom, { minLength: 1, maxLength: 4 }).map((atoms) => atoms.join(".")),
    quoted,
  );
  const label = fc.stringMatching(/^[a-zA-Z0-9é例]([a-zA-Z0-9é例-]{0,8}[a-zA-Z0-9é例])?$/u);
  const domain = fc.array(label, { minLength: 1, maxLength: 4 }).map((labels) => labels.join("."));
  const address = fc.tuple(local, domain).map(([left, right]) => `${left}@${right}`);

  test("what parses parses again to itself", () => {
    fc.assert(
      fc.property(address, (text) => {
        const mailbox = parseMailbox(text);
        expect(parseMailbox(mailbox.address)).toEqual(mailbox);
        expect(mailbox.address).toBe(`${mailbox.local}@${mailbox.domain}`);
        expect(mailbox.address).not.toMatch(/[\r\n\0]/u);
      }),
    );
  });

  test("a list of them comes back, with names, comments and brackets around each", () => {
    const name = fc.constantFrom("", "Alice ", '"Smith, A. <x@y>" ', "=?utf-8?q?x=2C?= ", "(a, b@c) ");
    fc.assert(
      fc.property(fc.array(fc.tuple(name, address), { maxLength: 5 }), (people) => {
        const value = people.map(([display, text]) => `${display}<${text}>`).join(", ");
        expect(parseAddressList(value).map(({ address }) => address)).toEqual(people.map(([, text]) => parseMailbox(text).address));
      }),
    );
  });

  test("no text makes the parsers do anything but parse or refuse, and what they find is safe", () => {
    fc.assert(
      fc.property(mailText, (text) => {
        expect(["ok", "malformed"]).toContain(outcomeOf(() => parseMailbox(text)));
        expect(["ok", "malformed"]).toContain(
          outcomeOf(() => {
            for (const { address } of parseAddressList(text)) expect(parseMailbox(address).address).toBe(address);
          }),
        );
      }),
      { numRuns: 2_000 },
    );
  });
});

describe("octets of mail", () => {
  const lines = fc.array(fc.constantFrom("\r", "\n", "\r\n", "a", "\0", "\xff", "--b", "--b--", " ", "A: b", "Content-Type: x"), {
    maxLength: 30,
  });
  const text = lines.map((parts) => Buffer.from(parts.join(""), "latin1"));

  test("toCrlf leaves no lone CR or LF, changes nothing else, and has nothing left to do", () => {
    fc.assert(
      fc.property(text, (bytes) => {
        const canonical = toCrlf(bytes);
        expect(canonical.toString("latin1")).not.toMatch(/\r(?!\n)|(?<!\r)\n/u);
        expect(canonical.toString("latin1").replace(/[\r\n]/gu, "")).toBe(bytes.toString("latin1").replace(/[\r\n]/gu, ""));
        expect(toCrlf(canonical)).toBe(canonical);
      }),
    );
  });

  test("a message splits and joins to itself, up to the empty line that a header without a body lacks", () => {
    fc.assert(
      fc.property(text.map(toCrlf), (bytes) => {
        const { fields, body } = splitMessage(bytes);
        const joined = joinMessage(fields, body);
        const missing = ["", "\r\n", "\r\n\r\n"].map((end) => Buffer.concat([bytes, Buffer.from(end)]));
        expect(missing.some((candidate) => candidate.equals(joined))).toBe(true);
        expect(joinMessage(splitMessage(joined).fields, splitMessage(joined).body).equals(joined)).toBe(true);
      }),
    );
  });

  test("base64 comes back", () => {
    fc.assert(
      fc.property(octets(2_000), (bytes) => {
        const entity = splitMessage(Buffer.concat([Buffer.from("Content-Transfer-Encoding: base64\r\n\r\n"), encodeBase64(bytes)]));
        expect(decodedBody(entity).equals(bytes)).toBe(true);
      }),
    );
  });

  test("a multipart gives back the parts that were put in", () => {
    fc.assert(
      fc.property(fc.array(text, { maxLength: 6 }), (parts) => {
        expect(splitMultipart(parseEntity(multipart("mixed", parts)))).toEqual(parts);
      }),
    );
  });

  test("a field comes back as one field, or is refused", () => {
    fc.assert(
      fc.property(mailText, (value) => {
        const outcome = outcomeOf(() => {
          const { fields } = splitMessage(joinMessage([field("A", value), field("B", "c")], Buffer.alloc(0)));
          expect(fields.map(({ name }) => name)).toEqual(["a", "b"]);
          expect(fields.map(valueOf)[0]).toBe(value.replace(/\r\n(?=[ \t])/gu, "").trim());
        });
        expect(["ok", "malformed"]).toContain(outcome);
      }),
    );
  });

  test("readers of mail refuse only by a Fault", () => {
    const claim = fc.tuple(mailText, text).map(([value, body]) => Buffer.concat([Buffer.from(`Content-Type: ${value}\r\n\r\n`), body]));
    fc.assert(
      fc.property(fc.oneof(text, claim), (bytes) => {
        for (const read of [parseEntity, readSealed]) expect(["ok", "malformed", "too-large"]).toContain(outcomeOf(() => read(bytes)));
        expect(["ok", "malformed"]).toContain(outcomeOf(() => splitMultipart(parseEntity(bytes))));
      }),
      { numRuns: 500 },
    );
  });

  test("a Content-Type is read or refused", () => {
    fc.assert(fc.property(mailText, (value) => expect(["ok", "malformed"]).toContain(outcomeOf(() => parseContentType(value)))));
    fc.assert(fc.property(mailText, (value) => expect(["ok", "malformed"]).toContain(outcomeOf(() => parseContentType(`a/b;${value}`)))));
  });
});

describe("ASN.1", () => {
  const leaf = fc.oneof(
    octets(40).map(octetString),
    fc.integer({ min: 0, max: 2 ** 40 }).map(integer),
    fc.array(fc.bigInt({ min: 0n, max: 2n ** 130n }), { maxLength: 4 }).map((arcs) => oid(["1.2", ...arcs].join("."))),
  );
  const { tree } = fc.letrec<{ tree: Buffer }>((tie) => ({
    tree: fc.oneof(
      { maxDepth: 6, withCrossShrink: true },
      leaf,
      fc.array(tie("tree"), { maxLength: 4 }).map((parts) => sequence(...parts)),
      fc.array(tie("tree"), { maxLength: 4 }).map((parts) => setOf(...parts)),
    ),
  }));
  const again = ({ tag, content, children }: Element): Buffer => encode(tag, ...(children ? children.map(again) : [content]));

  test("what is written reads back and writes again to the same octets, and no prefix of it is read", () => {
    fc.assert(
      fc.property(tree, fc.nat(), (der, cut) => {
        expect(again(parse(der)).equals(der)).toBe(true);
        expect(outcomeOf(() => parse(der.subarray(0, cut % der.length)))).toBe("malformed");
      }),
    );
  });

  test("octets come back in segments of any size", () => {
    fc.assert(
      fc.property(fc.array(octets(20), { maxLength: 8 }), (segments) => {
        const whole = Buffer.concat(segments);
        expect(octetsOf(parse(encode(TAG.octetString | 0x20, ...segments.map(octetString)))).equals(whole)).toBe(true);
      }),
    );
  });

  test("every reader of DER refuses random octets, and mutants of good ones, only by `malformed`", () => {
    const mutant = fc
      .tuple(tree, fc.nat(), fc.nat({ max: 255 }))
      .map(([der, at, octet]) => Buffer.from(der).fill(octet, at % der.length, (at % der.length) + 1));
    fc.assert(
      fc.property(fc.oneof(octets(200), mutant), (bytes) => {
        for (const read of [parse, readSignedData, readShell, parseCertificate])
          expect(["ok", "malformed"]).toContain(outcomeOf(() => read(bytes)));
      }),
      { numRuns: 500 },
    );
  });

  test("an envelope opens to what was sealed, and says what it was told to say", () => {
    const shell = fc.record({
      ticket: octets(600),
      brokerUrl: fc.webUrl(),
      expiresAt: fc
        .date({ min: new Date("2000-01-01"), max: new Date("9999-12-31"), noInvalidDate: true })
        .map((date) => new Date(Math.floor(date.getTime() / 1_000) * 1_000)),
    });
    fc.assert(
      fc.property(octets(3_000), shell, (plaintext, says) => {
        const key = ContentKey.generate();
        const envelope = sealWithKey(plaintext, key, says);
        expect(openWithKey(envelope, key).equals(plaintext)).toBe(true);
        expect(readShell(envelope)).toEqual(says);
      }),
    );
  });
});
