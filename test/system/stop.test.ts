/** Stopping a gateway, and one process for one data folder: what was answered 250 is kept, idle clients are sent away, a dead process hinders nobody. */
import { afterEach, beforeEach, expect, test } from "@jest/globals";
import { openHouse, type House } from "../broker/house.ts";
import { startHop, type Hop } from "../gateway/hop.ts";
import type { Talk } from "../gateway/talk.ts";
import { startKakitome, type Process } from "../walks/kakitome.ts";
import { ALICE, BOB, letter, nameOf, prepareSender, submit, type Sender } from "./sender.ts";

/** A stop with idle clients is a matter of milliseconds; with a busy machine it may take this. */
const SOON_MS = 2_000;

let house: House;
let hop: Hop;
let sender: Sender;
let gateway: Process;
let talk: Talk;

beforeEach(async () => {
  [house, hop] = await Promise.all([openHouse(), startHop()]);
  await (await house.gateway("b.example")).enrol(BOB);
  sender = await prepareSender(house, hop.port);
  gateway = await sender.run();
  talk = await sender.enter();
});
afterEach(async () => {
  talk?.close();
  await gateway?.stop("SIGKILL");
  await hop?.close();
  await house?.stop();
});

const taken = (name: string): number => hop.attempts.all.filter(({ mail }) => nameOf(mail) === name).length;

/** Begins a transaction, and says the first part of the text. */
async function begin(name: string): Promise<string> {
  for (const line of [`MAIL FROM:<${ALICE}>`, `RCPT TO:<${BOB}>`]) expect(await talk.say(line)).toMatch(/^250/u);
  expect(await talk.say("DATA")).toMatch(/^354/u);
  const text = letter(name, "x\r\n".repeat(1_000));
  talk.write(text.slice(0, 2_000));
  return text.slice(2_000);
}

test("SIGTERM sends idle clients away, and the process ends at once with exit code 0", async () => {
  const others = [await sender.enter(), await sender.enter()];
  await others[0]?.say(`MAIL FROM:<${ALICE}>`);
  const began = performance.now();
  const code = await gateway.stop("SIGTERM");
  expect(performance.now() - began).toBeLessThan(SOON_MS);
  expect(code).toBe(0);
  await Promise.all([talk, ...others].map((client) => client.ended()));
});

test("a letter whose text is coming in at SIGTERM is answered 250, and is delivered once, by this process or after a restart", async () => {
  const rest = await begin("late");
  const idle = await sender.enter();
  const stopped = gateway.stop("SIGTERM");
  await idle.ended(); // so the stop has begun
  talk.write(`${rest}.\r\n`);
  expect(await talk.hear()).toMatch(/^250 2\.0\.0 Accepted as /u);
  talk.close();
  expect(await stopped).toBe(0);
  gateway = await sender.run();
  await sender.untilSpool((names) => names.length === 0);
  expect(taken("late")).toBe(1);
});

test("a client whose text came in at SIGTERM is sent away after its answer, and the process ends at once", async () => {
  const rest = await begin("last");
  const idle = await sender.enter();
  const stopped = gateway.stop("SIGTERM");
  await idle.ended();
  talk.write(`${rest}.\r\n`);
  expect(await talk.hear()).toMatch(/^250 /u);
  const answered = performance.now();
  await stopped;
  expect(performance.now() - answered).toBeLessThan(SOON_MS);
});

test("a client that goes away in the midst of its text at SIGTERM was not answered 250, and nothing is delivered", async () => {
  await begin("half");
  const idle = await sender.enter();
  const stopped = gateway.stop("SIGTERM");
  await idle.ended();
  talk.close();
  expect(await stopped).toBe(0);
  gateway = await sender.run();
  expect(await submit(await sender.enter(), letter("whole"))).toMatch(/^250 /u);
  await hop.attempts.until(({ mail }) => nameOf(mail) === "whole");
  expect(taken("half")).toBe(0);
});

test("what was answered 250 before kill -9 is delivered after the next start, which the dead process does not hinder", async () => {
  await hop.close(); // so that it waits
  expect(await submit(talk, letter("kept"))).toMatch(/^250 /u);
  await gateway.stop("SIGKILL");
  hop = await startHop({ port: hop.port });
  gateway = await sender.run();
  await hop.attempts.until(({ mail }) => nameOf(mail) === "kept");
  await sender.untilSpool((names) => names.length === 0);
  expect(taken("kept")).toBe(1);
});

/** @returns what a second process on the same data printed */
async function startSecond(): Promise<string[]> {
  const second = startKakitome(["gateway", "run", "--config", sender.config]);
  expect(await second.ended).toBe(1);
  return second.text().trim().split("\n");
}

test("a second process on the same data refuses to start with one line, and does not disturb the first", async () => {
  expect(await startSecond()).toEqual([expect.stringContaining("other process")]);
  expect(await submit(talk, letter("undisturbed"))).toMatch(/^250 /u);
  await hop.attempts.until(({ mail }) => nameOf(mail) === "undisturbed");
});

test("a second process on the same data says which folder is in use", async () => {
  expect(await startSecond()).toEqual([expect.stringContaining(`another process works in ${sender.data}`)]);
});
