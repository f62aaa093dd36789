/** Users: scrypt hashes that differ, passwords in one form of Unicode, and the same trouble for an unknown name as for a wrong password. */
import { beforeAll, describe, expect, test } from "@jest/globals";
import type { User } from "../../config/schema.ts";
import { Users, hashPassword, maySendAs } from "../../gateway/users.ts";
import { parseMailbox } from "../../mime/address.ts";

const identities = [parseMailbox("alice@a.example"), parseMailbox("a.liddell@a.example")];
const ACCENTED = "caf\u00e9-secret";
let users: Users;

beforeAll(async () => {
  users = new Users([
    { name: "alice", password: await hashPassword("alice-secret"), identities },
    { name: "zoë", password: await hashPassword(ACCENTED), identities: [] },
    { name: "short", password: "$scrypt$32768$8$1$c2FsdA$", identities },
    { name: "odd", password: "$scrypt$x$y$z", identities },
  ]);
});

test("a hash has its costs, salt and key in it, and not the password", async () => {
  expect(await hashPassword("alice-secret")).toMatch(/^\$scrypt\$32768\$8\$1\$[\w-]{22}\$[\w-]{43}$/u);
});

test("two hashes of one password differ, so that nobody sees who has the same", async () => {
  expect(await hashPassword("alice-secret")).not.toBe(await hashPassword("alice-secret"));
});

test("name and password give the user and whom they may send as", async () => {
  expect(await users.authenticate("alice", "alice-secret")).toMatchObject({ name: "alice", identities });
});

test("who logged in is who the users are now: another password, other identities or no such user count for open connections", async () => {
  const alice = await users.authenticate("alice", "alice-secret");
  if (!alice) throw new Error("not let in");
  const next = (...list: User[]) => new Users(list).current(alice);
  const proof = alice.proof ?? "";
  expect(next({ name: "alice", password: proof, identities })).toEqual(alice);
  expect(next({ name: "alice", password: proof, identities: [] })?.identities).toEqual([]);
  expect(next({ name: "alice", password: await hashPassword("alice-secret"), identities })).toBeUndefined();
  expect(next({ name: "zoë", password: proof, identities })).toBeUndefined();
});

test.each([
  ["composed", ACCENTED],
  ["decomposed, as other keyboards send it", "cafe\u0301-secret"],
])("a password outside ASCII is the same: %s", async (_form, password) => {
  expect(await users.authenticate("zoë", password)).toHaveProperty("name", "zoë");
});

test.each([
  ["a wrong password", "alice", "alice-secreT"],
  ["a password with more behind it", "alice", "alice-secret "],
  ["no password", "alice", ""],
  ["an unknown name", "mallory", "alice-secret"],
  ["no name", "", "alice-secret"],
  ["another case of the name", "ALICE", "alice-secret"],
  ["a NUL behind the name", "alice\0", "alice-secret"],
  ["a name that every object has", "__proto__", "x"],
])("nobody is let in with %s", async (_why, name, password) => {
  expect(await users.authenticate(name, password)).toBeUndefined();
});

test("a hash without a key lets nobody in, whatever the password", async () => {
  await expect(users.authenticate("short", "").catch(() => undefined)).resolves.toBeUndefined();
  await expect(users.authenticate("odd", "").catch(() => undefined)).resolves.toBeUndefined();
});

test("a password of more than 1,024 characters is not even hashed", async () => {
  await expect(users.authenticate("alice", "x".repeat(1_025))).rejects.toMatchObject({ code: "malformed" });
});

test("who logged in just now gets in again at once, while guesses keep the hashes busy; with another password not", async () => {
  await users.authenticate("alice", "alice-secret");
  const guesses = Array.from({ length: 20 }, (_none, at) => users.authenticate("alice", `guess ${at}`));
  expect(await users.authenticate("alice", "alice-secret")).toHaveProperty("name", "alice");
  await expect(users.authenticate("alice", "another")).rejects.toThrow(); // busy: it would be hashed
  await expect(users.authenticate("zoë", "alice-secret")).rejects.toThrow();
  expect(await Promise.all(guesses)).toEqual(guesses.map(() => undefined));
});

describe("may send as", () => {
  const submitter = { name: "alice", identities };
  test.each([
    ["the identity itself", "alice@a.example", true],
    ["another case of it", "ALICE@A.Example", true],
    ["another identity", "a.liddell@a.example", true],
    ["a stranger", "ceo@a.example", false],
    ["the same name elsewhere", "alice@b.example", false],
    ["an address with a tag", "alice+x@a.example", false],
  ])("%s: %s is %s", (_why, address, may) => {
    expect(maySendAs(submitter, parseMailbox(address))).toBe(may);
  });
});
