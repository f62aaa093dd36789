import type { Row } from "./row.ts";
export const receiving: readonly Row[] = [];
