# One image for ECS and for Lambda: the same binary, which finds out where it is.
#
#   docker build -t millrace .
#   docker run --rm -p 8080:8080 -e MILLRACE_DATABASE__URL=… millrace
#
# and one to try, with its stores inside:
#
#   docker build -t millrace-try --build-arg FEATURES=embedded .
#   docker run --rm -p 8080:8080 millrace-try
#
# Any builder will do: nothing here needs a frontend of BuildKit's. The bases are of
# Debian 13, for their C library to be the same; by their digests, which Dependabot
# moves on.

# Has a C library, public authorities and an unprivileged user, and no shell.
FROM gcr.io/distroless/cc-debian13:nonroot@sha256:e792ab3d241a468a4fd7519ddbbebe66b49b5f365771716ea688ad40b6c6f1c2 AS runtime
#checkov:skip=CKV_DOCKER_2:there is no shell to check with; the load balancer asks /health/ready, Lambda has no use for it
# The authorities of RDS in every region, for MILLRACE_DATABASE__CA_FILE.
COPY deploy/rds-global-bundle.pem /etc/ssl/certs/rds.pem
COPY LICENSE /usr/share/doc/millrace/LICENSE
# Everything else it needs says the platform, or who runs it.
ENV MILLRACE_HTTP__LISTEN=0.0.0.0:8080 \
    MILLRACE_HTTP__DRAIN_GRACE_S=5 \
    MILLRACE_LOG__FORMAT=json \
    MILLRACE_DATA_DIR=/home/nonroot/data
# The base's is its user's own directory, where Lambda, whose user is another, could not
# start anything.
WORKDIR /
# The image's user `nonroot`.
USER 65532:65532
EXPOSE 8080
ENTRYPOINT ["/usr/local/bin/millrace"]

FROM rust:1.95-slim-trixie@sha256:275c320a57d0d8b6ab09454ab6d1660d70c745fb3cc85adbefad881b69a212cc AS build
WORKDIR /build
# ring compiles C.
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install --yes --no-install-recommends gcc libc6-dev \
    && rm -rf /var/lib/apt/lists/*

# Writes into the binary which crates are in it, for scanners to read.
RUN cargo install --quiet --locked cargo-auditable@0.7.7

# `dev` builds in minutes, for tests. Without features it is what is deployed.
ARG PROFILE=dist
ARG FEATURES=""

# Dependencies alone, so that a change of ours builds only ours. Cargo asks for
# the file of every target that Cargo.toml names, benches too, built or not.
COPY rust-toolchain.toml Cargo.toml Cargo.lock ./
RUN mkdir src benches \
    && sed -n '/^\[\[bench\]\]/{n;s/^name = "\(.*\)"$/benches\/\1.rs/p}' Cargo.toml >benches/files \
    && xargs touch <benches/files \
    && touch src/lib.rs \
    && echo 'fn main() {}' >src/main.rs \
    && cargo auditable build --locked --profile "$PROFILE" --no-default-features --features "$FEATURES" \
    && rm -rf src target/*/.fingerprint/millrace-*

COPY config.toml ./
COPY migrations migrations
COPY src src
# The directory is called by the profile, but for that of `dev`.
RUN cargo auditable build --locked --profile "$PROFILE" --no-default-features --features "$FEATURES" \
    && cp target/*/millrace /usr/local/bin/millrace

FROM runtime
COPY --from=build /usr/local/bin/millrace /usr/local/bin/millrace
