# advcomp as a container image. `docker/build.sh` makes it, also where no registry of images can be
# reached; with one, from the root of the checkout:
#
#   docker build -f docker/runtime.Dockerfile -t advcomp/runtime .                          # CPU
#   docker build -f docker/runtime.Dockerfile -t advcomp/runtime --build-arg DEVICE=cuda .  # GPUs
#   docker build -f docker/runtime.Dockerfile -t advcomp/referee --build-arg EXTRAS= .      # no torch
#
# Where the context holds build/wheels, packages come from there and nothing is fetched. The two
# digests are for builders that do not look into mounts before they take a layer from their cache.
ARG BASE=python:3.11-slim-bookworm
FROM ${BASE}
ARG DEVICE=cpu
ARG EXTRAS=[players]
ARG PACKAGES_DIGEST=
RUN --mount=type=bind,target=/source \
    set -eu; \
    case "$DEVICE" in \
      cpu) index="--extra-index-url https://download.pytorch.org/whl/cpu" ;; \
      cuda) index="" ;; \
      *) echo "DEVICE must be cpu or cuda; got $DEVICE" >&2; exit 2 ;; \
    esac; \
    if [ -d /source/build/wheels ]; then index="--no-index --find-links /source/build/wheels"; fi; \
    cd /source; \
    mkdir /tmp/advcomp; \
    cp -r advcomp pyproject.toml README.md LICENSE /tmp/advcomp; \
    python3 -m venv /opt/advcomp; \
    /opt/advcomp/bin/pip install --no-cache-dir --disable-pip-version-check $index \
      -c constraints.txt setuptools "/tmp/advcomp$EXTRAS"; \
    /opt/advcomp/bin/pip uninstall -q -y advcomp; \
    rm -r /tmp/advcomp
# A layer of its own: a change of the program does not install PyTorch again.
ARG SOURCES_DIGEST=
RUN --mount=type=bind,target=/source \
    set -eu; \
    cd /source; \
    mkdir /tmp/advcomp; \
    cp -r advcomp pyproject.toml README.md LICENSE /tmp/advcomp; \
    /opt/advcomp/bin/pip install --no-cache-dir --disable-pip-version-check \
      --no-index --no-deps --no-build-isolation /tmp/advcomp; \
    rm -r /tmp/advcomp
ENV PATH=/opt/advcomp/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
LABEL advcomp.packages="${PACKAGES_DIGEST}"
LABEL org.opencontainers.image.title="advcomp" org.opencontainers.image.licenses="MIT"
