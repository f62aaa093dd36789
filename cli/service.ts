/** The configuration of a command that works beside a service, or is one: what it writes must be the service's own. */
import { loadBroker, loadEither, loadGateway } from "../config/load.ts";
import { actAsOwner } from "../config/owner.ts";

const owned = <T extends { data: string }>(config: T): T => {
  actAsOwner(config.data);
  return config;
};

/** As `loadBroker`; root becomes the owner of its data folder, and reads other files before if they are root's. */
export const asBroker = (file: string): ReturnType<typeof loadBroker> => owned(loadBroker(file));

/** As `loadGateway`, likewise. */
export const asGateway = (file: string): ReturnType<typeof loadGateway> => owned(loadGateway(file));

/** As `loadEither`, likewise. */
export function asEither(file: string): ReturnType<typeof loadEither> {
  const loaded = loadEither(file);
  actAsOwner(loaded.config.data);
  return loaded;
}
