/** Rows of the outbound walk: AUTH, sign, declare, seal, spool, relay, each on this machine, against relays that only relay. */
import { one, send, timeFresh } from "./load.ts";
import { plainRelay } from "./peer-plain.ts";
import { postfixFilter, postfixRelay, type Relay } from "./peer-postfix.ts";
import { startSending, type SendingPlace } from "./place.ts";
import { resident } from "./resident.ts";
import { median, type Figure, type Row, type Sides } from "./row.ts";

const CONNECTIONS = 10;
const WARM = 2_000;
const COUNT = 600;
const SINGLE = 40;
/** Through a content filter, which starts processes for every letter. */
const FILTERED = 100;
/** Each belongs to one worker. */
const SENDERS = 10;

type Sending = Pick<Relay, "sink" | "target"> & Partial<Pick<SendingPlace, "targets" | "trusted">>;

/** Letters a second, from the first MAIL until the next hop has the last one. */
async function rate({ sink, target, targets = [target] }: Sending, octets: number, count = COUNT): Promise<Figure> {
  const wanted = sink.count() + count;
  const from = performance.now();
  await send(targets, octets, count, CONNECTIONS);
  await sink.until(wanted);
  return { value: count / ((performance.now() - from) / 1_000) };
}

/** One letter after the other on a kept connection, the final dot to 250. */
async function latency({ target }: Pick<Relay, "target">): Promise<Figure> {
  const times: number[] = [];
  const talk = await target.connect();
  for (let at = 0; at < SINGLE; at++) times.push(await one(talk, target, 2_048));
  talk.close();
  return { value: median(times) };
}

/** One letter after the other, each on a connection of its own, which is timed too. */
const fresh =
  (of: "target" | "trusted") =>
  async (relay: Sending): Promise<Figure> => {
    const times: number[] = [];
    for (let at = 0; at < SINGLE; at++) times.push(await timeFresh(relay[of] ?? relay.target, 2_048));
    return { value: median(times) };
  };

type Measure = (relay: Sending) => Promise<Figure>;

const against =
  (peerOf: () => Promise<Relay>, figure: Measure, ofPeer = figure) =>
  async (): Promise<Sides> => {
    const [ours, peer] = [await startSending(), await peerOf()];
    await Promise.all([rate(ours, 2_048, WARM), rate(peer, 2_048, figure === ofPeer ? WARM : 10)]);
    return {
      ours: async () => ({ ...(await figure(ours)), memory: resident(ours.pid, "VmHWM") }),
      peer: () => ofPeer(peer),
      async stop() {
        await ours.stop();
        await peer.stop();
      },
    };
  };

/** Both with as many senders, whom the workers share. */
async function twoWorkersAgainstOne(): Promise<Sides> {
  const [many, few] = [await startSending({ senders: SENDERS, workers: 2 }), await startSending({ senders: SENDERS, workers: 1 })];
  for (const place of [many, few]) await rate(place, 2_048, WARM);
  return {
    ours: () => rate(many, 2_048),
    peer: () => rate(few, 2_048),
    async stop() {
      await many.stop();
      await few.stop();
    },
  };
}

export const outbound: readonly Row[] = [
  {
    name: "outbound-2k",
    what: "outbound walk, 2 KB, 10 connections",
    peer: "Postfix as plain relay",
    unit: "letters/s",
    goal: { atLeast: 1 },
    prepare: against(postfixRelay, (relay) => rate(relay, 2_048)),
  },
  {
    name: "outbound-100k",
    what: "the same, 100 KB",
    peer: "Postfix as plain relay",
    unit: "letters/s",
    goal: { atLeast: 0.8 },
    prepare: against(postfixRelay, (relay) => rate(relay, 100_000)),
  },
  {
    name: "outbound-filter",
    what: "outbound walk, 2 KB, 10 connections",
    peer: "Postfix, openssl cms as its content filter",
    unit: "letters/s",
    goal: { atLeast: 10 },
    prepare: against(
      postfixFilter,
      (relay) => rate(relay, 2_048),
      (relay) => rate(relay, 2_048, FILTERED),
    ),
  },
  {
    name: "gateway-workers",
    what: "outbound walk, 2 KB, 10 senders, a gateway of two worker processes",
    peer: "a gateway of one process",
    unit: "letters/s",
    goal: { atLeast: 1.3 },
    prepare: twoWorkersAgainstOne,
  },
  {
    name: "latency",
    what: "one letter on a kept connection, idle system, final dot to 250",
    peer: "smtp-server and nodemailer as plain relay, the same syncs",
    unit: "ms",
    goal: { atMost: 2.5 },
    prepare: against(plainRelay, latency),
  },
  {
    name: "fresh",
    what: "a letter on a fresh connection in the clear, from a trusted network",
    peer: "Postfix as plain relay, the same",
    unit: "ms",
    goal: { atMost: 3 },
    prepare: against(postfixRelay, fresh("trusted")),
  },
  {
    name: "fresh-tls",
    what: "a letter on a fresh connection, ours with TLS and AUTH",
    peer: "Postfix as plain relay, in the clear",
    unit: "ms",
    isExtra: true,
    prepare: against(postfixRelay, fresh("target")),
  },
];
