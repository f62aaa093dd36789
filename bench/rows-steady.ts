import type { Row } from "./row.ts";
export const steady: readonly Row[] = [];
