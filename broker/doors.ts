/** The doors of one process: the gateways', and the operator's where there is one. */
import { Lifecycle, type Running } from "../config/lifecycle.ts";
import { startAdmin } from "./admin.ts";
import type { Instance } from "./instance.ts";
import { startServer } from "./server.ts";

export interface Doors extends Running {
  /** Of the gateways' door. */
  readonly port: number;
  /** Shows the certificate and counts by the limits that the instance has now; connections stay. */
  renew(): void;
}

/** Opens them. Of several processes that share a listening socket each has doors of its own. */
export async function openDoors(instance: Instance): Promise<Doors> {
  const { config, broker, limits, tls } = instance;
  const open = new Lifecycle();
  try {
    const admin = config.admin && (await startAdmin(broker, config.admin, tls, limits));
    if (admin) open.onStop(() => admin.stop());
    const server = await startServer(broker, config.listen, tls, limits);
    open.onStop(() => server.stop());
    return {
      port: server.port,
      renew() {
        for (const door of [admin, server]) door?.renew(instance.tls, limits);
      },
      stop: () => open.stop(),
    };
  } catch (thrown) {
    await open.stop();
    throw thrown;
  }
}
