# The two ordinary mail servers of the demo: Postfix between the offices, Dovecot with the mailboxes.
FROM debian:12.12-slim AS postfix
RUN apt-get update && DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends postfix && rm -rf /var/lib/apt/lists/*
COPY docker/postfix/main.cf /etc/postfix/main.cf
HEALTHCHECK --interval=5s --timeout=5s CMD postfix status
CMD ["postfix", "start-fg"]

FROM debian:12.12-slim AS dovecot
RUN apt-get update && apt-get install -y --no-install-recommends dovecot-imapd dovecot-lmtpd && rm -rf /var/lib/apt/lists/* \
    && useradd --system --uid 10002 --home-dir /var/vmail --create-home --shell /usr/sbin/nologin vmail
COPY docker/dovecot/dovecot.conf /etc/dovecot/dovecot.conf
HEALTHCHECK --interval=5s --timeout=5s CMD doveadm service status imap-login
CMD ["dovecot", "-F"]
