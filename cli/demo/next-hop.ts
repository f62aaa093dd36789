/** The ordinary mail between the two offices of the demo: an SMTP server that puts what it takes into the mailboxes. */
import { SMTPServer } from "smtp-server";
import type { MailStore } from "./imap/store.ts";

export interface NextHop {
  readonly port: number;
  close(): Promise<void>;
}

/** @param passing sees every mail before it is delivered; a failure there is the sender's to retry */
export async function startNextHop(store: MailStore, passing: (recipient: string, mail: Buffer) => Promise<void>): Promise<NextHop> {
  const server = new SMTPServer({
    name: "mail.example",
    disabledCommands: ["AUTH", "STARTTLS"], // on the loopback only
    authOptional: true,
    disableReverseLookup: true,
    logger: false,
    onRcptTo({ address }, _session, callback) {
      callback(store.hasUser(address) ? null : Object.assign(new Error("5.1.1 No such mailbox"), { responseCode: 550 }));
    },
    onData(stream, { envelope }, callback) {
      const take = async (): Promise<void> => {
        const chunks: Buffer[] = [];
        for await (const chunk of stream) chunks.push(Buffer.from(chunk as Uint8Array));
        const trace = Buffer.from(`Received: by mail.example with ESMTP; ${new Date().toUTCString().replace("GMT", "+0000")}\r\n`);
        for (const { address } of envelope.rcptTo) {
          const mail = Buffer.concat([trace, ...chunks]);
          await passing(address, mail);
          store.deliver(address, mail);
        }
      };
      take().then(
        () => callback(null, "2.0.0 Taken"),
        (cause: unknown) => callback(Object.assign(new Error("4.3.0 Not now", { cause }), { responseCode: 451 })),
      );
    },
  });
  server.on("error", () => undefined); // a client that breaks off is its own affair
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", () => resolve()));
  const address = server.server.address();
  return {
    port: typeof address === "object" && address ? address.port : 0,
    close: () => new Promise((resolve) => server.close(() => resolve())),
  };
}
