# syntax=docker/dockerfile:1
# glibc, not musl: uWebSockets.js and the embedded ClickHouse are binaries for it.
ARG NODE_IMAGE=node:22.23.3-bookworm-slim

FROM ${NODE_IMAGE} AS build
WORKDIR /build
COPY package.json package-lock.json ./
# The JavaScript compiler builds here: without optional packages there is nothing for one platform alone to download.
RUN npm ci --omit=optional --no-audit --no-fund
COPY tsconfig.json ./
COPY scripts/build.js ./scripts/
COPY src ./src
RUN npm run --silent build

FROM ${NODE_IMAGE} AS packages
WORKDIR /build
COPY package.json package-lock.json ./
# `--build-arg OMIT=optional` leaves out the embedded ClickHouse, 570 MB, where PENSTOCK_CLICKHOUSE_URL is always set.
ARG OMIT=""
RUN npm ci --omit=dev ${OMIT:+--omit=${OMIT}} --no-audit --no-fund

FROM ${NODE_IMAGE}
LABEL org.opencontainers.image.title="penstock" \
      org.opencontainers.image.description="Durable HTTP event ingestion and exact event metrics on ClickHouse" \
      org.opencontainers.image.licenses="MIT"
WORKDIR /opt/penstock
COPY --from=packages /build/node_modules ./node_modules
COPY --from=build /build/dist/src ./dist/src
COPY --from=build /build/dist/assets ./dist/assets
COPY bin ./bin
COPY package.json schema.sql LICENSE ./
# Owned before it becomes a volume: a new volume takes the owner over.
RUN install -d -o node -g node -m 0750 /var/lib/penstock
ENV NODE_ENV=production \
    PENSTOCK_HOST=0.0.0.0 \
    PENSTOCK_ADMIN_HOST=0.0.0.0 \
    PENSTOCK_DATA_DIR=/var/lib/penstock \
    PENSTOCK_DRAIN_DELAY_MS=3000
VOLUME /var/lib/penstock
EXPOSE 8080 9464
# By number, so that Kubernetes can see that it is not root.
USER 1000:1000
# Asks whether the process serves, not whether it is ready: a full log is no reason to restart it.
HEALTHCHECK --interval=10s --timeout=3s --start-period=30s --retries=3 \
  CMD ["node", "-e", "fetch('http://127.0.0.1:' + (process.env.PENSTOCK_PORT || process.env.PORT || 8080) + '/health').then((r) => process.exit(r.ok ? 0 : 1), () => process.exit(1))"]
# Exec form: SIGTERM reaches the process, which then drains. Give it 15 s (`docker stop -t 15`): 3 s delay, 8 s shipping.
ENTRYPOINT ["/opt/penstock/bin/penstock"]
CMD ["serve"]
