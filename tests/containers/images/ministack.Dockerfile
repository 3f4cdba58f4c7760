# Stands for ministackorg/ministack: the same release, from PyPI.
FROM debian:trixie-slim
ARG VERSION
RUN apt-get update -qq \
    && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends python3-venv >/dev/null \
    && rm -rf /var/lib/apt/lists/* \
    && python3 -m venv /opt/ministack \
    && PIP_CERT=/etc/ssl/certs/ca-certificates.crt /opt/ministack/bin/pip install --quiet --disable-pip-version-check "ministack==$VERSION"
ENV BIND_HOST=0.0.0.0 GATEWAY_PORT=4566 LOG_LEVEL=WARNING
EXPOSE 4566
ENTRYPOINT ["/opt/ministack/bin/ministack"]
