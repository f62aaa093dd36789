/** What the gateway's primary process and a worker have to say to each other. */
import type { Facts } from "../config/log.ts";
import type { GatewayConfig } from "../config/schema.ts";
import type { Orders } from "../config/worker.ts";
import type { Letter, Letters } from "./letters.ts";
import type { Relay } from "./relay.ts";
import type { Submission } from "./submission.ts";
import type { Transit } from "./transit.ts";

/** What a worker opened. */
export interface Opened {
  /** Of the doors, in the order of the configuration. */
  readonly ports: readonly number[];
}

/** Files that the primary replaced. */
export interface Renewed {
  /** Addresses of mailboxes with other certificates. */
  readonly mailboxes: readonly string[];
  /** Whether the channel has another one. */
  readonly channel: boolean;
}

/** What the process of a sender does for it. */
type ForSender = {
  readonly consign: { readonly about: Submission; readonly answer: string };
  readonly passOn: { readonly about: Transit; readonly answer: string };
  readonly add: { readonly about: Letter; readonly answer: void };
  readonly change: { readonly about: Parameters<Letters["change"]>; readonly answer: boolean };
};

/** Questions to a worker. */
export type ToWorker = Orders<GatewayConfig, Opened> &
  ForSender & {
    /** Reads them. */
    readonly renewed: { readonly about: Renewed; readonly answer: void };
    /** What waits in its part of the spool. */
    readonly waiting: { readonly about: undefined; readonly answer: Relay["waiting"] };
    /** Lets letters that are coming in be accepted, and takes no more. */
    readonly close: { readonly about: undefined; readonly answer: void };
  };

/** Questions to the primary: it knows the worker of each sender. */
export type ToPrimary = ForSender;

/** Lines of a worker's log, to be counted. */
export type WorkerNews = Facts;
