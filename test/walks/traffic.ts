/** Letters through a gateway's door, one after the other for as long as it is wanted, and what came of each of them. */
import { spawn } from "node:child_process";
import { randomBytes } from "node:crypto";
import { Happenings } from "../broker/happenings.ts";
import { must } from "./kakitome.ts";
import { ALICE, BOB, passwordOf, untilMail, type Gateway, type Place } from "./place.ts";

/** Who writes to whom, through which gateway. */
export interface Route {
  readonly from: string;
  readonly to: string;
  readonly by: Gateway;
}

/** Sends one letter. @returns its Message-ID @throws what the door said, where it did not accept it */
export async function sendLetter({ from, to, by }: Route): Promise<string> {
  const id = `<${randomBytes(8).toString("hex")}@${from.split("@")[1]}>`;
  const auth = ["--auth", "PLAIN", "--auth-user", from, "--auth-password", passwordOf(from), "-tls"];
  const server = ["--server", "127.0.0.1", "--port", String(by.smtpPort), "--from", from, "--to", to];
  const child = spawn("swaks", [...server, ...auth, "--header", `Message-Id: ${id}`], { stdio: ["ignore", "pipe", "inherit"] });
  let said = "";
  child.stdout.setEncoding("utf8").on("data", (text: string) => (said += text));
  const status = await new Promise((resolve) => child.once("close", resolve));
  if (status !== 0 || !said.includes("250 2.0.0 Accepted")) throw new Error(`not accepted (${String(status)}):\n${said}`);
  return id;
}

/** The receipt or report about a letter, once its sender has it. */
export async function receiptOf(place: Place, id: string, sender = ALICE): Promise<Buffer> {
  const isAbout = (mail: Buffer): boolean => mail.includes("multipart/report") && mail.includes(`In-Reply-To: ${id}`);
  const [mail] = await untilMail(place, sender, isAbout);
  return mail ?? Buffer.alloc(0);
}

/** Letters from Alice to Bob that go on while something is done. */
export class Traffic {
  readonly #place: Place;
  readonly #accepted = new Happenings<string>();
  readonly #done: Promise<void>;
  #isWanted = true;

  constructor(place: Place) {
    this.#place = place;
    this.#done = this.#send();
    this.#done.catch(() => undefined); // who waits for more, or for the end, hears it
  }

  async #send(): Promise<void> {
    while (this.#isWanted) this.#accepted.add(await sendLetter({ from: ALICE, to: BOB, by: this.#place.a }));
  }

  /** Resolves when that many more were accepted. */
  async more(count: number): Promise<void> {
    await Promise.race([this.#accepted.until(() => true, this.#accepted.all.length + count), this.#done]);
  }

  /** Ends it and waits for the receipt of every letter. @returns their Message-IDs */
  async settle(): Promise<readonly string[]> {
    this.#isWanted = false;
    await this.#done;
    for (const id of this.#accepted.all) await receiptOf(this.#place, id);
    return this.#accepted.all;
  }
}

/** The states of the letters that a gateway sent, by their Message-ID. */
export function statesAt({ config }: Gateway): Map<string, string> {
  const { sent } = JSON.parse(must(["status", "--config", config, "--json"])) as {
    sent: { messageId: string; recipients: { state: string }[] }[];
  };
  return new Map(sent.map(({ messageId, recipients }) => [messageId, recipients.map(({ state }) => state).join(" ")]));
}
