/** Postfix as a peer, with a sink behind it: as a plain relay, and with the openssl command as its content filter. */
import { chmodSync, copyFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { pem } from "../test/mime/parties.ts";
import { freePort } from "../test/servers/ports.ts";
import { startPostfix } from "../test/servers/postfix.ts";
import { temporaryFolder } from "../test/servers/process.ts";
import { inTheClear, type Target } from "./load.ts";
import { orderOf } from "./sides/letter.ts";
import { startSink, type Sink } from "./sink.ts";

export interface Relay {
  readonly sink: Sink;
  readonly target: Target;
  stop(): Promise<void>;
}

/** A Postfix that hands everything to a sink. @param settings lines of main.cf @param services lines of master.cf */
async function toSink(settings: Record<string, string>, services = "") {
  const sink = await startSink();
  const transport = `smtp:[127.0.0.1]:${sink.port}`;
  const postfix = await startPostfix({ domains: ["b.example"], transport, settings, services });
  const stop = async (): Promise<void> => {
    await postfix.stop();
    await sink.stop();
  };
  return { postfix, sink, stop };
}

export async function postfixRelay(settings: Record<string, string> = {}): Promise<Relay> {
  const { postfix, sink, stop } = await toSink(settings);
  return { sink, stop, target: inTheClear(postfix.port) };
}

/** As FILTER_README of Postfix has it: a second door whose mail goes through a script, which hands it back at the first. */
export async function postfixFilter(): Promise<Relay> {
  const folder = await temporaryFolder("bench-filter", "shared");
  const { parties } = await orderOf(0);
  const file = (name: string): string => join(folder, name);
  writeFileSync(file("alice.sign.crt"), parties.alice.signer.certificate.pem);
  writeFileSync(file("alice.sign.key"), pem(parties.alice.signer.key));
  writeFileSync(file("bob.crypt.crt"), parties.bob.opener.certificate.pem);
  const [script, door, back] = [file("filter.sh"), await freePort(), await freePort()];
  copyFileSync(join(import.meta.dirname, "peers", "smime-filter.sh"), script); // where the filter's user can read it
  chmodSync(script, 0o755);
  const services = `
127.0.0.1:${door} inet n - n - - smtpd -o content_filter=filter:dummy
127.0.0.1:${back} inet n - n - - smtpd
filter unix - n n - 10 pipe flags=Rq user=nobody argv=${script} ${folder} ${back} \${sender} \${recipient}
`;
  const { sink, stop } = await toSink({ filter_destination_recipient_limit: "1" }, services);
  return { sink, stop, target: inTheClear(door) };
}
