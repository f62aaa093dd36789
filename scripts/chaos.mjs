// npm run chaos -- [--minutes 10] [--seed N] [--rate 4] [--workers 1]: kills processes at random while mails are sent, then judges what became of the letters.
import { runSoak } from "./soak.mjs";

runSoak("chaos", {
  minutes: "KAKITOME_CHAOS_MINUTES",
  seed: "KAKITOME_CHAOS_SEED",
  rate: "KAKITOME_CHAOS_RATE",
  workers: "KAKITOME_CHAOS_WORKERS",
});
