#!/usr/bin/env node
/** The command `kakitome`: one subcommand a file; a fault is one line on standard error and exit code 1. */
import { Command, CommanderError } from "commander";
import { Fault } from "../mime/fault.ts";
import { addCertificate } from "./certificate.ts";
import { addBroker } from "./broker.ts";
import { addConfig } from "./config.ts";
import { addDemo } from "./demo.ts";
import { addEnrol } from "./enrol.ts";
import { addFilters } from "./filter.ts";
import { addGateway } from "./gateway.ts";
import { addInit } from "./init.ts";
import { addStatus } from "./status.ts";
import { addUser } from "./user.ts";
import { addVerify } from "./verify.ts";

const program = new Command("kakitome")
  .description("Registered mail for S/MIME: a broker holds the key of each letter back until it is opened, and signs the receipt.")
  .exitOverride()
  .showHelpAfterError("(try: kakitome --help)");
for (const add of [addDemo, addInit, addBroker, addEnrol, addGateway, addUser, addConfig, addStatus, addVerify, addFilters, addCertificate])
  add(program);

try {
  await program.parseAsync();
} catch (thrown) {
  if (thrown instanceof CommanderError) process.exitCode = thrown.exitCode === 0 ? 0 : 2;
  else {
    const fault = Fault.from(thrown);
    console.error(fault.code === "malformed" ? fault.message : `kakitome: ${fault.advice ?? fault.message}`);
    if (fault.code === "internal" && thrown instanceof Error) console.error(thrown.stack);
    process.exitCode = 1;
  }
}
