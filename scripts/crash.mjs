// npm run crash -- [--repeats 20] [--points a2,k7] [--workers 1] [--out FILE]: kills every process at every named point and judges what became of the letters.
import { runSoak } from "./soak.mjs";

runSoak("crash", {
  repeats: "KAKITOME_CRASH_REPEATS",
  points: "KAKITOME_CRASH_POINTS",
  workers: "KAKITOME_CRASH_WORKERS",
  out: "KAKITOME_CRASH_OUT",
});
