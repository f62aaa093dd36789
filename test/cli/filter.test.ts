/** `kakitome seal` and `kakitome open` with a running broker: a letter passes from one to the other, for every address that a mailbox has. */
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { afterAll, beforeAll, expect, test } from "@jest/globals";
import { stringify } from "yaml";
import { freePort } from "../servers/ports.ts";
import { temporaryFolder } from "../servers/process.ts";
import { kakitome, must, startKakitome, type Process } from "../walks/kakitome.ts";

const [ALICE, LIDDELL, BOB, ROBERT] = ["alice@a.example", "a.liddell@a.example", "bob@a.example", "robert@a.example"];
let config: string;
let broker: Process;

beforeAll(async () => {
  const folder = await temporaryFolder("filter");
  const [home, url] = [join(folder, "broker"), `https://127.0.0.1:${await freePort()}`];
  must(["init", "broker", "--dir", home, "--url", url, "--receipts-from", "receipts@broker.example", "--relay", "127.0.0.1:1"]);
  broker = startKakitome(["broker", "run", "--config", join(home, "broker.yaml")]);
  await broker.until("broker.started", ({ event }) => event === "broker.started");
  config = join(folder, "gateway.yaml");
  const mailboxes = [
    { address: ALICE, aliases: [LIDDELL] },
    { address: BOB, aliases: [ROBERT] },
  ];
  writeFileSync(config, stringify({ name: "gateway.a.example", data: "data", broker: { url }, mailboxes }));
  const invited = must(["broker", "invite", "--for", "a.example", "--json", "--config", join(home, "broker.yaml")]);
  const { token, fingerprint } = JSON.parse(invited) as { token: string; fingerprint: string };
  must(["enrol", "--config", config, "--fingerprint", fingerprint, "--token", token]);
  const gateway = startKakitome(["gateway", "run", "--config", config]);
  for (const address of [ALICE, BOB])
    await gateway.until(`enrolment of ${address}`, (line) => line.event === "mailbox.enrolled" && line["mailbox"] === address);
  await gateway.stop();
}, 60_000);
afterAll(() => broker?.stop());

const letter = (author: string): string => `From: ${author}\r\nTo: ${ROBERT}\r\nSubject: secret\r\n\r\nA secret text.\r\n`;
const seal = (author: string, sender: string) => kakitome(["seal", "--from", sender, "--to", ROBERT, "--config", config], letter(author));
const open = (mail: string, recipient: string) => kakitome(["open", "--for", recipient, "--config", config], mail);

test.each([
  ["the mailbox's own address, for its own address", ALICE, ALICE, BOB],
  ["an alias, for an alias", LIDDELL, LIDDELL, ROBERT],
  ["an alias, under the mailbox's own address", ALICE, LIDDELL, ROBERT],
  ["the mailbox's own address, under an alias", LIDDELL, ALICE, ROBERT],
])("a letter is sealed and opened as a gateway that runs does it: from %s", (_why, author, sender, recipient) => {
  const sealed = seal(author, sender);
  expect(sealed).toMatchObject({ status: 0, stdout: expect.not.stringContaining("A secret text.") });
  expect(open(sealed.stdout, recipient)).toMatchObject({ status: 0, stdout: expect.stringContaining("A secret text.") });
});

test("nobody else's mailbox seals or opens", () => {
  expect(seal(BOB, ALICE)).toMatchObject({ status: 1, stdout: "", stderr: expect.stringContaining(`may not send as ${BOB}`) });
  const stranger = seal("eve@a.example", "eve@a.example");
  expect(stranger).toMatchObject({
    status: 1,
    stdout: "",
    stderr: expect.stringContaining("eve@a.example is not a mailbox of this gateway"),
  });
  const { stdout } = seal(ALICE, ALICE);
  expect(open(stdout, "eve@a.example")).toMatchObject({ status: 1, stdout: "", stderr: expect.stringContaining("not a mailbox") });
  expect(open(stdout, ALICE)).toMatchObject({ status: 1, stdout: "" });
});
