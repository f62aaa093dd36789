#!/bin/sh
# Makes what the containers of docker-compose.yml need, once: configurations, passwords, certificates. PLACE goes before every folder.
set -eu
umask 077
place=${PLACE:-}
broker=${BROKER:-broker:8443} redis=${REDIS:-redis:6379} smtp=${SMTP:-postfix:25} imap=${IMAP:-dovecot:143}
# The listener that HEALTHCHECK asks.
health() { ! kakitome --help | grep -q ' readyz ' || printf 'health: { listen: "%s" }\n' "127.0.0.1:9464" >> "$1"; }
# In hexadecimal: no password begins with a dash, which a command would take for an option.
secret() { head -c 18 /dev/urandom | od -An -tx1 | tr -d ' \n'; }

# The last thing that is made. What a setup left that was cut off before that has been used by nobody.
[ ! -f "$place/mail/users" ] || { echo "Everything is there already."; exit 0; }
for folder in broker redis mail gateway-a gateway-b; do find "$place/$folder" -mindepth 1 -delete; done

kakitome init broker --dir "$place/broker" --url "https://$broker" --listen "${BROKER_LISTEN:-0.0.0.0:8443}" \
  --receipts-from registered-mail@broker.example --relay "$smtp" --relay-tls none
password=$(secret)
printf '%s\n' "$password" > "$place/broker/redis.password"
sed -i "s|^table: embedded\$|table: { redis: \"redis://default@$redis\", passwordFile: redis.password }|" "$place/broker/broker.yaml"
health "$place/broker/broker.yaml"
# What the broker demands of its table: every step on the disk before it is answered, and nothing thrown away.
cat > "$place/redis/redis.conf" <<CONF
requirepass $password
appendonly yes
appendfsync always
maxmemory-policy noeviction
CONF
chmod 644 "$place/redis/redis.conf"

: > "$place/mail/users.unfinished"
for office in a:alice b:bob; do
  name=${office%%:*} person=${office##*:}
  address=$person@$name.example folder=$place/gateway-$name
  kakitome init gateway --dir "$folder" --name "gateway.$name.example" --broker "https://$broker" --mailbox "$address" \
    --imap "$imap" --imap-tls none --relay "$smtp" --relay-tls none --listen "0.0.0.0:${SUBMISSION:-587}" --json > /dev/null
  health "$folder/gateway.yaml"
  password=$(secret)
  printf '%s\n' "$password" > "$folder/$address.password"
  printf '%s:{PLAIN}%s\n' "$address" "$password" >> "$place/mail/users.unfinished"
  printf '%s\n' "$password" | kakitome user add "$address" --identity "$address" --config "$folder/gateway.yaml" > /dev/null
  echo "$address  password $password  (SMTP at gateway.$name.example, IMAP at dovecot)"
done
chmod 644 "$place/mail/users.unfinished"
mv "$place/mail/users.unfinished" "$place/mail/users"
