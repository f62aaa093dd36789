/** SIGHUP at a process whose data folder takes no file: it says so and works on. */
import { mkdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { expect, test } from "@jest/globals";
import { reloadOnHangup } from "../../config/reload.ts";
import { heardLog } from "../broker/happenings.ts";
import { temporaryFolder } from "../servers/process.ts";

const nothing = async () => ({ changed: [], restart: [] });

test("a process whose number cannot be written goes on without, and the former one's number does not stay", async () => {
  const data = await temporaryFolder("reload");
  writeFileSync(join(data, "pid"), "123456");
  mkdirSync(join(data, "pid.tmp")); // as a full disk, it takes nothing
  const { log, lines } = heardLog();
  const end = reloadOnHangup(data, log, Promise.resolve(), nothing);
  const [said] = await lines.until(({ event }) => event === "config.pid-not-kept");
  expect(said).toMatchObject({ level: "error", reason: expect.stringContaining("EISDIR") });
  expect(() => readFileSync(join(data, "pid"))).toThrow("ENOENT");
  rmSync(join(data, "pid.tmp"), { recursive: true });
  end();
});
