# Built with the classic builder and with BuildKit alike. Where nothing can be pulled, BASE may be any image with
# Python >= 3.11 and its venv module; HTTP(S)_PROXY and PIP_* settings are build arguments and stay out of the image.
ARG BASE=python:3.13-slim-trixie

FROM ${BASE} AS build
ARG PIP_INDEX_URL
ARG PIP_EXTRA_INDEX_URL
ARG PIP_CERT
WORKDIR /src
COPY requirements.txt requirements-build.txt ./
# Nothing is installed but what the two files know by its hash: a mirror must have PyPI's own wheels.
RUN for name in build exporter; do python3 -m venv /opt/$name || exit; done \
 && /opt/build/bin/pip install --no-cache-dir --require-hashes --only-binary=:all: --requirement requirements-build.txt \
 && /opt/exporter/bin/pip install --no-cache-dir --require-hashes --only-binary=:all: --requirement requirements.txt
COPY pyproject.toml README.md LICENSE ./
COPY exporter exporter
RUN /opt/build/bin/hatchling build --target wheel \
 && /opt/exporter/bin/pip install --no-cache-dir --no-index --no-deps dist/*.whl \
 && /opt/exporter/bin/pip check \
 && /opt/exporter/bin/python -m compileall -q /opt/exporter/lib \
 && /opt/exporter/bin/pip uninstall --yes --quiet pip

FROM ${BASE}
# For evidence from the kernel, what prints firewalls: --build-arg PACKAGES="iptables nftables ipset".
ARG PACKAGES=""
RUN test -z "${PACKAGES}" || { apt-get -q update \
 && apt-get -q -y install --no-install-recommends ${PACKAGES} \
 && rm -rf /var/lib/apt/lists/*; }
ARG VERSION=unknown
LABEL org.opencontainers.image.title="docker-icc-exporter" \
      org.opencontainers.image.description="Prometheus exporter that says which containers of a Docker host can reach which others" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="${VERSION}"
COPY --from=build /opt/exporter /opt/exporter
ENV PATH=/opt/exporter/bin:$PATH \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1
# Nobody's user: reading the engine's socket takes its group (--group-add) or a read-only proxy, never root.
USER 65532:65532
EXPOSE 10422
# Knows the address and the web configuration from the environment and the file that this names, not from arguments.
HEALTHCHECK --interval=30s --timeout=5s --start-period=10s CMD ["python", "-m", "exporter.health"]
STOPSIGNAL SIGTERM
ENTRYPOINT ["docker-icc-exporter"]
