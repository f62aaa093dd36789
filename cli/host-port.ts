/** `host:port` on the command line, read as in a configuration: IPv6 hosts in brackets, which are not part of the host. */
import { listen } from "../config/parsed.ts";
import { Fault } from "../mime/fault.ts";

export interface HostPort {
  readonly host: string;
  readonly port: number;
}

/** @throws Fault `malformed` naming the flag */
export function hostPort(flag: string, text: string): HostPort {
  const { data } = listen.safeParse(text);
  if (!data) throw new Fault("malformed", `${flag} ${text}: write host:port`);
  return data;
}
