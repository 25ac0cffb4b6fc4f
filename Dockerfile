# The `vintner` binary on a small system, run by a user without rights.
#   docker build --tag vintner .

FROM rust:1.95-slim-bookworm AS build
RUN apt-get update \
    && apt-get install --yes --no-install-recommends build-essential cmake \
    && rm -rf /var/lib/apt/lists/*
WORKDIR /src
COPY . .
# The caches outlive the build, so that a changed line does not compile the dependencies again.
RUN --mount=type=cache,target=/usr/local/cargo/registry \
    --mount=type=cache,target=/src/target \
    cargo build --locked --release --package vintner-cli \
    && cp target/release/vintner /usr/local/bin/vintner

FROM debian:bookworm-slim
# Certificates: for registries and offline stores on object stores.
RUN apt-get update \
    && apt-get install --yes --no-install-recommends ca-certificates \
    && rm -rf /var/lib/apt/lists/* \
    && useradd --system --uid 10001 --home-dir /var/lib/vintner --create-home vintner
COPY --from=build /usr/local/bin/vintner /usr/local/bin/vintner
USER vintner
# The feature repo is mounted here; /var/lib/vintner is for what the stores keep.
WORKDIR /repo
ENTRYPOINT ["vintner"]
CMD ["serve"]
