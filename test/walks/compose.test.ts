/** docker-compose.yml without containers: its files are read by real parsers, and every command in it runs on this machine. */
import { execFileSync, spawnSync } from "node:child_process";
import { chmodSync, mkdirSync, readFileSync, statSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "@jest/globals";
import { validate } from "dockerfile-utils";
import { parse, parseAllDocuments } from "yaml";
import { startDovecot, type DovecotServer } from "../servers/dovecot.ts";
import { freePort } from "../servers/ports.ts";
import { canRunPostfix, startPostfix, type PostfixServer } from "../servers/postfix.ts";
import { start, temporaryFolder, type Running } from "../servers/process.ts";
import { COMMAND, startKakitome, type Process } from "./kakitome.ts";

const root = join(import.meta.dirname, "..", "..");
const read = (name: string): string => readFileSync(join(root, name), "utf8");

interface Service {
  readonly image?: string;
  readonly build?: string | { readonly dockerfile?: string; readonly target?: string };
  readonly entrypoint?: readonly string[];
  readonly command?: readonly string[];
  readonly depends_on?: Readonly<Record<string, { readonly condition: string }>>;
  readonly volumes?: readonly string[];
}
const compose = parse(read("docker-compose.yml"), { merge: true }) as {
  readonly services: Readonly<Record<string, Service>>;
  readonly volumes: Readonly<Record<string, unknown>>;
};
const services = Object.entries(compose.services);

describe("the files", () => {
  test("docker-compose.yml names only services, volumes and conditions that there are", () => {
    expect(Object.keys(compose.services).toSorted()).toEqual([
      "broker",
      "dovecot",
      "enrol",
      "gateway-a",
      "gateway-b",
      "postfix",
      "redis",
      "setup",
    ]);
    for (const [, { depends_on: needs = {}, volumes = [] }] of services) {
      for (const [name, { condition }] of Object.entries(needs)) {
        expect(compose.services).toHaveProperty(name);
        expect(["service_started", "service_healthy", "service_completed_successfully"]).toContain(condition);
      }
      for (const volume of volumes) expect(Object.keys(compose.volumes)).toContain(volume.split(":")[0]);
    }
  });

  test.each([["Dockerfile"], ["docker/mail.Dockerfile"]])("%s is one, from bases with a version", (name) => {
    expect(validate(read(name)).map(({ message }) => message)).toEqual([]);
    for (const base of read(name).matchAll(/^FROM (\S+)/gmu)) expect(base[1]).toMatch(/^[a-z]+:\d+\.\d+/u);
  });

  test("the image runs as nobody in particular, and is asked whether it is ready", () => {
    expect(read("Dockerfile")).toMatch(/^USER 10001:10001$/mu);
    expect(read("Dockerfile")).toMatch(/^HEALTHCHECK .* CMD kakitome readyz /mu);
  });

  test("every stage that docker-compose.yml builds is in its Dockerfile", () => {
    for (const [, { build }] of services) {
      if (typeof build !== "object" || !build.target) continue;
      expect(read(build.dockerfile ?? "Dockerfile")).toMatch(new RegExp(`^FROM \\S+ AS ${build.target}$`, "mu"));
    }
  });

  test("Postfix and Dovecot know every setting", async () => {
    const folder = await temporaryFolder("compose", "shared");
    writeFileSync(join(folder, "main.cf"), read("docker/postfix/main.cf"));
    writeFileSync(join(folder, "master.cf"), "");
    const postconf = spawnSync("/usr/sbin/postconf", ["-c", folder, "-n"], { encoding: "utf8" });
    expect(postconf).toMatchObject({ status: 0, stderr: "" });
    const doveconf = spawnSync("/usr/bin/doveconf", ["-n", "-c", join(root, "docker/dovecot/dovecot.conf")], { encoding: "utf8" });
    expect({ status: doveconf.status, stderr: doveconf.stderr.replaceAll(/^.*Warning.*\n/gmu, "") }).toEqual({ status: 0, stderr: "" });
  });

  test("Kubernetes gets one gateway, whose volumes and secret there are", () => {
    const documents = parseAllDocuments(read("kubernetes/kakitome.yaml"));
    expect(documents.flatMap(({ errors, warnings }) => [...errors, ...warnings])).toEqual([]);
    const set = documents
      .map((one) => one.toJS() as { kind: string; spec: Record<string, unknown> })
      .find(({ kind }) => kind === "StatefulSet");
    const ports = documents[0]?.toJS() as { spec: { ports: { targetPort: number }[] } };
    for (const { targetPort } of ports.spec.ports) expect(read("kubernetes/kakitome.yaml")).toContain(`0.0.0.0:${targetPort}`); // what init is told
    expect(set).toMatchObject({ spec: { replicas: 1, template: { spec: { securityContext: { runAsNonRoot: true } } } } });
  });
});

const suite = canRunPostfix ? describe : describe.skip;
if (!canRunPostfix) console.log("skipped: Postfix runs as root only");

suite("the commands", () => {
  let place: string;
  let environment: Record<string, string>;
  let dovecot: DovecotServer;
  let postfix: PostfixServer;
  let redis: Running;
  const processes: Process[] = [];

  const sh = (name: string): string =>
    execFileSync("sh", [join(root, "docker", name)], { encoding: "utf8", env: { ...process.env, ...environment } });
  /** The command of a service, at this place. */
  const commandOf = (name: string): string[] =>
    (compose.services[name]?.command ?? []).map((word) => (word.startsWith("/") ? place + word : word));

  beforeAll(async () => {
    place = await temporaryFolder("compose-place");
    for (const [, mode = "", folders = ""] of read("Dockerfile").matchAll(/install -d .* -m (\d+) ([/a-z -]+)/gu))
      for (const name of folders.trim().split(" ")) mkdirSync(place + name, { mode: Number.parseInt(mode, 8) });
    mkdirSync(join(place, "bin"));
    writeFileSync(join(place, "bin", "kakitome"), `#!/bin/sh\nexec ${process.execPath} ${COMMAND} "$@"\n`);
    chmodSync(join(place, "bin", "kakitome"), 0o755);
    const [broker, redisPort] = [await freePort(), await freePort()];
    dovecot = await startDovecot({ users: { "alice@a.example": "unused", "bob@b.example": "unused" } });
    postfix = await startPostfix({ domains: ["a.example", "b.example"], transport: `lmtp:inet:127.0.0.1:${dovecot.lmtpPort}` });
    environment = {
      PATH: `${join(place, "bin")}:${process.env["PATH"]}`,
      PLACE: place,
      BROKER: `127.0.0.1:${broker}`,
      BROKER_LISTEN: `127.0.0.1:${broker}`,
      REDIS: `127.0.0.1:${redisPort}`,
      SMTP: `127.0.0.1:${postfix.port}`,
      IMAP: `127.0.0.1:${dovecot.imapPort}`,
    };
    environment["SETUP"] = sh("setup.sh");
    const own = ["--port", String(redisPort), "--bind", "127.0.0.1"];
    const [command = "", ...args] = commandOf("redis").map((word) => (word === `${place}/data` ? place : word));
    redis = await start({ command, args: [...args, ...own], folder: place, ready: { line: /Ready to accept/u } });
  }, 60_000);
  afterAll(async () => {
    await Promise.all(processes.map((one) => one.stop()));
    await Promise.all([redis?.stop(), dovecot?.stop(), postfix?.stop()]);
  });

  test.each(["redis/redis.conf", "mail/users"])(
    "%s can be read by the users that Redis and Dovecot run as, and its folder entered",
    (name) => {
      expect([statSync(join(place, name)).mode & 0o004, statSync(join(place, dirname(name))).mode & 0o001]).toEqual([0o004, 0o001]);
    },
  );

  test("a setup that was cut off is done anew", () => {
    const other = join(place, "cut-off");
    for (const name of ["broker", "redis", "mail", "gateway-a", "gateway-b"]) mkdirSync(join(other, name), { recursive: true });
    writeFileSync(join(other, "broker", "broker.yaml"), "url: half\n");
    const run = () =>
      execFileSync("sh", [join(root, "docker", "setup.sh")], { encoding: "utf8", env: { ...process.env, ...environment, PLACE: other } });
    expect(run()).toContain("bob@b.example  password");
    expect(run()).toBe("Everything is there already.\n");
  });

  test("set up, start and enrol; a second time they change nothing", async () => {
    const broker = startKakitome(commandOf("broker"));
    processes.push(broker);
    await broker.until("broker.started", ({ event }) => event === "broker.started");
    expect(sh("enrol.sh")).toMatch(/gateway\.a\.example is enrolled .*\n[^]*gateway\.b\.example is enrolled/u);
    expect([sh("setup.sh"), sh("enrol.sh")]).toEqual(["Everything is there already.\n", ""]);

    const ports = { a: await freePort(), b: await freePort() };
    for (const [name, port] of Object.entries(ports)) {
      const file = join(place, `gateway-${name}`, "gateway.yaml");
      writeFileSync(
        file,
        readFileSync(file, "utf8")
          .replace("0.0.0.0:587", `127.0.0.1:${port}`)
          .replace(/^health:.*$/mu, ""),
      );
      for (const address of ["alice@a.example", "bob@b.example"])
        if (address.endsWith(`@${name}.example`)) writeFileSync(join(place, `gateway-${name}`, `${address}.password`), "unused\n");
      const gateway = startKakitome(commandOf(`gateway-${name}`));
      processes.push(gateway);
      await gateway.until("gateway.started", ({ event }) => event === "gateway.started");
      await gateway.until("enrolment", ({ event }) => event === "mailbox.enrolled");
    }
    const password = /^alice@a\.example {2}password (\S+)/mu.exec(environment["SETUP"] ?? "")?.[1] ?? "";
    const server = ["--server", "127.0.0.1", "--port", String(ports.a), "-tls", "--suppress-data", "--auth", "PLAIN"];
    const letter = ["--auth-user", "alice@a.example", "--auth-password", password, "--from", "alice@a.example", "--to", "bob@b.example"];
    const { status, stdout } = spawnSync("swaks", [...server, ...letter], { encoding: "utf8" });
    expect({ status, stdout }).toMatchObject({ status: 0 });
    await processes[1]?.until("the receipt", ({ event }) => event === "receipt.verified");
  }, 60_000);
});
