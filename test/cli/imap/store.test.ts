/** The mailboxes in memory, as the demo uses them without a client. */

import { expect, test } from "@jest/globals";
import { MailStore } from "../../../cli/demo/imap/store.ts";
import { note } from "./talk.ts";

const USER = "bob@b.example";

function storeOfBob(): MailStore {
  const store = new MailStore();
  store.addUser(USER, "secret");
  return store;
}

test("a delivered message is a copy: what the caller does to its buffer later does not reach the mailbox", () => {
  const store = storeOfBob();
  const bytes = note("x");
  const uid = store.deliver(USER, bytes);
  bytes.fill(0);
  expect(store.list(USER)).toMatchObject([{ uid, bytes: note("x"), flags: [] }]);
});

test("UIDs rise within a folder, and each folder counts for itself", () => {
  const store = storeOfBob();
  expect([store.deliver(USER, note("a")), store.deliver(USER, note("b")), store.deliver(USER, note("c"), { folder: "Sent" })]).toEqual([
    1, 2, 1,
  ]);
});

test("a folder nobody made is empty, an unknown user is an error", () => {
  const store = storeOfBob();
  expect(store.list(USER, "Nowhere")).toEqual([]);
  expect(store.hasUser("alice")).toBe(false);
  expect(() => store.list("alice")).toThrow("no such user");
  expect(() => store.deliver("alice", note("x"))).toThrow("no such user");
});

test("adding a user again changes the password and keeps the mail", () => {
  const store = storeOfBob();
  store.deliver(USER, note("kept"));
  store.addUser(USER, "new");
  expect(store.open(USER, Buffer.from("secret"))).toBeUndefined();
  expect(store.open(USER, Buffer.from("new"))).toBeDefined();
  expect(store.list(USER)).toHaveLength(1);
});

test("waiting ends at once when what is waited for is there", async () => {
  const store = storeOfBob();
  store.deliver(USER, note("x"));
  await expect(store.until(USER, "INBOX", (messages) => messages.length === 1, AbortSignal.timeout(5000))).resolves.toHaveLength(1);
});

test("waiting ends with the change that fulfils it, also in a folder that is made only then", async () => {
  const store = storeOfBob();
  const arrived = store.until(USER, "Receipts", (messages) => messages.length === 2, AbortSignal.timeout(5000));
  store.deliver(USER, note("a"), { folder: "Receipts" });
  store.deliver(USER, note("b"), { folder: "Receipts" });
  await expect(arrived).resolves.toMatchObject([{ uid: 1 }, { uid: 2 }]);
});

test("waiting ends with the reason of its signal, before or while it waits", async () => {
  const store = storeOfBob();
  const controller = new AbortController();
  const never = store.until(USER, "INBOX", () => false, controller.signal);
  const reason = new Error("enough");
  controller.abort(reason);
  await expect(never).rejects.toBe(reason);
  await expect(store.until(USER, "INBOX", () => true, controller.signal)).rejects.toBe(reason);
});

function broken(): boolean {
  throw new Error("broken predicate");
}

test("a predicate that throws ends the waiting with its error", async () => {
  await expect(storeOfBob().until(USER, "INBOX", broken, AbortSignal.timeout(5000))).rejects.toThrow("broken predicate");
});
