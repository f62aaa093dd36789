/** Rows of the outbound walk: AUTH, sign, declare, seal, spool, relay, each on this machine, against relays that only relay. */
import { Talk } from "../test/gateway/talk.ts";
import { startPostfix } from "../test/servers/postfix.ts";
import { send, timeFresh, timeOne, type Target } from "./load.ts";
import { startSending } from "./place.ts";
import { median, type Figure, type Row, type Sides } from "./row.ts";
import { startSink, type Sink } from "./sink.ts";

const CONNECTIONS = 10;
const WARM = 300;
const COUNT = 600;
const SINGLE = 40;

interface Relay {
  readonly sink: Sink;
  readonly target: Target;
  stop(): Promise<void>;
}

/** A Postfix that hands everything to a sink. @param settings lines of main.cf */
async function postfixRelay(settings: Record<string, string> = {}): Promise<Relay> {
  const sink = await startSink();
  const postfix = await startPostfix({ domains: ["b.example"], transport: `smtp:[127.0.0.1]:${sink.port}`, settings });
  return {
    sink,
    target: {
      from: "alice@a.example",
      to: "bob@b.example",
      async connect() {
        const talk = await Talk.open(postfix.port);
        await talk.say("EHLO client.a.example");
        return talk;
      },
    },
    async stop() {
      await postfix.stop();
      await sink.stop();
    },
  };
}

/** Letters a second, from the first MAIL until the next hop has the last one. */
async function rate({ sink, target }: Pick<Relay, "sink" | "target">, octets: number, count = COUNT): Promise<Figure> {
  const wanted = sink.count() + count;
  const from = performance.now();
  await send(target, octets, count, CONNECTIONS);
  await sink.until(wanted);
  return { value: count / ((performance.now() - from) / 1_000) };
}

async function latency({ target }: Pick<Relay, "target">, isFresh: boolean): Promise<Figure> {
  const times: number[] = [];
  const talk = await target.connect();
  for (let at = 0; at < SINGLE; at++) times.push(isFresh ? await timeFresh(target, 2_048) : await timeOne(talk, target, 2_048));
  talk.close();
  return { value: median(times) };
}

const against =
  (peerOf: () => Promise<Relay>, figure: (relay: Pick<Relay, "sink" | "target">) => Promise<Figure>) => async (): Promise<Sides> => {
    const [ours, peer] = [await startSending(), await peerOf()];
    await Promise.all([ours, peer].map(({ sink, target }) => rate({ sink, target }, 2_048, WARM)));
    return {
      ours: () => figure(ours),
      peer: () => figure(peer),
      async stop() {
        await ours.stop();
        await peer.stop();
      },
    };
  };

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
    name: "latency",
    what: "one letter on a kept connection, idle system",
    peer: "Postfix as plain relay",
    unit: "ms",
    goal: { atMost: 2.5 },
    prepare: against(postfixRelay, (relay) => latency(relay, false)),
  },
  {
    name: "fresh",
    what: "a letter on a fresh connection, TLS and AUTH ours",
    peer: "Postfix, in the clear",
    unit: "ms",
    goal: { atMost: 3 },
    prepare: against(postfixRelay, (relay) => latency(relay, true)),
  },
];
