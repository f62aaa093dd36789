# Broker and gateway in one image. Build: docker build -t kakitome .
FROM node:20.20.2-bookworm-slim AS build
WORKDIR /build
COPY package.json package-lock.json ./
RUN npm install --no-audit --no-fund --loglevel=error
COPY . .
RUN node scripts/ready.mjs && npm prune --omit=dev --no-audit --no-fund

FROM node:20.20.2-bookworm-slim
ENV NODE_ENV=production
RUN groupadd --gid 10001 kakitome && useradd --uid 10001 --gid 10001 --home-dir / --shell /usr/sbin/nologin kakitome \
    && install -d -o kakitome -g kakitome -m 700 /broker /gateway-a /gateway-b \
    && install -d -o kakitome -g kakitome -m 755 /redis /mail
COPY --from=build /build/node_modules /usr/lib/kakitome/node_modules
COPY --from=build /build/dist /usr/lib/kakitome/dist
COPY --from=build /build/package.json /usr/lib/kakitome/package.json
COPY --chmod=755 docker/setup.sh docker/enrol.sh /usr/local/bin/
RUN chmod 755 /usr/lib/kakitome/dist/cli/main.js && ln -s /usr/lib/kakitome/dist/cli/main.js /usr/local/bin/kakitome
USER 10001:10001
# CONFIG is the configuration of the process that runs; it needs a health listener in it.
ENV CONFIG=/gateway/gateway.yaml
HEALTHCHECK --interval=10s --timeout=5s --start-period=30s CMD kakitome readyz --config "$CONFIG"
ENTRYPOINT ["kakitome"]
