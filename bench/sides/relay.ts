/** `relay.ts PORT NEXT FOLDER`: a plain relay of the libraries, which syncs each mail in the folder before its 250. */
import { randomBytes } from "node:crypto";
import { unlinkSync } from "node:fs";
import { join } from "node:path";
import { createTransport } from "nodemailer";
import { SMTPServer } from "smtp-server";
import { writeDurably } from "../../gateway/durable.ts";

const [port, next, folder = ""] = process.argv.slice(2);
const transport = createTransport({ host: "127.0.0.1", port: Number(next), pool: true, ignoreTLS: true });
const server = new SMTPServer({
  authOptional: true,
  disabledCommands: ["AUTH", "STARTTLS"],
  disableReverseLookup: true,
  onData(stream, { envelope }, callback) {
    const chunks: Buffer[] = [];
    stream.on("data", (chunk: Buffer) => chunks.push(chunk));
    stream.on("end", () => {
      const [mail, path] = [Buffer.concat(chunks), join(folder, randomBytes(12).toString("hex"))];
      const from = envelope.mailFrom === false ? "" : envelope.mailFrom.address;
      const to = envelope.rcptTo.map(({ address }) => address);
      writeDurably(path, [mail]).then(
        async () => {
          callback();
          await transport.sendMail({ envelope: { from, to }, raw: mail });
          unlinkSync(path);
        },
        (thrown: unknown) => callback(thrown instanceof Error ? thrown : new Error(String(thrown))),
      );
    });
  },
});
server.listen(Number(port), "127.0.0.1", () => console.log("listening"));
