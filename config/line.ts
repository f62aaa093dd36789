/** Between the primary process and a worker: questions that are answered, either way, and news that need no answer (Node.js IPC). */
import { Fault, type FaultCode } from "../mime/fault.ts";

/** What one side asks the other, by name. */
export type Questions = Readonly<Record<string, { readonly about: unknown; readonly answer: unknown }>>;

/** How a side answers each question that it may be asked. @throws whatever the other side is to be told */
export type Answers<Asked extends Questions> = {
  readonly [Name in keyof Asked]: (about: Asked[Name]["about"]) => Promise<Asked[Name]["answer"]>;
};

/** A process on the other side: of `node:process` and of a worker as node:cluster gives it. */
export interface Peer {
  send?(message: Message, sendHandle: undefined, options: undefined, sent: (error: Error | null) => void): unknown;
  on(event: "message", heard: (message: Message) => void): unknown;
}

type Message =
  | { readonly kind: "question"; readonly number: number; readonly name: string; readonly about: unknown }
  | { readonly kind: "answer"; readonly number: number; readonly answer: unknown }
  | {
      readonly kind: "fault";
      readonly number: number;
      readonly code: FaultCode;
      readonly message: string;
      readonly advice: string | undefined;
    }
  | { readonly kind: "news"; readonly news: unknown };

interface Waiting {
  resolve(answer: unknown): void;
  reject(fault: Fault): void;
}

/** A question takes no longer; whoever does not answer is taken for dead. */
const ANSWERED_WITHIN_MS = 10_000;

/** One side of it. */
export class Line<Asks extends Questions, Asked extends Questions, News> {
  readonly #peer: Peer;
  readonly #waiting = new Map<number, Waiting>();
  #asked = 0;
  #isClosed = false;

  /** @param heard is told the other side's news, in their order */
  constructor(peer: Peer, answers: Answers<Asked>, heard: (news: News) => void) {
    this.#peer = peer;
    peer.on("message", (message) => {
      if (message.kind === "news") heard(message.news as News);
      else if (message.kind === "question") void this.#answer(answers, message);
      else this.#answered(message);
    });
  }

  /** @throws Fault what the other side threw; `unavailable`: it has ended or does not answer in time */
  async ask<Name extends keyof Asks & string>(
    name: Name,
    about: Asks[Name]["about"],
    within = ANSWERED_WITHIN_MS,
  ): Promise<Asks[Name]["answer"]> {
    const number = ++this.#asked;
    let late: NodeJS.Timeout | undefined;
    try {
      return await new Promise<unknown>((resolve, reject: (fault: Fault) => void) => {
        if (this.#isClosed) return reject(ended());
        this.#waiting.set(number, { resolve, reject });
        late = setTimeout(() => reject(new Fault("unavailable", `no answer to "${name}" within ${within} ms`)), within);
        this.#send({ kind: "question", number, name, about });
      });
    } finally {
      clearTimeout(late);
      this.#waiting.delete(number);
    }
  }

  tell(news: unknown): void {
    this.#send({ kind: "news", news });
  }

  /** The other side has ended: whoever waits for it learns it. */
  close(): void {
    this.#isClosed = true;
    for (const { reject } of this.#waiting.values()) reject(ended());
  }

  async #answer(answers: Answers<Asked>, { number, name, about }: Message & { kind: "question" }): Promise<void> {
    try {
      this.#send({ kind: "answer", number, answer: await answers[name as keyof Asked](about) });
    } catch (thrown) {
      const { code, message, advice } = Fault.from(thrown);
      this.#send({ kind: "fault", number, code, message, advice });
    }
  }

  #answered(message: Message & { kind: "answer" | "fault" }): void {
    const waiting = this.#waiting.get(message.number);
    if (message.kind === "answer") waiting?.resolve(message.answer);
    else waiting?.reject(new Fault(message.code, message.message, message.advice === undefined ? {} : { advice: message.advice }));
  }

  /** What does not reach a process that has ended is as if it had ended before. */
  #send(message: Message): void {
    this.#peer.send?.(message, undefined, undefined, () => undefined);
  }
}

/** For whoever waits for it at a door. */
export const ADVICE = { advice: "A process of this server is starting again; try again later." };
const ended = (): Fault => new Fault("unavailable", "the process has ended", ADVICE);
