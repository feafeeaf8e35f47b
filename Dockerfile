# graphmill in an image: the release binary, no compiler, no root, and no servers of its own.
# `docker compose build` makes it; docker-compose.yml says how it runs.

FROM rust:1-bookworm AS build
WORKDIR /build
COPY . .
# The queries are described in .sqlx, so no database is needed here.
ENV SQLX_OFFLINE=true
RUN cargo build --release --locked

FROM debian:bookworm-slim
# Certificates: Postgres, Redis and models may be on the other side of TLS.
RUN apt-get update \
    && apt-get install -y --no-install-recommends ca-certificates \
    && rm -rf /var/lib/apt/lists/*
RUN useradd --system --uid 10001 --create-home --home-dir /var/lib/graphmill graphmill
COPY --from=build /build/target/release/graphmill /usr/local/bin/graphmill
USER graphmill
WORKDIR /var/lib/graphmill
ENTRYPOINT ["graphmill"]
CMD ["--help"]
