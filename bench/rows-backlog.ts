/** The row of a full mailbox: everything in it is opened, filed, confirmed and put away, against a client that only copies. */
import { work } from "./child.ts";
import { openInbox, PASSWORD, putInto, startReceiving, type ReceivingGateway, type ReceivingPlace } from "./receiving.ts";
import { resident } from "./resident.ts";
import type { Figure, Row, Sides, Wishes } from "./row.ts";
import type { Sealed } from "./sealed.ts";

const [BOB, CAROL] = ["bob@b.example", "carol@b.example"] as const;
const [COUNT, FEW] = [2_000, 400];
const OCTETS = 2_048;
const WITHIN_MS = 10 * 60_000;

/** From the moment that the gateway has the mailbox open until the last letter is confirmed. */
async function open(place: ReceivingPlace, gateway: ReceivingGateway, letters: readonly Sealed[]): Promise<Figure> {
  place.dovecot.doveadm("expunge", "-u", BOB, "mailbox", "INBOX", "all");
  putInto(place, BOB, letters);
  const running = await gateway.start();
  const from = performance.now();
  let confirmed = 0;
  await running.until("the last letter", ({ event }) => event === "letter.confirmed" && ++confirmed === letters.length, WITHIN_MS);
  const figure = { value: letters.length / ((performance.now() - from) / 1_000), memory: resident(running.pid, "VmHWM") };
  await running.stop();
  return figure;
}

async function prepare({ isQuick }: Wishes): Promise<Sides> {
  const place = await startReceiving([BOB, CAROL]);
  const gateway = place.gateway("b", [BOB]);
  await (await gateway.start()).stop(); // enrolled from here on
  const fresh = (): Promise<Sealed[]> => place.letters(BOB, { count: isQuick ? FEW : COUNT, octets: OCTETS });
  let [next]: [Sealed[] | undefined] = [await fresh()];
  (await openInbox(place, CAROL)).close(); // Dovecot makes the folder
  putInto(place, CAROL, next ?? []);
  return {
    async ours() {
      const letters = next ?? (await fresh());
      next = undefined; // opened once
      return open(place, gateway, letters);
    },
    peer: () => work("copy.ts", String(place.dovecot.imapsPort), place.dovecot.ca, CAROL, PASSWORD),
    stop: () => place.stop(),
  };
}

export const backlog: Row = {
  name: "backlog",
  what: "2,000 letters of 2 KB in one mailbox, opened and confirmed",
  peer: "imapflow: fetch and append to another folder",
  unit: "letters/s",
  goal: { atLeast: 0.5 },
  mostRuns: 3,
  prepare,
};
