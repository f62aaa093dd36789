/** The systemd unit of a new installation: config/kakitome-*.service with the paths of this machine. */
import { readFileSync, writeFileSync } from "node:fs";
import { basename, join } from "node:path";

/** systemd takes `%` for a specifier, and white space for the end of a path. */
const quoted = (path: string): string => {
  const plain = path.replaceAll("%", "%%");
  return /[\s"\\]/u.test(plain) ? JSON.stringify(plain) : plain;
};

/** Writes the unit into the folder. @returns its path */
export function writeUnit(kind: "broker" | "gateway", folder: string, config: string): string {
  const name = `kakitome-${kind}.service`;
  const command = [process.execPath, process.argv[1] ?? "", kind, "run", "--config", config].map((word) => quoted(word)).join(" ");
  const unit = readFileSync(join(import.meta.dirname, "..", "config", name), "utf8")
    .replace(/^ExecStart=.*$/mu, () => `ExecStart=${command}`)
    .replace(/^ReadWritePaths=.*$/mu, () => `ReadWritePaths=${quoted(folder)}`);
  const file = join(folder, name);
  writeFileSync(file, unit, { mode: 0o644 });
  return file;
}

/** The commands that run it, for a shell of root. */
export function serviceSteps(unit: string, folder: string): string[] {
  return [
    "id kakitome || useradd --system --home-dir / --shell /usr/sbin/nologin kakitome",
    `chown -R kakitome: ${folder}`,
    `cp ${unit} /etc/systemd/system/`,
    `systemctl daemon-reload && systemctl enable --now ${basename(unit)}`,
  ];
}
