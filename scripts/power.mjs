// npm run power -- [--machines a,b] [--seeds 2] [--from 1] [--every 1]: cuts the power of a gateway after everything that it does to its disk, and judges what became of the letters.
import { runSoak } from "./soak.mjs";

runSoak("power", {
  machines: "KAKITOME_POWER_MACHINES",
  seeds: "KAKITOME_POWER_SEEDS",
  from: "KAKITOME_POWER_FROM",
  every: "KAKITOME_POWER_EVERY",
});
