/** `kakitome broker org|gateway|cert|session`: who takes part, and how letters stand; the broker may run meanwhile. */
import type { Command } from "commander";
import { overview } from "../broker/main.ts";
import { Fault } from "../mime/fault.ts";
import { say } from "./say.ts";
import { asBroker } from "./service.ts";

interface Options {
  readonly config: string;
  readonly json?: true;
}

export function addOverview(broker: Command): void {
  const add = (name: string, description: string): Command =>
    broker
      .command(name)
      .description(description)
      .option("--config <file>", "configuration", "broker.yaml")
      .option("--json", "one JSON document");
  add("org", "domains and addresses with the gateways that act for them").action(async ({ config, json }: Options) => {
    const organisations = await overview.organisations(asBroker(config));
    const words = organisations.map(
      ({ scope, gateways, mailboxes }) => `${scope}  ${gateways.join(", ") || "no gateway that counts"}; mailboxes: ${mailboxes}`,
    );
    say(json, { organisations }, words.length > 0 ? words : "Nobody is enrolled.");
  });
  add("gateway", "gateways by their channel certificates").action(async ({ config, json }: Options) => {
    const gateways = await overview.gateways(asBroker(config));
    const words = gateways.map(
      ({ fingerprint, name, scope, enrolledAt, renews, revoked }) =>
        `${fingerprint}  ${name}, for ${scope.join(" ")}, since ${enrolledAt}${renews === undefined ? "" : `, renews ${renews.slice(0, 12)}`}${revoked ? ", REVOKED" : ""}`,
    );
    say(json, { gateways }, words.length > 0 ? words : "No gateway is enrolled.");
  });
  add("cert", "certificates of the mailboxes")
    .argument("[address]", "of this mailbox only")
    .action(async (address: string | undefined, { config, json }: Options) => {
      const certificates = await overview.certificates(asBroker(config), address);
      const words = certificates.map(
        ({ address: whose, use, serial, notAfter, former, revoked }) =>
          `${whose}  ${use} ${serial}, until ${notAfter}${former ? ", former" : ""}${revoked ? ", REVOKED" : ""}`,
      );
      say(json, { certificates }, words.length > 0 ? words : "No mailbox is enrolled.");
    });
  add("session", "how many letters are in which state; or one letter's rows. It goes through the whole table")
    .argument("[name]", "a Message-ID, or a session as logs name it; exit 1 where there is none")
    .action(async (name: string | undefined, { config, json }: Options) => {
      if (name === undefined) {
        const states = await overview.states(asBroker(config));
        say(
          json,
          { states },
          Object.entries(states).map(([state, count]) => `${state}  ${count}`),
        );
        return;
      }
      if (!/^(?:<[^<>\s]+>|[0-9a-f]{12,64})$/u.test(name)) {
        throw new Fault("malformed", `"${name}" is neither a Message-ID in angle brackets nor at least twelve digits of a session`);
      }
      const sessions = await overview.sessions(asBroker(config), name);
      const words = sessions.map((row) =>
        Object.entries(row)
          .map(([field, value]) => `${field}: ${value}`)
          .join("\n"),
      );
      say(json, { sessions }, words.length > 0 ? words.join("\n\n") : "There is no such letter, or it was forgotten.");
      process.exitCode = sessions.length > 0 ? 0 : 1;
    });
}
