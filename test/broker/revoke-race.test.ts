/** A revocation in the very moment of an issuing, by two processes on one table: whichever comes first, what was issued is revoked in the end. */
import { join } from "node:path";
import { afterAll, afterEach, beforeAll, describe, expect, test } from "@jest/globals";
import { FILES } from "../../broker/files.ts";
import { pairsOf, revoke, serialsOf, type Revocable } from "../../broker/revoke.ts";
import { openEmbeddedTable } from "../../broker/table-embedded.ts";
import { openRedisTable } from "../../broker/table-redis.ts";
import type { Table } from "../../broker/table.ts";
import { duration } from "../../config/units.ts";
import { newKey } from "../../mime/request.ts";
import { startRedis } from "../servers/redis.ts";
import { forever, openHouse, type House, type Member } from "./house.ts";

interface Lab {
  readonly house: House;
  /** The same table, as another process has it. */
  readonly other: Table;
  stop(): Promise<void>;
}

const retention = duration("30d");

async function embeddedLab(): Promise<Lab> {
  const house = await openHouse();
  const other = await openEmbeddedTable(join(house.folder, "data", FILES.table), { retention });
  const stop = async (): Promise<void> => {
    await other.close();
    await house.stop();
  };
  return { house, other, stop };
}

async function redisLab(): Promise<Lab> {
  const redis = await startRedis();
  const [table, other] = await Promise.all([1, 2].map(() => openRedisTable({ url: redis.url, prefix: "k:", retention })));
  const house = await openHouse((embedded) => {
    void embedded.close();
    return table!;
  });
  const stop = async (): Promise<void> => {
    await other!.close();
    await house.stop();
    await redis.stop();
  };
  return { house, other: other!, stop };
}

/** Does something else before the table's next step of this name. */
function before(table: Table, name: "putGateway" | "putMailbox" | "revoke", other: () => Promise<unknown>): void {
  const step = async (...given: unknown[]): Promise<unknown> => {
    Reflect.deleteProperty(table, name);
    await other();
    return (table[name] as (...given: unknown[]) => Promise<unknown>)(...given);
  };
  Object.assign(table, { [name]: step });
}

describe.each([
  ["embedded", embeddedLab],
  ["redis", redisLab],
])("%s", (_name, start) => {
  let lab: Lab;
  let member: Member;
  let count = 0;

  beforeAll(async () => void (lab = await start()));
  afterAll(() => lab?.stop());

  const newcomer = async (): Promise<Member> => {
    const domain = `d${count++}.example`;
    return (await lab.house.gateway(domain)).enrol(`someone@${domain}`);
  };
  const id = (): string => member.gateway.channel.certificate.fingerprint;
  const revokeNow = (what: Revocable) => revoke(lab.other, what, "key-compromise", lab.house.now(), "operator");
  const renewChannel = () => member.gateway.client.renewChannel(newKey(), "gateway", forever);
  const renewMailbox = () => member.gateway.enrol(member.mailbox.address);
  /** Serial numbers of what was issued to the gateway, or to the mailbox, in the registry's order. */
  const channels = async () => (await lab.house.table.gateways()).filter(({ renews, fingerprint }) => (renews ?? fingerprint) === id());
  const pairs = async () => pairsOf((await lab.house.table.findMailbox(member.mailbox.key))!).flatMap(serialsOf);
  const revoked = async (): Promise<Map<string, string>> =>
    new Map((await lab.house.table.revocations()).map(({ name, reason }) => [name, reason]));

  const CASES: [string, () => Revocable, "putGateway" | "putMailbox", () => Promise<unknown>, () => Promise<string[]>, number][] = [
    ["a channel", () => ({ gateway: id() }), "putGateway", renewChannel, async () => (await channels()).map(({ serial }) => serial), 2],
    ["a mailbox's pair", () => ({ mailbox: member.mailbox.address }), "putMailbox", renewMailbox, pairs, 4],
    ["a pair of a gateway's mailbox", () => ({ gateway: id() }), "putMailbox", renewMailbox, pairs, 4],
  ];

  afterEach(async () => {
    for (const name of ["putGateway", "putMailbox"]) Reflect.deleteProperty(lab.house.table, name);
  });

  test.each(CASES)("%s that is put when the revoker has read and not yet written", async (_what, what, _put, renew, issued, many) => {
    member = await newcomer();
    before(lab.other, "revoke", renew);
    await revokeNow(what());
    const [serials, known] = [await issued(), await revoked()];
    expect(serials).toHaveLength(many);
    expect(serials.map((serial) => known.get(serial))).toEqual(serials.map(() => "key-compromise"));
  });

  test.each(CASES)("%s that is put when the revoker has ended, and was begun before", async (_what, what, put, renew, issued, many) => {
    member = await newcomer();
    before(lab.house.table, put, () => revokeNow(what()));
    await expect(renew()).rejects.toThrow();
    const [serials, known] = [await issued(), await revoked()];
    expect(serials).toHaveLength(many);
    expect(serials.map((serial) => known.get(serial))).toEqual(serials.map(() => "key-compromise"));
  });
});
