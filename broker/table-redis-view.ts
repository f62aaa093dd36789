/** Who may take part, as a broker remembers it from Redis: good as long as one key there, which every change writes anew, says the same. */
import type { GatewayRecord, MailboxRecord, RegistryView } from "./table.ts";

/** So many answers are remembered at most. */
const MOST = 50_000;

export class RememberedRegistry implements RegistryView {
  readonly #registry: RegistryView;
  readonly #gateways = new Map<string, Promise<GatewayRecord | undefined>>();
  readonly #mailboxes = new Map<string, Promise<MailboxRecord | undefined>>();
  readonly #revoked = new Map<string, Promise<boolean>>();

  /** @param registry is asked what was not asked before */
  constructor(registry: RegistryView) {
    this.#registry = registry;
  }

  findGateway(fingerprint: string): Promise<GatewayRecord | undefined> {
    return this.#remembered(this.#gateways, fingerprint, () => this.#registry.findGateway(fingerprint));
  }

  findMailbox(address: string): Promise<MailboxRecord | undefined> {
    return this.#remembered(this.#mailboxes, address, () => this.#registry.findMailbox(address));
  }

  isRevoked(names: readonly string[]): Promise<boolean> {
    return this.#remembered(this.#revoked, names.join(" "), () => this.#registry.isRevoked(names));
  }

  /** What could not be answered is asked again the next time. */
  #remembered<T>(known: Map<string, Promise<T>>, name: string, ask: () => Promise<T>): Promise<T> {
    const before = known.get(name);
    if (before) return before;
    if (this.#gateways.size + this.#mailboxes.size + this.#revoked.size >= MOST) known.clear();
    const asked = ask();
    known.set(name, asked);
    asked.catch(() => known.get(name) === asked && known.delete(name));
    return asked;
  }
}
