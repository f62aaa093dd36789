/** `kakitome user add`: a user who may submit mail, with a scrypt hash in the gateway's configuration. */
import { readFileSync } from "node:fs";
import type { Command } from "commander";
import { isSeq, parseDocument } from "yaml";
import { checkGateway, loadGateway } from "../config/load.ts";
import { hashPassword, replaceDurably } from "../gateway/main.ts";
import { parseMailbox } from "../mime/address.ts";
import { Fault } from "../mime/fault.ts";
import { firstLine } from "./given.ts";
import { say } from "./say.ts";

export function addUser(program: Command): void {
  program
    .command("user")
    .description("users who may submit mail")
    .command("add")
    .description("add a user, or give one a new password; the password is the first line of standard input")
    .argument("<name>", "the name for AUTH")
    .requiredOption("--identity <address...>", "addresses the user may send as")
    .option("--config <file>", "the gateway's configuration", "gateway.yaml")
    .option("--json", "one JSON document")
    .action(async (name: string, { identity, config: file, json }: { identity: string[]; config: string; json?: true }) => {
      if (name === "") throw new Fault("malformed", "a user needs a name");
      loadGateway(file); // a file with mistakes is not written to
      const identities = identity.map((text) => parseMailbox(text).address);
      const password = await firstLine("Password");
      if (password.length < 8) throw new Fault("malformed", "a password needs at least 8 characters");
      const document = parseDocument(readFileSync(file, "utf8"));
      const user = { name, password: await hashPassword(password), identities };
      const users = document.get("users");
      const at = isSeq(users) ? users.items.findIndex((_, index) => document.getIn(["users", index, "name"]) === name) : -1;
      if (at >= 0) document.setIn(["users", at], document.createNode(user));
      else if (isSeq(users)) users.add(document.createNode(user));
      else document.set("users", document.createNode([user]));
      const text = document.toString();
      checkGateway(file, text);
      await replaceDurably(file, Buffer.from(text));
      say(
        json,
        { user: name, identities, isNew: at < 0 },
        `${name} may send as ${identities.join(", ")}. A gateway that runs lets it in after kakitome reload.`,
      );
    });
}
