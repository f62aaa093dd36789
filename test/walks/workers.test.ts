/** Gateways of one primary and three workers each: what one process guarantees, whichever worker a client meets, whichever dies. */
import { get } from "node:http";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "@jest/globals";
import { Letters } from "../../gateway/letters.ts";
import { Owners } from "../../gateway/neighbours.ts";
import { FOLDERS } from "../../gateway/status.ts";
import { Happenings } from "../broker/happenings.ts";
import { amend } from "../crash/place.ts";
import { Talk } from "../gateway/talk.ts";
import { freePort } from "../servers/ports.ts";
import { canRunPostfix } from "../servers/postfix.ts";
import { must, type Process } from "./kakitome.ts";
import { ALICE, BOB, CAROL, DAVE, startPlace, untilMail, type Place } from "./place.ts";
import { receiptOf, sendLetter } from "./traffic.ts";

const suite = canRunPostfix ? describe : describe.skip;
if (!canRunPostfix) console.log("skipped: Postfix runs as root only");

const COUNT = 3;
const owner = (address: string): string => String(new Owners([], COUNT).of(address));

/** Process ids by the numbers of the workers, the last one of each. */
const pidsOf = ({ lines }: Process): ReadonlyMap<string, number> =>
  new Map(lines.filter(({ event }) => event === "worker.started").map((line) => [String(line["worker"]), Number(line["pid"])]));
const pidOf = (process: Process, worker: string): number => pidsOf(process).get(worker) ?? 0;
const workersThat = ({ lines }: Process, event: string): string[] =>
  [...new Set(lines.filter((line) => line.event === event).map((line) => String(line["worker"])))].toSorted();

function asked(port: number, path: string): Promise<{ status: number; text: string }> {
  return new Promise((resolve, reject) => {
    get({ host: "127.0.0.1", port, path, agent: false }, (response) => {
      let text = "";
      response.setEncoding("utf8").on("data", (chunk: string) => (text += chunk));
      response.on("end", () => resolve({ status: response.statusCode ?? 0, text }));
    }).on("error", reject);
  });
}

suite("gateways with workers", () => {
  let place: Place;
  let healthPort: number;

  beforeAll(async () => {
    healthPort = await freePort();
    const options = { workers: COUNT, retry: { first: "200ms", longest: "1s" } };
    const a = { ...options, health: { listen: `127.0.0.1:${healthPort}` } };
    place = await startPlace({ a, b: options, recipients: [BOB, CAROL, DAVE] });
    amend(place.a.config, (file) => Object.assign(file["submission"] as object, { trustedNetworks: ["127.0.0.0/8"] }));
    await place.a.restart();
  }, 90_000);
  afterAll(() => place?.stop());

  /** As a mail client does it: while a worker starts again, letters of its senders are put off. */
  async function sentAtLast(): Promise<string> {
    for (;;) {
      try {
        return await sendLetter({ from: ALICE, to: DAVE, by: place.a });
      } catch (thrown) {
        if (!/<[~*-]\*? +4\d\d |Remote host closed|Connection refused/u.test(String(thrown))) throw thrown;
      }
    }
  }

  async function begin(talk: Talk): Promise<void> {
    for (const command of ["EHLO client.example", `MAIL FROM:<${ALICE}>`, `RCPT TO:<${BOB}>`])
      expect(await talk.say(command)).toMatch(/^250/u);
    expect(await talk.say("DATA")).toMatch(/^354 /u);
  }

  test("the mailboxes are divided: each is watched by the worker that it belongs to, which opens its letters", async () => {
    expect(new Set([BOB, CAROL].map(owner)).size).toBe(2);
    for (const to of [BOB, CAROL, DAVE]) {
      const id = await sendLetter({ from: ALICE, to, by: place.a });
      await receiptOf(place, id);
      const filed = await place.b.process.until("filing", (line) => line.event === "letter.confirmed" && line["worker"] === owner(to));
      expect(filed).toMatchObject({ worker: owner(to) });
    }
    for (const { event, mailbox, worker } of place.b.process.lines as readonly Record<string, unknown>[])
      if (event === "mailbox.watched") expect([mailbox, worker]).toEqual([mailbox, owner(String(mailbox))]);
    expect(workersThat(place.a.process, "letter.accepted")).toEqual([owner(ALICE)]);
    expect(workersThat(place.a.process, "submission.listening")).toEqual(["1", "2", "3"]);
  }, 60_000);

  test("a client that meets another worker is answered when the sender's has the letter on its disk, and once, however often it comes", async () => {
    const stopped = pidOf(place.a.process, owner(ALICE));
    const accepted = (event: string): number => place.a.process.lines.filter((line) => line.event === event).length;
    const before = accepted("letter.accepted");
    process.kill(stopped, "SIGSTOP");
    const mail = (at: number): string =>
      `From: ${ALICE}\r\nTo: ${BOB}\r\nMessage-ID: <divided-${at % 2}@a.example>\r\n\r\nText ${at % 2}.\r\n.\r\n`;
    const given = new Happenings<number>();
    const answers = Array.from({ length: COUNT }, async (_none, at) => {
      const talk = await Talk.open(place.a.smtpPort); // the stopped one's comes last
      await begin(talk);
      talk.write(mail(at));
      given.add(at);
      const answer = await talk.hear();
      talk.close();
      return answer;
    });
    await given.until(() => true, COUNT - 1);
    expect(accepted("letter.accepted")).toBe(before);
    process.kill(stopped, "SIGCONT");
    for (const answer of await Promise.all(answers)) expect(answer).toMatch(/^250 2\.0\.0 Accepted as /u);
    for (const at of [0, 1]) await receiptOf(place, `<divided-${at}@a.example>`);
    expect([accepted("letter.accepted"), accepted("letter.accepted-before")]).toEqual([before + 2, 1]);
  }, 60_000);

  test("a letter of twenty megabytes goes from worker to worker as well", async () => {
    const talks = await Promise.all(Array.from({ length: COUNT }, () => Talk.open(place.a.smtpPort)));
    const line = `${"registered ".repeat(6)}\r\n`;
    const [text, ids] = [line.repeat(Math.ceil(20e6 / line.length)), talks.map((_talk, at) => `<large-${at}@a.example>`)];
    const answers = talks.map(async (talk, at) => {
      await begin(talk);
      talk.write(`From: ${ALICE}\r\nTo: ${BOB}\r\nMessage-ID: ${ids[at]}\r\n\r\n${text}.\r\n`);
      const answer = await talk.hear();
      talk.close();
      return answer;
    });
    for (const answer of await Promise.all(answers)) expect(answer).toMatch(/^250 2\.0\.0 Accepted as /u);
    for (const id of ids) await receiptOf(place, id);
  }, 60_000);

  test("health and metrics speak of all of it", async () => {
    expect((await asked(healthPort, "/readyz")).status).toBe(200);
    const { text } = await asked(healthPort, "/metrics");
    expect(text).toContain("kakitome_workers_ended_total 0\n");
    expect(text).toContain("kakitome_spool_letters 0\n");
    const accepted = place.a.process.lines.filter(({ event }) => event === "letter.accepted").length;
    expect(text).toContain(`kakitome_letters_sent_total{state="accepted"} ${accepted}\n`);
    expect(text).toContain('kakitome_watchers{state="connected"} 1\n');
  });

  test("a worker that is killed is named, starts again, and goes on with what its former life accepted", async () => {
    const from = place.a.process.lines.length;
    const ids: string[] = [];
    for (let at = 0; at < 6; at++) {
      ids.push(await sentAtLast());
      if (at % 2 === 0) process.kill(pidOf(place.a.process, owner(ALICE)), "SIGKILL");
    }
    for (const id of ids) await receiptOf(place, id);
    const opened = await untilMail(place, DAVE, (mail) => ids.some((id) => mail.includes(id)), { count: ids.length });
    expect(opened).toHaveLength(ids.length);
    const ended = place.a.process.lines.slice(from).filter(({ event }) => event === "worker.ended");
    expect(ended.map(({ worker, how }) => [worker, how])).toEqual([0, 1, 2].map(() => [owner(ALICE), "by SIGKILL"]));
    expect((await asked(healthPort, "/metrics")).text).toContain("kakitome_workers_ended_total 3\n");
    const register = new Letters(join(place.a.data, FOLDERS.letters));
    const states = async () => (await register.all()).flatMap(({ recipients }) => recipients.map(({ state }) => state));
    while ((await states()).some((state) => state !== "opened")); // a receipt is in the mailbox before it is in the register
  }, 120_000);

  test("a reload reaches every worker", async () => {
    amend(place.a.config, (file) => Object.assign(file, { policy: { rules: { "b.example": { action: "refuse" } } } }));
    expect(must(["reload", "--config", place.a.config])).toMatch(/^Counts now: policy\.\S+\n$/u);
    for (let at = 0; at < COUNT; at++) {
      const talk = await Talk.open(place.a.smtpPort);
      for (const command of ["EHLO client.example", `MAIL FROM:<${ALICE}>`]) expect(await talk.say(command)).toMatch(/^250/u);
      expect(await talk.say(`RCPT TO:<${BOB}>`)).toMatch(/^550 5\.7\.1 The policy of this gateway/u);
      talk.close();
    }
    amend(place.a.config, (file) => Reflect.deleteProperty(file, "policy"));
    must(["reload", "--config", place.a.config]);
  });

  test("SIGTERM to all of its processes lets the letter be accepted that is coming in, and leaves none of them", async () => {
    const talk = await Talk.open(place.a.smtpPort);
    await begin(talk);
    talk.write(Buffer.from(`From: ${ALICE}\r\nTo: ${BOB}\r\nMessage-ID: <last@a.example>\r\n\r\n`));
    const { process: primary } = place.a;
    const pids = [primary.pid, ...pidsOf(primary).values()];
    for (const pid of pids) process.kill(pid, "SIGTERM");
    await new Promise((resolve) => setImmediate(resolve));
    talk.write(Buffer.from("Text.\r\n.\r\n"));
    expect(await talk.hear()).toMatch(/^250 2\.0\.0 Accepted as /u);
    talk.close();
    expect(await primary.ended).toBe(0);
    for (const pid of pids) expect(() => process.kill(pid, 0)).toThrow("ESRCH");
    await place.a.restart();
    await receiptOf(place, "<last@a.example>");
  }, 60_000);

  test("workers end with their primary, and the next one waits for them", async () => {
    const { process: primary } = place.a;
    const pids = [...pidsOf(primary).values()];
    await primary.stop("SIGKILL");
    await place.a.restart();
    for (const pid of pids) expect(() => process.kill(pid, 0)).toThrow("ESRCH");
    await receiptOf(place, await sendLetter({ from: ALICE, to: CAROL, by: place.a }));
  }, 60_000);
});
