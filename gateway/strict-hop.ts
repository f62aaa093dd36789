/** The library's pool of connections to the next hop, with XFORWARD before MAIL where the hop takes it. */
import { Readable } from "node:stream";
import SMTPPool from "nodemailer/lib/smtp-pool";
import { forwardCommands, type Forwarded } from "./forwarded.ts";

type Resource = ReturnType<typeof resourceOf>;
/** What the library keeps to itself of a connection. */
interface Inside {
  readonly _ehloLines?: readonly string[];
  readonly _responseActions: ((reply: string) => void)[];
  _sendCommand(line: string): void;
}

/** Only names the type, which the library does not export by itself. */
declare function resourceOf(): import("nodemailer/lib/smtp-pool/pool-resource").default;

export interface HopEnvelope {
  readonly from: string;
  readonly to: string;
  readonly forwarded?: Forwarded | undefined;
  readonly dsn?: object | undefined;
}

export class HopPool extends SMTPPool {
  /** Sends octets that are a mail already: nothing is composed, and nothing looked up in them. @param envelope in ASCII @throws as `sendMail` */
  async hand(envelope: HopEnvelope, octets: Buffer): Promise<void> {
    const message = {
      getEnvelope: () => envelope,
      messageId: () => "",
      getHeader: () => "",
      createReadStream: () => Readable.from([octets], { objectMode: false }),
    };
    const mail = { data: {}, message } as unknown as Parameters<SMTPPool["send"]>[0]; // as much of one as a connection looks at
    await new Promise<void>((resolve, reject) => void this.send(mail, (failure) => (failure ? reject(failure) : resolve())));
  }

  /** The library calls this for every connection it makes. */
  _createConnection(): Resource {
    const make: unknown = Reflect.get(SMTPPool.prototype, "_createConnection");
    const resource = (make as () => Resource).call(this);
    const send = resource.send.bind(resource);
    resource.send = (mail, callback) => {
      const forwarded: unknown = Reflect.get(mail.message.getEnvelope(), "forwarded");
      const isConnected = Reflect.get(resource, "_connected") === true; // else it connects, and comes here again
      if (!forwarded || !isConnected) return send(mail, callback);
      const inside = resource.connection as unknown as Inside; // the library declares these private
      announce(inside, forwarded, () => send(mail, callback));
    };
    return resource;
  }
}

/** Says who the client was; a hop that does not want to hear it gets the mail all the same. */
function announce(connection: Inside, forwarded: Forwarded, done: () => void): void {
  const offer = connection._ehloLines?.find((line) => /^XFORWARD\s/iu.test(line)) ?? "";
  const offered = new Set(offer.toUpperCase().split(/\s+/u).slice(1));
  const lines = forwardCommands(forwarded, offered);
  const next = (): void => {
    const line = lines.shift();
    if (line === undefined) return done();
    connection._responseActions.push(next);
    connection._sendCommand(line);
  };
  next();
}
