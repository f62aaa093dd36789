/** Talks SMTP lines to a door, as a mail client would or as none should. */
import { once } from "node:events";
import { connect, isIP, type Socket } from "node:net";
import { connect as connectTls } from "node:tls";

export class Talk {
  #socket: Socket;
  readonly #wire: Socket;
  #heard = "";
  #closed = false;
  #look: () => void = () => undefined;

  private constructor(socket: Socket) {
    this.#socket = socket;
    this.#wire = socket;
    this.#listen();
  }

  /** Our port, and the octets that went either way on the wire, those of TLS included. */
  get wire(): { port: number; heard: number; said: number } {
    const { localPort = 0, bytesRead, bytesWritten } = this.#wire;
    return { port: localPort, heard: bytesRead, said: bytesWritten };
  }

  /** Resolves when the other side has ended the connection. */
  async ended(): Promise<void> {
    if (!this.#closed) await once(this.#socket, "close");
  }

  /** Connects in the clear. @returns after the greeting, which `greeting` keeps */
  static async open(port: number): Promise<Talk> {
    const talk = new Talk(connect(port, "127.0.0.1"));
    talk.greeting = await talk.hear();
    return talk;
  }

  /** Connects with TLS from the first octet. @param from our own address */
  static async openTls(port: number, ca: string, from = "127.0.0.1"): Promise<Talk> {
    const socket = connect({ port, host: "127.0.0.1", localAddress: from });
    const talk = new Talk(connectTls({ socket, host: "127.0.0.1", ca }));
    talk.greeting = await talk.hear();
    return talk;
  }

  greeting = "";

  /** Says one line. @returns the whole reply */
  async say(line: string): Promise<string> {
    this.write(`${line}\r\n`);
    return this.hear();
  }

  write(octets: string | Buffer): void {
    this.#socket.write(octets);
  }

  /** The next reply, all of its lines. */
  hear(): Promise<string> {
    return new Promise((resolve, reject) => {
      this.#look = () => {
        const match = /^(?:\d{3}-[^\r\n]*\r\n)*\d{3}(?: [^\r\n]*)?\r\n/u.exec(this.#heard);
        if (match) {
          this.#look = () => undefined; // the next reply is the next one's who asks
          this.#heard = this.#heard.slice(match[0].length);
          resolve(match[0].trimEnd());
        } else if (this.#closed) reject(new Error(`the connection ended: ${this.#heard}`));
      };
      this.#look();
    });
  }

  /** STARTTLS, and EHLO again. @param host whom its certificate must name @returns the features now */
  async secure(ca: string, host = "127.0.0.1"): Promise<string> {
    await this.say("STARTTLS");
    const plain = this.#socket;
    for (const event of ["data", "close"]) plain.removeAllListeners(event);
    const secured = connectTls({ socket: plain, ca, host, servername: isIP(host) ? "" : host });
    await once(secured, "secureConnect");
    this.#socket = secured;
    this.#listen();
    return this.say("EHLO client.example");
  }

  async login(name: string, password: string): Promise<string> {
    return this.say(`AUTH PLAIN ${Buffer.from(`\0${name}\0${password}`).toString("base64")}`);
  }

  /** DATA with these octets, dots stuffed. @returns the final reply */
  async data(message: string | Buffer): Promise<string> {
    const ready = await this.say("DATA");
    if (!ready.startsWith("354")) return ready;
    this.write(Buffer.from(`${Buffer.from(message).toString("latin1").replace(/^\./gmu, "..")}\r\n.\r\n`, "latin1"));
    return this.hear();
  }

  /** Says nothing any more, and listens on. */
  finish(): void {
    this.#socket.end();
  }

  close(): void {
    this.#socket.destroy();
  }

  #listen(): void {
    this.#socket.on("data", (chunk: Buffer) => {
      this.#heard += chunk.toString("utf8");
      this.#look();
    });
    this.#socket.on("error", () => undefined);
    this.#socket.on("close", () => {
      this.#closed = true;
      this.#look();
    });
  }
}
