/** Where Redis is: one server, a primary that sentinels name, or a cluster; and connections that never repeat a command behind our back. */
import { Cluster, Redis } from "ioredis";
import { Fault } from "../mime/fault.ts";

interface Host {
  readonly host: string;
  readonly port: number;
}

export interface RedisAddress {
  /** `redis://` or `rediss://`, with user and password; or one of the two below. */
  readonly url?: string | undefined;
  /** The sentinels, and the name under which they know the primary. */
  readonly sentinel?: { readonly name: string; readonly hosts: readonly Host[]; readonly password?: string | undefined } | undefined;
  /** Some nodes of a cluster. */
  readonly cluster?: readonly Host[] | undefined;
  /** For sentinel and cluster; a URL holds its own. */
  readonly user?: string | undefined;
  readonly password?: string | undefined;
  readonly tls?: boolean | undefined;
  /** PEM of the authorities to trust instead of the system's. */
  readonly ca?: string | undefined;
}

/** One for each value of the first byte of a session hash. */
export const BUCKETS: readonly string[] = Array.from({ length: 256 }, (_none, byte) => byte.toString(16).padStart(2, "0"));

export type Client = Redis | Cluster;

/** Milliseconds until an unanswered command counts as failed. */
const ANSWER_WITHIN = 2_000;
const CONNECT_WITHIN = 5_000;
const RECONNECT_STEP = 50;
const RECONNECT_AT_MOST = 1_000;
/** The nodes of a cluster that is just starting need a moment to agree; this is five seconds of attempts. */
const CLUSTER_FIRST_TRIES = 50;

/** @param reconnects whether a lost connection is to be made again */
export function connectionTo(address: RedisAddress, reconnects: () => boolean): Client {
  const { url, sentinel, cluster, user, password, tls, ca } = address;
  const retry = (times: number): number | null => (reconnects() ? Math.min(times * RECONNECT_STEP, RECONNECT_AT_MOST) : null);
  const secure = ca === undefined ? {} : { ca };
  const options = {
    connectTimeout: CONNECT_WITHIN,
    commandTimeout: ANSWER_WITHIN,
    // A queue would carry out later what the caller has already given up on.
    enableOfflineQueue: false,
    autoResendUnfulfilledCommands: false,
    maxRetriesPerRequest: 0,
    reconnectOnError: (error: Error) => error.message.startsWith("READONLY"), // the primary is another one now
    ...(user !== undefined && { username: user }),
    ...(password !== undefined && { password }),
    ...((tls || (ca !== undefined && url === undefined)) && { tls: secure }),
  };
  if (url !== undefined) {
    const single = { ...options, ...(url.startsWith("rediss:") && { tls: secure }), lazyConnect: true, retryStrategy: retry };
    return new Redis(url, single);
  }
  if (sentinel) {
    return new Redis({
      ...options,
      lazyConnect: true,
      retryStrategy: retry,
      sentinels: [...sentinel.hosts],
      name: sentinel.name,
      sentinelRetryStrategy: retry,
      ...(sentinel.password !== undefined && { sentinelPassword: sentinel.password }),
      ...(tls && { enableTLSForSentinelMode: true, sentinelTLS: secure }),
    });
  }
  if (!cluster) throw new Fault("internal", "an address of Redis without a place");
  return new Cluster([...cluster], {
    redisOptions: options,
    lazyConnect: true,
    enableOfflineQueue: false,
    clusterRetryStrategy: (times) => (times <= CLUSTER_FIRST_TRIES ? RECONNECT_STEP * 2 : retry(times)),
    maxRedirections: 4, // each of them after a refusal: what was refused was not carried out
    retryDelayOnFailover: RECONNECT_STEP,
    retryDelayOnClusterDown: RECONNECT_STEP,
  });
}

/** Every server that takes writes. */
export function mastersOf(client: Client): Redis[] {
  return client instanceof Cluster ? client.nodes("master") : [client];
}
