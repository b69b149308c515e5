# Training with several GPUs or machines: the runtime image for GPUs, and MPI from the package index.
#
#   docker build -f docker/train.Dockerfile -t advcomp/train --build-arg BASE=advcomp/runtime .
#   docker run --gpus all --shm-size 8g -v "$PWD":/work -w /work advcomp/train \
#     mpiexec -n 4 advcomp train attacks/attack_network/train.toml
#
# Where the context holds build/wheels, packages come from there and nothing is fetched.
ARG BASE=advcomp/runtime
FROM ${BASE}
RUN --mount=type=bind,target=/source \
    set -eu; \
    index=""; \
    if [ -d /source/build/wheels ]; then index="--no-index --find-links /source/build/wheels"; fi; \
    mkdir /tmp/advcomp; \
    cd /source; \
    cp -r advcomp pyproject.toml README.md LICENSE /tmp/advcomp; \
    /opt/advcomp/bin/pip install --no-cache-dir --disable-pip-version-check $index \
      -c constraints.txt "/tmp/advcomp[train]"; \
    rm -r /tmp/advcomp
# Open MPI refuses root unless told, and root is who a container has.
ENV OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1
