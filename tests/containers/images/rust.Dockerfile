# Stands for rust:1.95-slim-trixie: this machine's toolchain, and cargo-auditable, which
# the image's build finds installed. Its context has both.
FROM debian:trixie-slim
COPY rust /usr/local/rust
COPY cargo /usr/local/cargo
# Nobody debugs what tests run.
ENV PATH=/usr/local/cargo/bin:/usr/local/rust/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin \
    CARGO_HOME=/usr/local/cargo \
    CARGO_INCREMENTAL=0 \
    CARGO_PROFILE_DEV_DEBUG=0
