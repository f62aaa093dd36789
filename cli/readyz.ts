/** `kakitome readyz`: whether a running broker or gateway can do its work. Exit code 0: ready; 3: it runs but is not ready; 4: nobody answers; 1: no such question can be asked. */
import type { Command } from "commander";
import { setTimeout as pause } from "node:timers/promises";
import { askReadiness, type HealthPlace, type Readiness } from "../config/health.ts";
import { Fault } from "../mime/fault.ts";
import { waitOf } from "./given.ts";
import { asEither } from "./service.ts";

const NOT_READY = 3;
const NO_ANSWER = 4;
const ASK_EVERY_MS = 500;
const LONGEST_ANSWER_MS = 10_000;

type Asked = Readiness | Fault;

export function addReadyz(program: Command): void {
  program
    .command("readyz")
    .description("whether the running process can do its work; exit 0: ready, 3: not ready, 4: nobody answers")
    .requiredOption("--config <file>", "broker.yaml or gateway.yaml")
    .option("--wait <time>", "ask again until it is ready, so long at the most", "0s")
    .option("--json", "what /readyz answers")
    .action(async ({ config: file, wait, json }: { config: string; wait: string; json?: boolean }) => {
      const { health } = asEither(file).config;
      if (!health) {
        const advice = `${file} has no health listener: write health: { listen: "127.0.0.1:9464" } and restart`;
        throw new Fault("malformed", advice, { advice });
      }
      const asked = await untilReady(health, waitOf(wait));
      if (json) console.log(JSON.stringify(asked instanceof Fault ? { ready: false, reason: asked.advice } : asked, null, 2));
      else if (asked instanceof Fault) console.error(`kakitome: ${asked.advice}`);
      else
        for (const { name, of, ready, reason } of asked.dependencies)
          console.log(`${ready ? "✓" : "✗"} ${of ? `${name} ${of}` : name}: ${reason}`);
      process.exitCode = asked instanceof Fault ? NO_ANSWER : asked.ready ? 0 : NOT_READY;
    });
}

async function untilReady(place: HealthPlace, wait: number): Promise<Asked> {
  const end = performance.now() + wait;
  for (;;) {
    const asked = await askReadiness(place, AbortSignal.timeout(LONGEST_ANSWER_MS)).catch((thrown: unknown) => Fault.from(thrown));
    if ((!(asked instanceof Fault) && asked.ready) || performance.now() >= end) return asked;
    await pause(ASK_EVERY_MS);
  }
}
