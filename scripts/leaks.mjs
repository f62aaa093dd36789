// npm run leaks -- [--mails 1000] [--seed N]: sends letters, kills processes, then looks for texts and keys on every disk.
import { runSoak } from "./soak.mjs";

runSoak("leaks", { mails: "KAKITOME_LEAKS_MAILS", seed: "KAKITOME_LEAKS_SEED" });
