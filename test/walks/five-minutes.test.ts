/** What README.md and docs/install-broker.md tell a stranger to type, typed on plain Debian servers: it ends with a sealed letter, opened, and a receipt that verifies. */
import { spawnSync } from "node:child_process";
import { mkdirSync, readFileSync, readdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "@jest/globals";
import { parseEntity, splitMultipart } from "../../mime/entity.ts";
import { Talk } from "../gateway/talk.ts";
import { startDovecot, type DovecotServer } from "../servers/dovecot.ts";
import { freePort } from "../servers/ports.ts";
import { canRunPostfix, startPostfix, type PostfixServer } from "../servers/postfix.ts";
import { temporaryFolder } from "../servers/process.ts";
import { startRedis, type RedisServer } from "../servers/redis.ts";
import { COMMAND, startNode, type Process } from "./kakitome.ts";
import { ALICE, BOB, passwordOf, untilMail } from "./place.ts";

const suite = canRunPostfix ? describe : describe.skip;
if (!canRunPostfix) console.log("skipped: Postfix runs as root only");

const root = join(import.meta.dirname, "..", "..");
const TEXT = "The text of the letter: five";

/** The blocks of commands or settings below a heading, without their comments; a line that goes on is one line. */
function blocksIn(file: string, heading: string): string[][] {
  const [, section = ""] = readFileSync(join(root, file), "utf8").split(`\n${heading}\n`);
  const [own = ""] = section.split("\n## ");
  return [...own.matchAll(/^```\n(.*?)^```$/gmsu)].map(([, block = ""]) =>
    block
      .replaceAll(/\\\n\s*/gu, "")
      .split("\n")
      .map((line) => line.replace(/\s+#\s.*$/u, ""))
      .filter((line) => line.trim() !== ""),
  );
}

suite("on a machine with Redis, Dovecot and Postfix", () => {
  let redis: RedisServer;
  let dovecot: DovecotServer;
  let postfix: PostfixServer;
  let folder: string;
  let environment: NodeJS.ProcessEnv;
  const running: Process[] = [];

  beforeAll(async () => {
    [redis, dovecot] = await Promise.all([startRedis(), startDovecot({ users: { [ALICE]: passwordOf(ALICE), [BOB]: passwordOf(BOB) } })]);
    postfix = await startPostfix({ domains: ["a.example", "b.example"], transport: `lmtp:inet:127.0.0.1:${dovecot.lmtpPort}` });
    folder = await temporaryFolder("five");
    const commands = join(folder, "bin");
    mkdirSync(commands);
    writeFileSync(join(commands, "kakitome"), `#!/bin/sh\nexec "${process.execPath}" "${COMMAND}" "$@"\n`, { mode: 0o755 });
    environment = { ...process.env, PATH: `${commands}:${process.env["PATH"]}`, NODE_EXTRA_CA_CERTS: dovecot.ca };
  }, 30_000);
  afterAll(async () => {
    for (const one of running.toReversed()) await one.stop();
    await Promise.all([redis?.stop(), dovecot?.stop(), postfix?.stop()]);
  });

  /** @returns what it printed */
  function type(line: string, where: string, input: string): string {
    const { status, stdout, stderr } = spawnSync("bash", ["-c", line], { cwd: where, env: environment, input, encoding: "utf8" });
    if (status !== 0) throw new Error(`${line}\n${stderr}${stdout}`);
    return stdout;
  }

  /** Starts what stays. */
  async function stay(line: string, where: string, event: string): Promise<Process> {
    const [, ...args] = line.split(" ");
    const at = args.indexOf("--config") + 1;
    args[at] = join(where, args[at] ?? "");
    const started = startNode([COMMAND, ...args], { NODE_EXTRA_CA_CERTS: dovecot.ca });
    running.push(started);
    await started.until(event, (said) => said.event === event);
    return started;
  }

  test("the five minutes end with a letter that was opened and a receipt that verifies", async () => {
    const [broker = [], gateway = []] = blocksIn("README.md", "## Five minutes to an installation");
    const url = `127.0.0.1:${await freePort()}`;
    const names = (line: string): string =>
      line
        .replaceAll("broker.example:8443", url)
        .replace("mail.broker.example:587", `127.0.0.1:${postfix.port} --relay-tls none --listen ${url}`)
        .replace("imap.a.example:993", `127.0.0.1:${dovecot.imapsPort}`);

    const [initBroker = "", runBroker = "", invite = ""] = broker.map(names);
    type(initBroker, folder, "");
    const file = join(folder, "broker", "broker.yaml");
    const [redisSetting] = blocksIn("docs/install-broker.md", "## 2. The broker").filter(([line]) => line === "table:");
    const table = (redisSetting ?? []).join("\n").replace("127.0.0.1:6379", `127.0.0.1:${redis.port}`);
    writeFileSync(file, readFileSync(file, "utf8").replace(/^table: embedded.*$/mu, table));
    writeFileSync(join(folder, "broker", "redis.password"), redis.password, { mode: 0o600 });
    await stay(runBroker, folder, "broker.started");

    const ports: number[] = [];
    const gateways: Process[] = [];
    for (const [domain, address] of [
      ["a.example", ALICE],
      ["b.example", BOB],
    ] as const) {
      const home = join(folder, domain);
      mkdirSync(home);
      const port = await freePort();
      ports.push(port);
      const invited = type(invite.replace("a.example", domain), folder, "");
      const [, fingerprint = "", token = ""] = /--fingerprint (\S+) --token (\S+)/u.exec(invited) ?? [];
      const lines = gateway.map((line) =>
        names(line)
          .replaceAll(ALICE, address)
          .replace("gateway.a.example", `gateway.${domain}`)
          .replace("mail.a.example:587", `127.0.0.1:${postfix.port} --relay-tls none --listen 127.0.0.1:${port}`)
          .replace(" F ", ` ${fingerprint} `)
          .replace(/ T$/u, ` ${token}`),
      );
      for (const line of lines.slice(0, -1)) type(line, home, `${passwordOf(address)}\n`);
      const started = await stay(lines.at(-1) ?? "", home, "gateway.started");
      await started.until("watch", (said) => said.event === "mailbox.watched");
      await started.until("certificates", (said) => said.event === "mailbox.enrolled");
      gateways.push(started);
    }

    const talk = await Talk.open(ports[0] ?? 0);
    await talk.say("EHLO client.a.example");
    await talk.secure(readFileSync(join(folder, "a.example", "gateway", "door-ca.crt.pem"), "utf8"), "gateway.a.example");
    expect(await talk.login(ALICE, passwordOf(ALICE))).toMatch(/^235 /u);
    for (const line of [`MAIL FROM:<${ALICE}>`, `RCPT TO:<${BOB}>`]) expect(await talk.say(line)).toMatch(/^250 /u);
    const mail = `From: ${ALICE}\r\nTo: ${BOB}\r\nSubject: five\r\nMessage-ID: <five@a.example>\r\n\r\n${TEXT}`;
    expect(await talk.data(mail)).toMatch(/^250 /u);
    talk.close();
    const [opened] = await untilMail({ dovecot }, BOB, (one) => one.includes(TEXT));
    const [receipt] = await untilMail({ dovecot }, ALICE, (one) => one.includes("multipart/report"));
    writeFileSync(join(folder, "receipt.eml"), receipt ?? "");
    await gateways[0]?.until("the receipt", (said) => said.event === "receipt.verified"); // from then on the signature lies beside it
    const letters = join(folder, "a.example", "gateway", "data", "letters");
    const signature = readdirSync(letters).find((name) => name.endsWith(".original.p7s")) ?? "";
    const [payload] = splitMultipart(parseEntity(opened ?? Buffer.alloc(0)));
    writeFileSync(join(folder, "letter.mime"), payload ?? "");
    const proof = `--original ${join(letters, signature)} --payload letter.mime`;
    const verdict = type(`kakitome verify receipt.eml --ca broker/data/ca.pem ${proof}`, folder, "");
    expect(verdict).toContain("<five@a.example>");
    expect(Number(redis.cli("DBSIZE"))).toBeGreaterThan(0); // and Redis was the table
  }, 120_000);
});
