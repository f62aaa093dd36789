/** A real Postfix for tests: an instance of its own, which asks no name server and leaves the system's alone. */

import { execFileSync } from "node:child_process";
import { readFileSync } from "node:fs";
import { chmod, mkdir, utimes, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { setTimeout as pause } from "node:timers/promises";
import { freePort } from "./ports.ts";
import { start, temporaryFolder } from "./process.ts";

export interface PostfixServer {
  readonly port: number;
  readonly folder: string;
  /** Its mail log so far. */
  log(): string;
  /** The queue as postqueue -p prints it. */
  queue(): string;
  /** Has it try again all that waits, once nothing is under way. */
  retry(): Promise<void>;
  stop(): Promise<void>;
}

export interface PostfixOptions {
  /** It takes mail for every address of these domains. */
  domains: string[];
  /** Where that mail goes, e.g. lmtp:inet:127.0.0.1:24024. */
  transport: string;
  /** Lines of main.cf to add or to replace. */
  settings?: Record<string, string>;
  /** Lines of main.cf as a page of the documentation has them, behind all others. */
  main?: string;
  /** Lines of master.cf behind its own services. */
  services?: string;
}

/** Postfix's master(8) runs as root only. */
export const canRunPostfix: boolean = process.getuid?.() === 0;

export async function startPostfix(options: PostfixOptions): Promise<PostfixServer> {
  if (!canRunPostfix) throw new Error("Postfix can be started by root only");
  const folder = await temporaryFolder("postfix", "shared");
  const port = await freePort();
  const etc = join(folder, "etc");
  const environment = { PATH: `${process.env["PATH"]}:/usr/sbin:/sbin`, MAIL_CONFIG: etc };
  const run = (command: string, ...args: string[]): string =>
    execFileSync(command, args, {
      cwd: folder,
      encoding: "utf8",
      env: { ...process.env, ...environment },
      stdio: ["ignore", "pipe", "pipe"],
    });

  for (const name of ["etc", "spool", "data"]) {
    await mkdir(join(folder, name));
    await chmod(join(folder, name), 0o755); // Whatever the umask says.
  }
  await writeFile(join(etc, "main.cf"), `${linesOf({ ...mainSettings(folder), ...ownSettings(options) })}${options.main ?? ""}`);
  await writeFile(join(etc, "master.cf"), `${masterServices(port)}${options.services ?? ""}`);
  await utimes(join(etc, "main.cf"), 0, 0); // Postfix waits, 2 seconds in all, for a file just written to stay as it is.
  run("chown", "postfix", join(folder, "data"));
  run("postfix", "check"); // Makes the folders of the queue.

  const queue = (): string => run("postqueue", "-c", etc, "-p");
  const running = await start({
    command: join(run("postconf", "-h", "daemon_directory").trim(), "master"),
    args: ["-s", "-c", etc],
    folder,
    environment,
    ready: { ports: [port], greeting: /^220 / },
  });
  return {
    port,
    folder,
    log: () => readFileSync(join(folder, "mail.log"), "utf8"),
    queue,
    async retry() {
      while (/^[0-9A-F]+\*/mu.test(queue())) await pause(20); // what is under way has a star behind its name
      run("postqueue", "-c", etc, "-f");
    },
    stop: () => running.stop(),
  };
}

function ownSettings(options: PostfixOptions): Record<string, string> {
  return { virtual_mailbox_domains: options.domains.join(" "), virtual_transport: options.transport, ...options.settings };
}

function mainSettings(folder: string): Record<string, string> {
  return {
    compatibility_level: "3.6",
    queue_directory: join(folder, "spool"),
    data_directory: join(folder, "data"),
    maillog_file: join(folder, "mail.log"),
    maillog_file_prefixes: folder,

    myhostname: "mx.example.test",
    mydestination: "",
    mynetworks: "127.0.0.0/8",
    inet_interfaces: "127.0.0.1",
    inet_protocols: "ipv4",
    smtp_dns_support_level: "disabled",
    smtp_host_lookup: "native",
    smtpd_peername_lookup: "no",
    smtputf8_enable: "yes",

    alias_maps: "",
    alias_database: "",
    local_recipient_maps: "",
    local_transport: "error:nobody lives here",
    virtual_mailbox_maps: "static:anyone",
    smtpd_relay_restrictions: "permit_mynetworks, reject_unauth_destination",

    message_size_limit: "0",
    mailbox_size_limit: "0",
    virtual_mailbox_limit: "0",
    smtpd_client_connection_count_limit: "0",
    smtpd_client_connection_rate_limit: "0",
    smtpd_error_sleep_time: "0",

    // Tests wait for retries.
    minimal_backoff_time: "2s",
    maximal_backoff_time: "10s",
    queue_run_delay: "2s",
  };
}

function linesOf(settings: Record<string, string>): string {
  return Object.entries(settings)
    .map(([name, value]) => `${name} = ${value}\n`)
    .join("");
}

/** The services of master.cf, none of them in a chroot: its folder would need files of the system. */
function masterServices(port: number): string {
  return `
# service        type       private unpriv chroot wakeup limit command
127.0.0.1:${port} inet       n       -      n      -      -     smtpd
pickup           unix       n       -      n      60     1     pickup
cleanup          unix       n       -      n      -      0     cleanup
qmgr             unix       n       -      n      300    1     qmgr
rewrite          unix       -       -      n      -      -     trivial-rewrite
bounce           unix       -       -      n      -      0     bounce
defer            unix       -       -      n      -      0     bounce
trace            unix       -       -      n      -      0     bounce
verify           unix       -       -      n      -      1     verify
flush            unix       n       -      n      1000?  0     flush
tlsmgr           unix       -       -      n      1000?  1     tlsmgr
proxymap         unix       -       -      n      -      -     proxymap
proxywrite       unix       -       -      n      -      1     proxymap
smtp             unix       -       -      n      -      -     smtp
relay            unix       -       -      n      -      -     smtp
lmtp             unix       -       -      n      -      -     lmtp
showq            unix       n       -      n      -      -     showq
error            unix       -       -      n      -      -     error
retry            unix       -       -      n      -      -     error
discard          unix       -       -      n      -      -     discard
anvil            unix       -       -      n      -      1     anvil
scache           unix       -       -      n      -      1     scache
postlog          unix-dgram n       -      n      -      1     postlogd
`;
}
