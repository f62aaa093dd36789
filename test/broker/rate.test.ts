/** Limits for whoever asks too much: 429 with the seconds to wait, which gateways take for "later"; and idle or slow connections that hold nobody up. */
import { randomBytes } from "node:crypto";
import { once } from "node:events";
import { connect, type Socket } from "node:net";
import { connect as connectTls } from "node:tls";
import { afterEach, describe, expect, test } from "@jest/globals";
import { Buckets, networkOf, shareOf } from "../../broker/rate.ts";
import { duration } from "../../config/units.ts";
import { Fault } from "../../mime/fault.ts";
import { newKey } from "../../mime/request.ts";
import { call, forever, letterFrom, openHouse, wordOf, type House } from "./house.ts";

let house: House | undefined;
const sockets: Socket[] = [];
afterEach(async () => {
  for (const socket of sockets.splice(0)) socket.destroy();
  await house?.stop();
  house = undefined;
});

test("several processes together allow what is configured; whole numbers are rounded up", () => {
  const limits = { perGateway: { burst: 5, perSecond: 0.5 }, perAddress: { burst: 300, perSecond: 10 }, connections: 10, other: 7 };
  expect(shareOf(limits, 1)).toEqual(limits);
  const share = { perGateway: { burst: 2, perSecond: 0.125 }, perAddress: { burst: 75, perSecond: 2.5 }, connections: 3, other: 7 };
  expect(shareOf(limits, 4)).toEqual(share);
});

test("connections beyond the limit are closed, and there is room again when one ends", async () => {
  house = await openHouse(undefined, undefined, { connections: 2 });
  const { hostname: host, port } = new URL(house.url);
  const open = async (): Promise<"open" | "closed"> => {
    const socket = connectTls({ host, port: Number(port), rejectUnauthorized: false }).on("error", () => undefined);
    sockets.push(socket);
    return new Promise((resolve) => {
      socket.once("secureConnect", () => resolve("open")).once("close", () => resolve("closed"));
    });
  };
  expect([await open(), await open(), await open()]).toEqual(["open", "open", "closed"]);
  const [first] = sockets;
  first?.end();
  await once(first as Socket, "close");
  expect(await open()).toBe("open");
});

describe("a bucket", () => {
  const waits = (buckets: Buckets, name: string): number | undefined => {
    try {
      buckets.take(name);
      return undefined;
    } catch (thrown) {
      return Fault.from(thrown).retryAfter;
    }
  };

  test("counts a call that asks for many things as many, though never as more than a full bucket", () => {
    let time = 0;
    const buckets = new Buckets({ burst: 10, perSecond: 1 }, () => time);
    buckets.take("a", 8);
    expect(() => buckets.take("a", 3)).toThrow(expect.objectContaining({ code: "unavailable", retryAfter: 1 }));
    buckets.take("a", 2);
    time += 10_000;
    buckets.take("a", 1_000);
    expect(waits(buckets, "a")).toBe(1);
  });

  test("gives its burst at once, then as many as come in a second, and never saves up more than the burst", () => {
    let time = 0;
    const buckets = new Buckets({ burst: 3, perSecond: 2 }, () => time);
    const taken = (count: number) => Array.from({ length: count }, () => waits(buckets, "a"));
    expect(taken(5)).toEqual([undefined, undefined, undefined, 1, 1]);
    time += 500;
    expect(taken(2)).toEqual([undefined, 1]);
    time += 3_600_000;
    expect(taken(4)).toEqual([undefined, undefined, undefined, 1]);
    expect(waits(buckets, "b")).toBeUndefined();
  });

  test("of a slow rate says how long to wait", () => {
    const buckets = new Buckets({ burst: 1, perSecond: 0.1 }, () => 0);
    expect([waits(buckets, "a"), waits(buckets, "a")]).toEqual([undefined, 10]);
  });

  test("an emptied one is not forgotten while tens of thousands of others come and go", () => {
    const buckets = new Buckets({ burst: 2, perSecond: 0.001 }, () => 0);
    buckets.take("a");
    buckets.take("a");
    for (let other = 0; other < 40_000; other++) buckets.take(`other ${other}`);
    expect(waits(buckets, "a")).toBe(1_000);
  });

  test.each([
    ["192.0.2.7", "192.0.2.7"],
    ["::ffff:192.0.2.7", "192.0.2.7"],
    ["2001:db8:1:2:3:4:5:6", "2001:db8:1:2"],
    ["2001:db8:1:2::9", "2001:db8:1:2"],
    ["2001:db8::1", "2001:db8:0:0"],
    ["::1", "0:0:0:0"],
    ["fe80::1%eth0", "fe80:0:0:0"],
  ])("%s counts as %s", (address, network) => {
    expect(networkOf(address)).toBe(network);
  });
});

test("a gateway that asks too often gets 429 with Retry-After, and another gateway meanwhile what it asks for", async () => {
  house = await openHouse(undefined, undefined, { perGateway: { burst: 5, perSecond: 0.01 } });
  const [a, b] = [await house.gateway("a.example"), await house.gateway("b.example")];
  const path = "/v1/directory/nobody@a.example";
  const answers = [];
  for (let count = 0; count < 6; count++) answers.push(await call(house, a.channel, path, { method: "GET" }));
  expect(answers.map(({ status }) => status)).toEqual([422, 422, 422, 422, 422, 429]);
  const last = answers.at(-1)!;
  expect([last.headers["retry-after"], last.headers["content-type"], wordOf(last)]).toEqual([
    "100",
    "application/problem+json",
    "unavailable",
  ]);
  await expect(a.client.ready(forever)).resolves.toBeUndefined(); // asked without regard to the certificate
  await expect(a.enrol("someone@a.example")).rejects.toMatchObject({ code: "unavailable", retry: "later" });
  expect((await b.enrol("someone@b.example")).identity).toBeDefined();
});

test("an address that guesses tokens, or shows no certificate of ours, is slowed down; gateways at the same address are not", async () => {
  house = await openHouse(undefined, undefined, { perAddress: { burst: 10, perSecond: 0.01 } });
  const a = await house.gateway("a.example"); // two of the ten
  const guess = () =>
    call(house!, undefined, "/v1/gateways", { body: '{"token":"x","name":"x","request":"AAAA"}', type: "application/json" });
  const statuses = [];
  for (let count = 0; count < 8; count++) statuses.push((await guess()).status);
  expect(statuses).toEqual(Array.from({ length: 8 }, () => 400));
  expect((await guess()).status).toBe(429);
  expect((await call(house, undefined, "/v1/authority", { method: "GET" })).status).toBe(429);
  expect((await call(house, undefined, "/v1/crl", { method: "GET" })).status).toBe(429);
  expect((await call(house, undefined, "/v1/present")).status).toBe(429);
  expect((await a.enrol("someone@a.example")).identity).toBeDefined();
});

const portOf = (place: House): number => Number(new URL(place.url).port);

test("a thousand idle connections and two hundred slow ones hold no honest request up, and are closed when their time is over", async () => {
  house = await openHouse(undefined, undefined, { header: duration("3s"), request: duration("1h") });
  const a = await house.gateway("a.example");
  const port = portOf(house);
  const closed: Promise<unknown>[] = [];
  const keep = (socket: Socket): Socket => {
    socket.on("error", () => undefined);
    closed.push(new Promise((resolve) => socket.once("close", resolve)));
    sockets.push(socket);
    return socket.resume();
  };
  const idle = Array.from({ length: 900 }, () => keep(connect(port, "127.0.0.1")));
  await Promise.all(idle.map((socket) => once(socket, "connect")));
  const secure = Array.from({ length: 300 }, () => keep(connectTls({ port, host: "127.0.0.1", rejectUnauthorized: false })));
  await Promise.all(secure.map((socket) => once(socket, "secureConnect")));
  const slow = secure.slice(0, 200);
  const dripping = setInterval(() => {
    for (const socket of slow) if (!socket.destroyed) socket.write("x");
  }, 100);
  for (const socket of slow) socket.write("POST /v1/present HTTP/1.1\r\nhost: x\r\nx-drip: ");
  const began = performance.now();
  expect((await a.enrol("someone@a.example")).identity).toBeDefined();
  expect(performance.now() - began).toBeLessThan(2_500);
  await Promise.all(closed);
  clearInterval(dripping);
});

test("a body that drips in is cut off when the request's time is over", async () => {
  house = await openHouse(undefined, undefined, { header: duration("1s"), request: duration("1s") });
  const socket = connectTls({ port: portOf(house), host: "127.0.0.1", rejectUnauthorized: false });
  sockets.push(socket);
  await once(socket, "secureConnect");
  socket.on("error", () => undefined);
  socket.write("POST /v1/gateways HTTP/1.1\r\nhost: x\r\ncontent-length: 100000\r\n\r\n{");
  const dripping = setInterval(() => socket.destroyed || socket.write(" "), 100);
  await new Promise((resolve) => socket.resume().once("close", resolve));
  clearInterval(dripping);
});

test("a header beyond 8 KiB is refused with 431, and the next request is served", async () => {
  house = await openHouse();
  const socket = connectTls({ port: portOf(house), host: "127.0.0.1", rejectUnauthorized: false });
  sockets.push(socket);
  await once(socket, "secureConnect");
  socket.write(`GET /v1/authority HTTP/1.1\r\nhost: x\r\nx-large: ${"x".repeat(9_000)}\r\n\r\n`);
  const [answer] = (await once(socket, "data")) as [Buffer];
  expect(answer.toString()).toMatch(/^HTTP\/1\.1 431 /u);
  expect((await call(house, undefined, "/v1/authority", { method: "GET" })).status).toBe(200);
});

test("a renewed channel certificate does not make another gateway of it, with requests of its own", async () => {
  house = await openHouse(undefined, undefined, { perGateway: { burst: 5, perSecond: 0.01 } });
  const a = await house.gateway("a.example");
  const key = newKey();
  const renewed = { key, certificate: await a.client.renewChannel(key, "gateway", forever) };
  const statuses = [];
  for (let count = 0; count < 5; count++)
    statuses.push((await call(house, renewed, "/v1/directory/nobody@a.example", { method: "GET" })).status);
  expect(statuses).toEqual([422, 422, 422, 422, 429]);
});

test("a gateway renews its channel so often and no more until a part of a certificate's lifetime is over, whichever it shows; another one may", async () => {
  house = await openHouse();
  const [a, b] = [await house.gateway("a.example"), await house.gateway("b.example")];
  const before = (await house.table.gateways()).length;
  const key = newKey(); // as who did not hear the answer asks again
  const renewed = { key, certificate: await a.client.renewChannel(key, "gateway", forever) };
  a.client.use(renewed.certificate, key);
  for (let count = 1; count < 24; count++) await a.client.renewChannel(key, "gateway", forever);
  await expect(a.client.renewChannel(key, "gateway", forever)).rejects.toMatchObject({ code: "unavailable", retry: "later" });
  expect((await house.table.gateways()).length).toBe(before + 24);
  await expect(b.client.renewChannel(newKey(), "gateway", forever)).resolves.toBeDefined();
  Object.assign(house.broker, { limits: { ...house.broker.limits, certificateLifetime: duration("24ms") } }); // as a reload does
  await expect(a.client.renewChannel(key, "gateway", forever)).resolves.toBeDefined();
});

test("a recall counts as many requests as it names letters: each that is refused makes the audit log longer, for good", async () => {
  house = await openHouse(undefined, undefined, { perGateway: { burst: 20, perSecond: 0.01 } });
  const member = await (await house.gateway("a.example")).enrol("someone@a.example");
  const recall = () => member.gateway.client.recall(Array<Buffer>(10).fill(randomBytes(80)), member.identity, forever);
  await expect(recall()).resolves.toHaveLength(10);
  await expect(recall()).rejects.toMatchObject({ code: "unavailable" });
});

test("a declaration counts as many requests as it names recipients", async () => {
  house = await openHouse(undefined, undefined, { perGateway: { burst: 20, perSecond: 0.01 } });
  const a = await house.gateway("a.example");
  const [sender, ...members] = [await a.enrol("a@a.example"), await a.enrol("b@a.example"), await a.enrol("c@a.example")];
  const recipients = members.map(({ mailbox }) => mailbox.address);
  let grants = 0;
  const declareUntilRefused = async (): Promise<never> => {
    for (;;)
      grants += (await sender.gateway.client.declare(letterFrom(house as House, sender, recipients), sender.identity, forever)).length;
  };
  await expect(declareUntilRefused()).rejects.toMatchObject({ code: "unavailable", retry: "later" });
  expect(grants).toBe(16); // of 20 requests, three enrolled
});
