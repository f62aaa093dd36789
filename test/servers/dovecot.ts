/** A real Dovecot 2.3 for tests: the mailboxes, reached by IMAP and filled by LMTP. */

import { execFileSync } from "node:child_process";
import { mkdir, writeFile } from "node:fs/promises";
import { userInfo } from "node:os";
import { join } from "node:path";
import { freePort } from "./ports.ts";
import { start, temporaryFolder, type Running } from "./process.ts";

export interface DovecotServer {
  /** IMAP in the clear, with STARTTLS on offer. */
  readonly imapPort: number;
  readonly imapsPort: number;
  readonly lmtpPort: number;
  /** Where Postfix asks about passwords. */
  readonly saslPort: number;
  readonly folder: string;
  /** Path of its self-signed certificate (PEM), for localhost and 127.0.0.1. */
  readonly ca: string;
  /** The folder with the mail of this address; there once a first message has come. */
  maildir(user: string): string;
  /** What doveadm prints. */
  doveadm(...args: string[]): string;
  stop(): Promise<void>;
  /** End all of its processes by SIGKILL. */
  kill(): Promise<void>;
  /** Stop it if it runs, and start it again on the same ports with the same mail. */
  restart(): Promise<void>;
}

/** Who Dovecot runs as. It refuses to serve mail as root, so root hands over to nobody. */
interface Account {
  readonly user: string;
  readonly group: string;
  readonly uid: number;
  readonly gid: number;
  /** Put before each command. */
  readonly become: readonly string[];
}

interface Ports {
  readonly imap: number;
  readonly imaps: number;
  readonly lmtp: number;
  readonly sasl: number;
}

export interface DovecotOptions {
  readonly users: Record<string, string>;
  /** XOAUTH2 and OAUTHBEARER too, with JSON Web Tokens that are signed with this key (HS256) and name the user as `email`. */
  readonly tokenKey?: Buffer;
  /** Lines of dovecot.conf as a page of the documentation has them, behind all others. */
  readonly configuration?: string;
  /** SASL mechanisms beside PLAIN and LOGIN where there is a key; both unless given. */
  readonly tokenMechanisms?: string;
}

export async function startDovecot(options: DovecotOptions): Promise<DovecotServer> {
  const account = findAccount();
  const folder = await temporaryFolder("dovecot", "shared");
  const ports: Ports = { imap: await freePort(), imaps: await freePort(), lmtp: await freePort(), sasl: await freePort() };
  const configuration = join(folder, "dovecot.conf");
  const certificate = join(folder, "tls.crt");
  const users = Object.entries(options.users).map(([address, password]) => `${address}:{PLAIN}${password}\n`);

  await mkdir(join(folder, "run"), { mode: 0o755 });
  await mkdir(join(folder, "mail"), { mode: 0o700 });
  await writeFile(join(folder, "users"), users.join(""), { mode: 0o600 });
  if (options.tokenKey) await writeTokenKey(folder, options.tokenKey);
  const tokens = options.tokenKey ? tokenLogin(folder, options.tokenMechanisms ?? "xoauth2 oauthbearer") : "";
  await writeFile(configuration, `${configurationOf(folder, ports, account)}${tokens}${options.configuration ?? ""}`);
  makeCertificate(certificate, join(folder, "tls.key"));
  if (account.become.length > 0) execFileSync("chown", ["-R", `${account.uid}:${account.gid}`, folder]);

  const as = (command: string, ...args: string[]) => {
    const [first = command, ...rest] = [...account.become, command, ...args];
    return { command: first, args: rest };
  };
  const launch = (): Promise<Running> =>
    start({
      ...as("dovecot", "-F", "-c", configuration),
      folder,
      environment: { PATH: `${process.env["PATH"]}:/usr/sbin` },
      ready: { ports: [ports.imap, ports.lmtp], greeting: /^(\* OK|220) / },
    });

  let running = await launch();
  return {
    imapPort: ports.imap,
    imapsPort: ports.imaps,
    lmtpPort: ports.lmtp,
    saslPort: ports.sasl,
    folder,
    ca: certificate,
    maildir: (user) => join(folder, "mail", user),
    doveadm: (...args) => {
      const { command, args: all } = as("doveadm", "-c", configuration, ...args);
      return execFileSync(command, all, { cwd: folder, encoding: "utf8" });
    },
    stop: () => running.stop(),
    kill: () => running.crash(),
    restart: async () => {
      await running.stop();
      running = await launch();
    },
  };
}

function findAccount(): Account {
  const { uid, gid, username } = userInfo();
  const user = uid === 0 ? "nobody" : username;
  const ask = (what: string): string => execFileSync("id", [what, user], { encoding: "utf8" }).trim();
  if (uid !== 0) return { user, group: ask("-gn"), uid, gid, become: [] };
  const nobody = { user, group: ask("-gn"), uid: Number(ask("-u")), gid: Number(ask("-g")) };
  return { ...nobody, become: ["setpriv", `--reuid=${nobody.uid}`, `--regid=${nobody.gid}`, "--clear-groups"] };
}

/** Where Dovecot's file dictionary finds the key of tokens that name none. */
async function writeTokenKey(folder: string, key: Buffer): Promise<void> {
  const keys = join(folder, "keys", "default", "HS256");
  await mkdir(keys, { recursive: true });
  await writeFile(join(keys, "default"), key.toString("base64"));
  const check = ["introspection_mode = local", `local_validation_key_dict = fs:posix:prefix=${folder}/keys/`, "username_attribute = email"];
  await writeFile(join(folder, "oauth2.conf.ext"), `${check.join("\n")}\n`);
}

function tokenLogin(folder: string, mechanisms: string): string {
  return `
auth_mechanisms = plain login ${mechanisms}
passdb {
  driver = oauth2
  mechanisms = xoauth2 oauthbearer
  args = ${folder}/oauth2.conf.ext
}
`;
}

function makeCertificate(certificate: string, key: string): void {
  const request = ["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2"];
  const names = ["-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1"];
  execFileSync("openssl", [...request, ...names, "-keyout", key, "-out", certificate], { stdio: "pipe" });
}

function configurationOf(folder: string, ports: Ports, account: Account): string {
  return `base_dir = ${folder}/run
state_dir = ${folder}/run
instance_name = test-${ports.imap}
protocols = imap lmtp
listen = 127.0.0.1
log_path = /dev/stderr

# One account for everything: an ordinary user can start it, and nothing needs root.
default_internal_user = ${account.user}
default_internal_group = ${account.group}
default_login_user = ${account.user}
first_valid_uid = 1
last_valid_uid = 0
first_valid_gid = 1
mail_uid = ${account.uid}
mail_gid = ${account.gid}

mail_location = maildir:${folder}/mail/%u
namespace inbox {
  inbox = yes
  separator = /
  mailbox Sent {
    auto = subscribe
    special_use = \\Sent
  }
}

disable_plaintext_auth = no
auth_mechanisms = plain login
auth_failure_delay = 0 s
passdb {
  driver = passwd-file
  args = scheme=PLAIN username_format=%u ${folder}/users
}
userdb {
  driver = static
  args = uid=${account.uid} gid=${account.gid} home=${folder}/mail/%u
}

ssl = yes
ssl_cert = <${folder}/tls.crt
ssl_key = <${folder}/tls.key
ssl_min_protocol = TLSv1.2

# chroot needs root.
service anvil {
  chroot =
  unix_listener anvil-auth-penalty {
    mode = 0
  }
}
service stats {
  chroot =
}
service imap-login {
  chroot =
  inet_listener imap {
    port = ${ports.imap}
  }
  inet_listener imaps {
    port = ${ports.imaps}
    ssl = yes
  }
}
service auth {
  inet_listener sasl {
    port = ${ports.sasl}
  }
}
service lmtp {
  inet_listener lmtp {
    port = ${ports.lmtp}
  }
}
protocol lmtp {
  postmaster_address = postmaster@localhost
  auth_username_format = %Lu
}
protocol imap {
  mail_max_userip_connections = 50
}
`;
}
