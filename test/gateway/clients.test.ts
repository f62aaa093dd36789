/** What mail clients are told: each format read by a parser that is not ours, and the paths over HTTP. */
import { execFileSync } from "node:child_process";
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "@jest/globals";
import { stringify } from "yaml";
import { loadGateway } from "../../config/load.ts";
import type { GatewayConfig } from "../../config/schema.ts";
import { autoconfig, autodiscover, escaped, mobileconfig, muttrc, pacc } from "../../gateway/client-formats.ts";
import { settingsFor, settingsForDomain } from "../../gateway/client-settings.ts";
import { openDiscovery } from "../../gateway/discovery.ts";
import { parseMailbox } from "../../mime/address.ts";
import { heardLog } from "../broker/happenings.ts";
import { temporaryFolder } from "../servers/process.ts";
import { kakitome, must } from "../walks/kakitome.ts";

const ALICE = parseMailbox("alice@a.example");
let file: string;
let folder: string;

function config(changes: object = {}): GatewayConfig {
  const imap = { host: "imap.a.example", port: 993, tls: "implicit", user: "alice@a.example", passwordFile: "x" };
  const listen = [
    { address: "0.0.0.0:587", tls: "starttls" },
    { address: "0.0.0.0:465", tls: "implicit" },
  ];
  const whole = {
    name: "gateway.a.example",
    data: "data",
    broker: { url: "https://broker.example" },
    submission: { listen, certificate: "door.crt.pem", key: "door.key.pem" },
    users: [{ name: "alice", password: "$scrypt$x", identities: ["alice@a.example"] }],
    mailboxes: [{ address: "alice@a.example", imap }],
    relay: { host: "mail.a.example", port: 587, tls: "starttls" },
    ...changes,
  };
  writeFileSync(file, stringify(whole));
  return loadGateway(file);
}

beforeAll(async () => {
  folder = await temporaryFolder("clients");
  file = join(folder, "gateway.yaml");
});

/** What an XPath finds in the text; it has to be well-formed. */
function xpath(text: string, path: string): string {
  return execFileSync("xmllint", ["--nonet", "--xpath", `string(${path})`, "-"], { input: text, encoding: "utf8" }).trim();
}

const NASTY = `Ann & "Bob" <ltd> 'x' ]]> \u0001 書留`;

describe("the settings of a mailbox", () => {
  test("are the door with TLS from the start, the user who may send as it, and the server that the gateway reads at", () => {
    expect(settingsFor(config(), ALICE)).toMatchObject({
      submission: { host: "gateway.a.example", port: 465, tls: "implicit", user: "alice" },
      imap: { host: "imap.a.example", port: 993, tls: "implicit", user: "alice@a.example" },
    });
  });

  test("are the servers that the configuration names for clients, where it does", () => {
    const clients = {
      submission: { host: "mail.a.example", port: 587, tls: "starttls" },
      imap: { host: "mail.a.example", port: 143, tls: "starttls" },
    };
    expect(settingsFor(config({ clients }), ALICE)).toMatchObject(clients);
  });

  test("send no client to a server without TLS", () => {
    const imap = { host: "127.0.0.1", port: 143, tls: "none", user: "alice", passwordFile: "x" };
    expect(settingsFor(config({ mailboxes: [{ address: ALICE.address, imap }] }), ALICE).imap).toBeUndefined();
  });

  test("of a mailbox that is not ours, or where nobody takes mail, are a fault that says what to write", () => {
    expect(() => settingsFor(config(), parseMailbox("eve@a.example"))).toThrow(
      /no mailbox of gateway\.a\.example: write it under mailboxes/u,
    );
    expect(() => settingsFor(config({ submission: undefined }), ALICE)).toThrow(/configure submission, or clients\.submission/u);
  });
});

describe("whatever stands in a name, a parser reads it back:", () => {
  const settings = () => settingsFor(config({ clients: { name: NASTY } }), ALICE);
  const shown = NASTY.replace("\u0001", "").trim();

  test("autoconfig", () => {
    const text = autoconfig(settings());
    expect(xpath(text, "/clientConfig/emailProvider/displayName")).toBe(shown);
    expect(xpath(text, "//incomingServer[@type='imap']/hostname")).toBe("imap.a.example");
    expect(["port", "socketType", "username"].map((name) => xpath(text, `//outgoingServer/${name}`))).toEqual(["465", "SSL", "alice"]);
  });

  test("Apple's profile", () => {
    const text = mobileconfig(settings());
    const value = (key: string): string => xpath(text, `//key[.='${key}']/following-sibling::*[1]`);
    expect(value("EmailAccountDescription")).toBe(shown);
    expect([value("OutgoingMailServerHostName"), value("IncomingMailServerPortNumber")]).toEqual(["gateway.a.example", "993"]);
    expect(xpath(text, "name(//key[.='OutgoingMailServerUseSSL']/following-sibling::*[1])")).toBe("true");
    expect(value("PayloadUUID")).toMatch(/^[0-9A-F]{8}-[0-9A-F]{4}-8[0-9A-F]{3}-[89AB][0-9A-F]{3}-[0-9A-F]{12}$/u);
    expect(mobileconfig(settings())).toBe(text);
  });

  test("Autodiscover", () => {
    const text = autodiscover(settings());
    expect(xpath(text, "//*[local-name()='Protocol'][*[local-name()='Type']='SMTP']/*[local-name()='Port']")).toBe("465");
  });

  test("the JSON of draft-ietf-mailmaint-pacc", () => {
    expect(JSON.parse(pacc(settings()))).toEqual({
      protocols: { imap: { host: "imap.a.example" }, smtp: { host: "gateway.a.example" } },
      authentication: { password: true },
      info: { provider: { name: NASTY } },
    });
  });

  test("which leaves out a server that is not where that draft has it", () => {
    const clients = { submission: { host: "mail.a.example", port: 587, tls: "starttls" } };
    expect(JSON.parse(pacc(settingsFor(config({ clients }), ALICE)))).not.toHaveProperty("protocols.smtp");
  });

  test("a muttrc, whose words a shell could not be made to run", () => {
    const users = [{ name: '`id`"$x\\', password: "$scrypt$x", identities: [ALICE.address] }];
    const text = muttrc(settingsFor(config({ users }), ALICE));
    expect(text).toContain('set smtp_url="smtps://%60id%60%22%24x%5C@gateway.a.example:465/"');
  });

  test("and a control character that XML does not know is left out", () => {
    expect(escaped("a\u0000\u001b\uFFFE<b>")).toBe("a&lt;b&gt;");
  });
});

describe("over HTTP", () => {
  let base: string;
  let stop: () => Promise<void>;
  beforeAll(async () => {
    const opened = await openDiscovery(config({ clients: { name: "A" } }), { host: "127.0.0.1", port: 0 }, heardLog().log);
    base = `http://127.0.0.1:${opened.port}`;
    stop = () => opened.stop();
  });
  afterAll(() => stop?.());

  test.each([["/mail/config-v1.1.xml"], ["/.well-known/autoconfig/mail/config-v1.1.xml"]])(
    "%s tells everybody of the domain the same",
    async (path) => {
      const texts = await Promise.all(
        ["?emailaddress=alice@a.example", "?emailaddress=nobody@a.example", ""].map(async (query) =>
          (await fetch(`${base}${path}${query}`)).text(),
        ),
      );
      expect(new Set(texts).size).toBe(1);
      expect(xpath(texts[0] ?? "", "//outgoingServer/username")).toBe("%EMAILADDRESS%");
    },
  );

  test("the JSON is the same octets each time, as its digest in DNS wants", async () => {
    const path = "/.well-known/user-agent-configuration.json";
    const [one, two] = await Promise.all([fetch(base + path), fetch(`${base}${path}?x=1`)]);
    expect(one.headers.get("content-type")).toBe("application/json");
    expect(await one.text()).toBe(await two.text());
  });

  test("a profile is for the address that was asked, whoever it is", async () => {
    const found = await fetch(`${base}/apple.mobileconfig?email=who@a.example`);
    expect(found.headers.get("content-type")).toBe("application/x-apple-aspen-config");
    expect(xpath(await found.text(), "//key[.='EmailAddress']/following-sibling::*[1]")).toBe("who@a.example");
  });

  test("Outlook posts its question", async () => {
    const body = "<Autodiscover><Request><EMailAddress>who@a.example</EMailAddress></Request></Autodiscover>";
    const found = await fetch(`${base}/autodiscover/autodiscover.xml`, { method: "POST", body });
    expect(xpath(await found.text(), "//*[local-name()='LoginName'][1]")).toBe("who@a.example");
  });

  test.each([
    ["another domain", "GET", "/mail/config-v1.1.xml?emailaddress=x@elsewhere.example", undefined, 404],
    ["a profile for nobody", "GET", "/apple.mobileconfig", undefined, 404],
    ["an address with markup", "GET", "/apple.mobileconfig?email=%3Cx%3E@a.example", undefined, 404],
    ["another path", "GET", "/", undefined, 404],
    ["a name of every object", "GET", "/constructor", undefined, 404],
    ["another method", "PUT", "/mail/config-v1.1.xml", "x", 405],
    ["a body without end", "POST", "/autodiscover/autodiscover.xml", "x".repeat(40_000), 413],
  ])("refuses %s", async (_what, method, path, body, status) => {
    expect((await fetch(base + path, { method, ...(body !== undefined && { body }) })).status).toBe(status);
  });

  test("serves no domain that is not its own", () => {
    expect(settingsForDomain(config(), "b.example")).toBeUndefined();
  });
});

describe("kakitome client-config", () => {
  test.each([["thunderbird"], ["apple"], ["outlook"], ["mutt"]])("prints for %s, and never a password", (client) => {
    config();
    const text = must(["client-config", client, ALICE.address, "--config", file]);
    expect(text).toContain("gateway.a.example");
    expect(text).not.toContain("$scrypt$");
  });

  test("of an address that is not ours exits 1", () => {
    config();
    expect(kakitome(["client-config", "mutt", "eve@a.example", "--config", file])).toMatchObject({ status: 1 });
  });
});
