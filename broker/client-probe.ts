/** A look at a broker's door as it is, before any trust: which certificate it shows, whether it holds, and what time it is there. */
import type { ClientRequest } from "node:http";
import { request } from "node:https";
import type { TLSSocket } from "node:tls";
import { parseCertificate, type Certificate } from "../mime/certificate.ts";
import { Fault } from "../mime/fault.ts";

export interface Probed {
  readonly certificate: Certificate;
  /** What is wrong with it against the trusted roots and the name in the URL; undefined where it holds. */
  readonly complaint: string | undefined;
  /** The broker's clock, to the second. */
  readonly date: Date | undefined;
  /** Whether it says that it is ready, and its words where it is not. */
  readonly ready: boolean;
  readonly words: string;
}

/** @throws Fault `unavailable`: nobody answers, or something that is no TLS 1.3 */
export function probe(url: string, roots: readonly Certificate[], signal: AbortSignal): Promise<Probed> {
  return new Promise((resolve, reject) => {
    const refuse = (cause: unknown): void => reject(new Fault("unavailable", `${url} does not answer`, { cause }));
    const options = {
      ca: roots.map(({ pem }) => pem),
      rejectUnauthorized: false,
      minVersion: "TLSv1.3" as const,
      agent: false as const,
      signal,
    };
    const sent: ClientRequest = request(new URL("/v1/ready", url), options, (response) => {
      const socket = response.socket as TLSSocket;
      const shown = socket.getPeerX509Certificate();
      let words = "";
      response.setEncoding("utf8").on("data", (text: string) => (words += text.slice(0, 10_000)));
      response.on("error", refuse).on("end", () => {
        if (!shown) return refuse(new Error("no certificate"));
        const certificate = parseCertificate(shown.raw);
        const date = new Date(response.headers.date ?? "");
        resolve({
          certificate,
          complaint: socket.authorized ? undefined : socket.authorizationError.toString(),
          date: Number.isNaN(date.getTime()) ? undefined : date,
          ready: response.statusCode === 200,
          words: detailIn(words),
        });
      });
    });
    sent.on("error", refuse).end();
  });
}

/** The detail of a problem document. */
function detailIn(text: string): string {
  try {
    const problem: unknown = JSON.parse(text);
    const [detail, title] = ["detail", "title"].map((name) =>
      typeof problem === "object" && problem ? Reflect.get(problem, name) : undefined,
    );
    return String(detail ?? title ?? "");
  } catch {
    return text.slice(0, 200);
  }
}
