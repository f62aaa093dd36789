/** A worker process: it takes letters in, and walks with those of its senders and for its mailboxes. What is to be done once the primary does. */
import { Lifecycle } from "../config/lifecycle.ts";
import type { Answers } from "../config/line.ts";
import { lockForWorker } from "../config/lock.ts";
import type { Log } from "../config/log.ts";
import { Metrics } from "../config/metrics.ts";
import { runWorker as run, type Bench } from "../config/worker.ts";
import { Fault } from "../mime/fault.ts";
import { Desk } from "./desk.ts";
import type { Doors } from "./doors.ts";
import { Identities } from "./identities.ts";
import { openChannel, type OpenChannel } from "./identity.ts";
import { Owners, type Neighbours } from "./neighbours.ts";
import type { ToPrimary, ToWorker, WorkerNews } from "./worker-talk.ts";

/** A letter may wait for a broker and a disk; its client waits ten minutes (RFC 5321 §4.5.3.2.6). */
export const CONSIGNED_WITHIN_MS = 5 * 60_000;

/** Works until the primary says stop, or ends: without it nobody keeps the data folder. */
export function runWorker(writtenTo: Log): void {
  run<ToPrimary, ToWorker, WorkerNews>(writtenTo, answersOf, (facts) => facts);
}

/** What a worker has opened. */
interface Opened {
  readonly channel: OpenChannel;
  readonly identities: Identities;
  readonly desk: Desk;
}

function answersOf({ number, log, news, line }: Bench<ToPrimary, WorkerNews>): Answers<ToWorker> {
  const running = new Lifecycle();
  const metrics = new Metrics();
  const now = (): Date => new Date();
  let opened: Opened | undefined;
  let take: (() => void) | undefined;
  const open = (): Opened => {
    if (!opened) throw new Fault("unavailable", "the worker has not started");
    return opened;
  };
  const doors = (): Doors => {
    const { desk } = open();
    if (!desk.doors) throw new Fault("internal", "a letter for a gateway that only receives");
    return desk.doors;
  };
  return {
    async start(config) {
      try {
        running.onStop(lockForWorker(config.data, number));
        const owners = new Owners(config.mailboxes, config.workers);
        const neighbours: Neighbours = {
          count: config.workers,
          isOurs: (address) => owners.of(address) === number,
          consign: (submission) => line().ask("consign", submission, CONSIGNED_WITHIN_MS),
          passOn: (transit) => line().ask("passOn", transit, CONSIGNED_WITHIN_MS),
          add: (letter) => line().ask("add", letter),
          change: (...change) => line().ask("change", change),
        };
        const channel = await openChannel(config, log, now);
        const { broker, revocations } = channel;
        running.onStop(() => broker.close());
        const refreshing = revocations.keepFresh(broker, config.broker.revocations, running.signal);
        running.onStop(() => refreshing);
        const identities = new Identities(config, log);
        const desk = new Desk(config, { broker, identities, neighbours, log, now });
        opened = { channel, identities, desk };
        await identities.follow();
        await desk.open(running);
        desk.watch(running);
        return { ports: desk.doors?.ports ?? [] };
      } catch (thrown) {
        await running.stop();
        throw thrown;
      }
    },
    async read(config) {
      take = open().desk.read(config);
    },
    async take(isTaken) {
      if (isTaken) take?.();
      take = undefined;
    },
    async renewed({ mailboxes, channel: isChannel }) {
      const { channel, identities } = open();
      if (isChannel) await channel.follow();
      await identities.follow(mailboxes);
    },
    consign: async (submission) => doors().here.consign(submission),
    passOn: async (transit) => doors().here.passOn(transit),
    add: async (letter) => open().desk.letters.add(letter),
    change: async (change) => open().desk.letters.change(...change),
    waiting: async () => opened?.desk.doors?.relay.waiting ?? { letters: 0, oldest: undefined },
    attends: async () => undefined,
    figures: () => metrics.figures(),
    close: async () => opened?.desk.doors?.close(),
    async stop() {
      await running.stop();
      news.flush();
    },
  };
}
