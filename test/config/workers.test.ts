/** A worker that hangs is found out, killed and started again; one that is only slow is left alone. */
import { join } from "node:path";
import { afterEach, describe, expect, test } from "@jest/globals";
import { startNode, type Process } from "../walks/kakitome.ts";

const ROOT = join(import.meta.dirname, "..", "..");
const PROGRAM = ["--import", join(ROOT, "scripts", "typescript.mjs"), join(import.meta.dirname, "hanging.ts")];

const pidsOf = ({ lines }: Process): number[] => lines.filter(({ event }) => event === "worker.started").map((line) => Number(line["pid"]));
const eventsOf = ({ lines }: Process): string[] => lines.flatMap(({ event }) => event ?? []);

describe("a worker", () => {
  const primaries: Process[] = [];
  const start = async (...how: readonly string[]): Promise<Process> => {
    const primary = startNode([...PROGRAM, ...how]);
    primaries.push(primary);
    await primary.until("started", ({ event }) => event === "primary.started");
    return primary;
  };
  afterEach(async () => void (await Promise.all(primaries.splice(0).map((primary) => primary.stop()))));

  test("that answers nothing any more is killed, and the next one takes its place", async () => {
    const primary = await start();
    const [first = 0] = pidsOf(primary);
    process.kill(first, "SIGSTOP");
    await primary.until("the next one", () => pidsOf(primary).length === 2);
    const told = eventsOf(primary).filter((event) => event.startsWith("worker.") && event !== "worker.asked");
    expect(told).toEqual(["worker.started", "worker.hung", "worker.ended", "worker.started"]);
    expect(primary.lines.find(({ event }) => event === "worker.ended")).toMatchObject({ worker: "1", how: "by SIGKILL" });
    process.kill(pidsOf(primary)[1] ?? 0, "SIGSTOP"); // it is looked after as well
    await primary.until("the one after", () => pidsOf(primary).length === 3);
  });

  test("that ends while others still start is started again", async () => {
    const primary = await start("early");
    const of = (worker: string) => primary.lines.filter((line) => line.event === "worker.started" && line["worker"] === worker);
    await primary.until("the next one", () => of("1").length === 2);
    expect(of("2")).toHaveLength(1);
    expect(primary.lines.find(({ event }) => event === "worker.ended")).toMatchObject({ worker: "1", how: "by SIGKILL" });
  });

  test("that answers now and then is not", async () => {
    const primary = await start("slow");
    const asked = (): number => eventsOf(primary).filter((event) => event === "worker.asked").length;
    await primary.until("the tenth question", () => asked() === 10);
    expect(pidsOf(primary)).toHaveLength(1);
    expect(eventsOf(primary)).not.toContain("worker.hung");
  });
});
