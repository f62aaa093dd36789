/** Starting and stopping: the last that started stops first, failures hold nobody up, and a pause ends when there is nothing to wait for. */
import { spawnSync } from "node:child_process";
import { getEventListeners } from "node:events";
import { join } from "node:path";
import { describe, expect, test } from "@jest/globals";
import { Lifecycle, pause, stopRequested, within } from "../../config/lifecycle.ts";

describe("stop", () => {
  test("goes in reverse order, one after the other", async () => {
    const running = new Lifecycle();
    const order: string[] = [];
    for (const name of ["table", "worker", "server"]) {
      running.onStop(async () => {
        order.push(`${name} stops`);
        await Promise.resolve();
        order.push(`${name} stopped`);
      });
    }
    await running.stop();
    expect(order).toEqual(["server stops", "server stopped", "worker stops", "worker stopped", "table stops", "table stopped"]);
  });

  test.each([
    [
      "throws",
      () => {
        throw new Error("broken");
      },
    ],
    ["rejects", () => Promise.reject(new Error("broken"))],
  ])("goes on past one that %s", async (_how, broken) => {
    const running = new Lifecycle();
    const order: string[] = [];
    running.onStop(() => void order.push("first"));
    running.onStop(broken);
    running.onStop(() => void order.push("last"));
    await running.stop();
    expect(order).toEqual(["last", "first"]);
  });

  test("lets as many as there are wait for its signal, and Node.js calls none of them a leak", () => {
    const listen = "for (let count = 0; count < 100; count++) signal.addEventListener('abort', () => undefined)";
    const saidOf = (signal: string): string => {
      const program = `import { Lifecycle } from "./config/lifecycle.ts"; const { signal } = ${signal}; ${listen}`;
      const node = ["--import", "./scripts/typescript.mjs", "--input-type=module", "-e", program];
      const env = { ...process.env, NODE_OPTIONS: "", NODE_NO_WARNINGS: "" }; // which hide them in tests
      return spawnSync(process.execPath, node, { cwd: join(import.meta.dirname, "..", ".."), encoding: "utf8", env }).stderr;
    };
    expect(saidOf("new AbortController()")).toContain("MaxListenersExceededWarning");
    expect(saidOf("new Lifecycle()")).toBe("");
  });

  test("aborts the signal before anything stops", async () => {
    const running = new Lifecycle();
    let aborted: boolean | undefined;
    running.onStop(() => void (aborted = running.signal.aborted));
    expect(running.signal.aborted).toBe(false);
    await running.stop();
    expect(aborted).toBe(true);
  });

  test("done twice, or by two at once, stops each thing once", async () => {
    const running = new Lifecycle();
    let stops = 0;
    running.onStop(() => void stops++);
    await Promise.all([running.stop(), running.stop()]);
    await running.stop();
    expect(stops).toBe(1);
  });

  test("stops what was started while stopping, too", async () => {
    const running = new Lifecycle();
    const order: string[] = [];
    running.onStop(() => {
      running.onStop(() => void order.push("late"));
    });
    await running.stop();
    expect(order).toEqual(["late"]);
  });
});

describe("pause", () => {
  test("waits to its end and says true", async () => {
    expect(await pause(1, new AbortController().signal)).toBe(true);
  });

  test("says false at once where the signal was aborted before", async () => {
    expect(await pause(3_600_000, AbortSignal.abort())).toBe(false);
  });

  test("ends early with false when the signal aborts, and lets go of it", async () => {
    const stopping = new AbortController();
    const waited = pause(3_600_000, stopping.signal);
    stopping.abort();
    expect(await waited).toBe(false);
  });

  test("of more days than a timer can count does not end at once", async () => {
    const stopping = new AbortController();
    const long = pause(30 * 86_400_000, stopping.signal);
    await pause(20, new AbortController().signal); // in which a timer that overflowed has long fired
    stopping.abort();
    expect(await long).toBe(false);
  });
});

test.each(["SIGTERM", "SIGINT"] as const)("%s asks the process to end, once", async (name) => {
  const before = process.listenerCount(name);
  const asked = stopRequested();
  process.emit(name, name);
  expect(await asked).toBe(name);
  expect(process.listenerCount(name)).toBe(before);
  process.removeAllListeners(name === "SIGTERM" ? "SIGINT" : "SIGTERM");
});

describe("several signals", () => {
  test.each([0, 1])("end a pause, whichever aborts (%i), and keep nothing of it", async (which) => {
    const signals = [new AbortController(), new AbortController()] as const;
    const waited = pause(3_600_000, ...signals.map(({ signal }) => signal));
    signals[which]?.abort();
    expect(await waited).toBe(false);
    for (const { signal } of signals) expect(getEventListeners(signal, "abort")).toEqual([]);
  });
});

describe("within a time", () => {
  const untilAborted = (limit: AbortSignal): Promise<never> =>
    new Promise((_resolve, reject) => limit.addEventListener("abort", () => reject(limit.reason as Error)));

  test("work that ends in time gives its answer, and nothing of it stays at the signal", async () => {
    const { signal } = new AbortController();
    expect(await within(3_600_000, signal, async (limit) => limit.aborted)).toBe(false);
    await expect(within(3_600_000, signal, () => Promise.reject(new Error("failed")))).rejects.toThrow("failed");
    expect(getEventListeners(signal, "abort")).toEqual([]);
  });

  test("work that does not is aborted", async () => {
    await expect(within(5, new AbortController().signal, untilAborted)).rejects.toMatchObject({ name: "TimeoutError" });
  });

  test("and so it is when everything stops, or has stopped", async () => {
    const stopping = new AbortController();
    const work = within(3_600_000, stopping.signal, untilAborted);
    stopping.abort(new Error("stopping"));
    await expect(work).rejects.toThrow("stopping");
    expect(await within(3_600_000, stopping.signal, async (limit) => limit.aborted)).toBe(true);
  });
});
