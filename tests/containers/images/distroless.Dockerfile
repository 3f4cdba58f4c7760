# Stands for gcr.io/distroless/cc-debian13:nonroot: the files of the same packages, its
# user, and no shell.
FROM debian:trixie-slim AS debian
RUN mkdir -p /image/tmp /image/home/nonroot /image/etc \
    && dpkg -L base-files netbase tzdata libc6 libgcc-s1 libstdc++6 ca-certificates 2>/dev/null \
        | sort -u | while read -r file; do [ -d "$file" ] && [ ! -L "$file" ] || echo "$file"; done >/files \
    && printf '%s\n' /bin /lib /lib64 /sbin /etc/ssl/certs/ca-certificates.crt >>/files \
    && tar -c -T /files | tar -x -C /image \
    && echo 'nonroot:x:65532:65532:nonroot:/home/nonroot:/sbin/nologin' >/image/etc/passwd \
    && echo 'nonroot:x:65532:' >/image/etc/group \
    && chmod 1777 /image/tmp && chmod 700 /image/home/nonroot && chown 65532:65532 /image/home/nonroot

FROM scratch
COPY --from=debian /image /
ENV SSL_CERT_FILE=/etc/ssl/certs/ca-certificates.crt
USER 65532
WORKDIR /home/nonroot
