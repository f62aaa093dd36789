#!/bin/sh
# Enrols both gateways with the running broker, once each. PLACE goes before every folder.
set -eu
place=${PLACE:-}
for name in a b; do
  folder=$place/gateway-$name
  [ ! -f "$folder/data/keys/gateway.crt.pem" ] || continue
  invitation=$(kakitome broker invite --config "$place/broker/broker.yaml" --for "$name.example" --json)
  part() { printf '%s' "$invitation" | sed "s/.*\"$1\":\"\([^\"]*\)\".*/\1/"; }
  part token | kakitome enrol --config "$folder/gateway.yaml" --fingerprint "$(part fingerprint)" --token-file -
done
