/** `kakitome client-config`: the settings of a mailbox for a mail client, as a file that it reads or as lines to type in. */
import { Argument, type Command } from "commander";
import { CLIENT_FORMATS, settingsFor } from "../gateway/main.ts";
import { parseMailbox } from "../mime/address.ts";
import { asGateway } from "./service.ts";

const CLIENTS = {
  thunderbird: CLIENT_FORMATS.autoconfig,
  apple: CLIENT_FORMATS.mobileconfig,
  outlook: CLIENT_FORMATS.listed,
  mutt: CLIENT_FORMATS.muttrc,
} as const;

export function addClientConfig(program: Command): void {
  program
    .command("client-config")
    .description("print the settings of a mailbox for a mail client; without a password in them")
    .addArgument(
      new Argument(
        "<client>",
        "thunderbird: autoconfig XML; apple: a .mobileconfig profile; outlook: lines to type in; mutt: lines for .muttrc",
      ).choices(Object.keys(CLIENTS)),
    )
    .argument("<address>", "a mailbox of the gateway")
    .option("--config <file>", "the gateway's configuration", "gateway.yaml")
    .option("--json", "the settings as one JSON document")
    .action((client: keyof typeof CLIENTS, address: string, { config, json }: { config: string; json?: true }) => {
      const settings = settingsFor(asGateway(config), parseMailbox(address));
      process.stdout.write(json ? `${JSON.stringify(settings, null, 2)}\n` : CLIENTS[client](settings));
    });
}
