/** Rows of the recipient's side. */
import type { Row } from "./row.ts";
import { backlog } from "./rows-backlog.ts";
import { idle } from "./rows-idle.ts";
import { inbound } from "./rows-inbound.ts";

export const receiving: readonly Row[] = [inbound, backlog, idle];
