# syntax=docker/dockerfile:1
# One image for ECS and for Lambda: the same binary, which finds out where it is.
#
#   docker build -t millrace .
#   docker run --rm -p 8080:8080 -e MILLRACE_DATABASE__URL=… millrace
#
# Both stages are of Debian 13, for their C library to be the same; by their digests,
# which Dependabot moves on.

FROM rust:1.95-slim-trixie@sha256:275c320a57d0d8b6ab09454ab6d1660d70c745fb3cc85adbefad881b69a212cc AS build
WORKDIR /build
# ring compiles C.
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install --yes --no-install-recommends gcc libc6-dev \
    && rm -rf /var/lib/apt/lists/*

# Writes into the binary which crates are in it, for scanners to read.
RUN cargo install --quiet --locked cargo-auditable@0.7.7

# Dependencies alone, so that a change of ours builds only ours. Cargo asks for
# the file of every target that Cargo.toml names, benches too, built or not.
COPY rust-toolchain.toml Cargo.toml Cargo.lock ./
RUN mkdir src benches \
    && sed -n '/^\[\[bench\]\]/{n;s/^name = "\(.*\)"$/benches\/\1.rs/p}' Cargo.toml >benches/files \
    && xargs touch <benches/files \
    && touch src/lib.rs \
    && echo 'fn main() {}' >src/main.rs \
    && cargo auditable build --locked --profile dist --no-default-features \
    && rm -rf src target/dist/.fingerprint/millrace-*

COPY config.toml ./
COPY migrations migrations
COPY src src
RUN cargo auditable build --locked --profile dist --no-default-features

# Has a C library, public authorities and an unprivileged user, and no shell.
FROM gcr.io/distroless/cc-debian13:nonroot@sha256:e792ab3d241a468a4fd7519ddbbebe66b49b5f365771716ea688ad40b6c6f1c2
#checkov:skip=CKV_DOCKER_2:there is no shell to check with; the load balancer asks /health/ready, Lambda has no use for it
#checkov:skip=CKV_DOCKER_4:the file comes from the internet, which COPY cannot, and its checksum is compared
# The authorities of RDS in every region, for MILLRACE_DATABASE__CA_FILE. When AWS
# changes the file the build fails here: compare it, then change the checksum.
ADD --checksum=sha256:e5bb2084ccf45087bda1c9bffdea0eb15ee67f0b91646106e466714f9de3c7e3 --chmod=644 \
    https://truststore.pki.rds.amazonaws.com/global/global-bundle.pem /etc/ssl/certs/rds.pem
COPY --from=build /build/target/dist/millrace /usr/local/bin/millrace
COPY LICENSE /usr/share/doc/millrace/LICENSE
# Everything else it needs says the platform, or who runs it.
ENV MILLRACE_HTTP__LISTEN=0.0.0.0:8080 \
    MILLRACE_HTTP__DRAIN_GRACE_S=5 \
    MILLRACE_LOG__FORMAT=json \
    MILLRACE_DATA_DIR=/home/nonroot/data
# The image's user `nonroot`.
USER 65532:65532
EXPOSE 8080
ENTRYPOINT ["/usr/local/bin/millrace"]
