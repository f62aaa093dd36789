/** Reads what strace wrote (-f -yy): system calls with the lines at which they began and ended, across threads. */

export interface Call {
  readonly name: string;
  /** Its arguments as strace shows them. */
  readonly args: string;
  readonly result: number;
  /** Line numbers: a call that ended at a smaller one than another began was over before it. */
  readonly began: number;
  readonly ended: number;
}

const WHOLE = /^(\d+)\s+[\d.]+ (\w+)\((.*)\)\s+= (-?\d+)/u;
const UNFINISHED = /^(\d+)\s+[\d.]+ (\w+)\((.*) <unfinished \.\.\.>$/u;
const RESUMED = /^(\d+)\s+[\d.]+ <\.\.\. (\w+) resumed>(.*)\)\s+= (-?\d+)/u;

/** Calls in the order in which they ended. */
export function callsIn(trace: string): Call[] {
  const calls: Call[] = [];
  const open = new Map<string, { args: string; began: number }>();
  trace.split("\n").forEach((line, at) => {
    const [, thread = "", name = "", args = "", result] = WHOLE.exec(line) ?? RESUMED.exec(line) ?? UNFINISHED.exec(line) ?? [];
    if (name === "") return;
    const key = `${thread} ${name}`;
    if (result === undefined) {
      open.set(key, { args, began: at });
      return;
    }
    const before = line.includes(" resumed>") ? open.get(key) : undefined;
    open.delete(key);
    calls.push({ name, args: `${before?.args ?? ""}${args}`, result: Number(result), began: before?.began ?? at, ended: at });
  });
  return calls;
}

const READS: ReadonlySet<string> = new Set(["read", "readv", "recvmsg"]);
const WRITES: ReadonlySet<string> = new Set(["write", "writev", "sendmsg"]);

/** The two ways of a connection: calls that moved octets, with how many had gone that way when they ended. */
export class Line {
  readonly #reads: (Call & { sum: number })[];
  readonly #writes: (Call & { sum: number })[];

  /** @param port of the peer */
  constructor(calls: readonly Call[], port: number) {
    const ours = calls.filter(({ args, result }) => result > 0 && args.slice(0, 120).includes(`:${port}]`));
    this.#reads = summed(ours.filter(({ name }) => READS.has(name)));
    this.#writes = summed(ours.filter(({ name }) => WRITES.has(name)));
  }

  /** The call that read the octet of this number, counted from one. */
  readOf(octet: number): Call {
    return found(this.#reads, octet, "read");
  }

  /** The call that wrote the octet of this number, counted from one. */
  writeOf(octet: number): Call {
    return found(this.#writes, octet, "written");
  }
}

function summed(calls: readonly Call[]): (Call & { sum: number })[] {
  let sum = 0;
  return calls.map((call) => ({ ...call, sum: (sum += call.result) }));
}

function found(calls: readonly (Call & { sum: number })[], octet: number, what: string): Call {
  const call = calls.find(({ sum }) => sum >= octet);
  if (!call) throw new Error(`the trace does not show that octet ${octet} was ${what}`);
  return call;
}
