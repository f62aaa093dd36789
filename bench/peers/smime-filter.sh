#!/bin/bash
# smime-filter.sh FOLDER PORT SENDER RECIPIENT: a content filter of Postfix by pipe(8). It signs and encrypts the mail on standard input
# with the openssl command and hands it back to Postfix by SMTP. Exit 75 (EX_TEMPFAIL): Postfix tries again.
set -o pipefail
cd "$1" || exit 75
mail=$(mktemp) || exit 75
trap 'rm -f "$mail"' EXIT
openssl cms -sign -signer alice.sign.crt -inkey alice.sign.key |
  openssl cms -encrypt -aes-256-cbc -from "$3" -to "$4" -subject "[...]" -crlfeol bob.crypt.crt > "$mail" || exit 75
exec 3<> "/dev/tcp/127.0.0.1/$2" || exit 75
say() { # a command whose reply must begin with this digit
  [ -z "$2" ] || printf '%s\r\n' "$2" >&3
  local line
  while read -r line <&3; do [[ $line == ???-* ]] || break; done
  [[ $line == "$1"* ]] || exit 75
}
say 2 ""
say 2 "HELO filter.example"
say 2 "MAIL FROM:<$3>"
say 2 "RCPT TO:<$4>"
say 3 "DATA"
cat "$mail" >&3
say 2 "."
printf 'QUIT\r\n' >&3
