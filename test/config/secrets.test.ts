/** Secrets: files that only their owner can read, in memory nothing that prints. */
import { generateKeyPairSync } from "node:crypto";
import { chmodSync, mkdirSync, symlinkSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { format, inspect } from "node:util";
import { beforeAll, describe, expect, test } from "@jest/globals";
import { Secret, readPrivateKey, readSecret } from "../../config/secrets.ts";
import { temporaryFolder } from "../servers/process.ts";

let folder: string;
let count = 0;

beforeAll(async () => {
  folder = await temporaryFolder("secrets");
});

function file(text: string | Buffer, mode = 0o600): string {
  const path = join(folder, `secret${count++}`);
  writeFileSync(path, text);
  chmodSync(path, mode);
  return path;
}

test.each([
  ["without a line end", "hunter-2", "hunter-2"],
  ["with a line end", "hunter-2\n", "hunter-2"],
  ["with a line end of Windows", "hunter-2\r\n", "hunter-2"],
  ["with an empty line behind it, which counts", "hunter-2\n\n", "hunter-2\n"],
  ["with spaces, which count", " hunter 2 ", " hunter 2 "],
  ["outside ASCII", "höntér\n", "höntér"],
])("a secret %s is read", (_why, text, secret) => {
  expect(readSecret(file(text)).reveal()).toBe(secret);
});

describe("a file that is open to others is refused, and how to close it is named", () => {
  test.each([0o644, 0o640, 0o604, 0o660, 0o620, 0o601, 0o666, 0o777])("mode %i", (mode) => {
    const path = file("hunter-2", mode);
    expect(() => readSecret(path)).toThrow(`${path} can be read by others (mode ${mode.toString(8)}): run chmod 600 ${path}`);
  });

  test("behind a link, too", () => {
    const link = join(folder, "link");
    symlinkSync(file("hunter-2", 0o644), link);
    expect(() => readSecret(link)).toThrow(/can be read by others/u);
  });

  test.each([0o600, 0o400, 0o700])("but not mode %i", (mode) => {
    expect(readSecret(file("hunter-2", mode)).reveal()).toBe("hunter-2");
  });
});

test.each([
  ["empty", () => file(""), /is empty$/u],
  ["only a line end", () => file("\n"), /is empty$/u],
  ["missing", () => join(folder, "missing"), /cannot be read \((?:Error: )?ENOENT/u],
  ["a folder", () => (mkdirSync(join(folder, "dir"), { mode: 0o700 }), join(folder, "dir")), /cannot be read \((?:Error: )?EISDIR/u],
])("a file that is %s is malformed", (_why, make, words) => {
  const path = make();
  expect(() => readSecret(path)).toThrow(expect.objectContaining({ code: "malformed", message: expect.stringMatching(words) }));
});

describe("a private key", () => {
  const { privateKey } = generateKeyPairSync("ec", { namedCurve: "prime256v1" });
  const pem = privateKey.export({ type: "pkcs8", format: "pem" }).toString();

  test("is read from PEM", () => {
    expect(readPrivateKey(file(pem)).equals(privateKey)).toBe(true);
  });

  test.each([
    ["is broken", pem.slice(0, 100) + pem.slice(130)],
    ["is encrypted", privateKey.export({ type: "pkcs8", format: "pem", cipher: "aes-256-cbc", passphrase: "x" }).toString()],
    ["is none", "not a key at all: c0ffee"],
  ])("that %s is refused without a word of it", (_why, text) => {
    const path = file(text);
    let said = "";
    try {
      readPrivateKey(path);
    } catch (thrown) {
      said = inspect(thrown, { depth: 10 });
    }
    expect(said).toContain(`${path} holds no private key as unencrypted PEM`);
    for (const line of text.split("\n").filter((line) => line.length > 20)) expect(said).not.toContain(line);
    expect(said).not.toContain("c0ffee");
  });

  test("that others can read is refused like every secret", () => {
    expect(() => readPrivateKey(file(pem, 0o644))).toThrow(/run chmod 600/u);
  });
});

test.each<[string, (secret: Secret) => string]>([
  ["String", String],
  ["joining", (secret) => ["", secret].join()],
  ["JSON", (secret) => JSON.stringify({ secret })],
  ["inspect", (secret) => inspect({ secret }, { depth: 10, showHidden: true })],
  ["format", (secret) => format("%s %o %O %j", secret, secret, secret, secret)],
  ["its keys", (secret) => JSON.stringify([Object.keys(secret), Object.getOwnPropertyNames(secret), { ...secret }])],
  ["an error's text", (secret) => new Error("failed", { cause: secret }).stack + inspect(new Error("x", { cause: secret }))],
])("a Secret says nothing by %s", (_how, say) => {
  expect(say(new Secret("hunter-2"))).not.toContain("hunter");
});
