# genrep on Debian 13 with its Python 3.13, for CPUs and NVIDIA GPUs (these need the NVIDIA Container Toolkit and --gpus all).
#
#   docker build -t genrep .
#   docker run --rm --user "$(id -u):$(id -g)" -v "$PWD:/work" genrep genrep-generate dataset --num-pairs 10000 --out shards
#
# --build-arg EXTRAS=evaluate,plots,hub adds optional packages.
FROM debian:13-slim AS base
RUN apt-get update && apt-get install -y --no-install-recommends ca-certificates python3 python3-venv \
    && rm -rf /var/lib/apt/lists/*

# For developers: what `make setup` and all tests want (.devcontainer/devcontainer.json).
FROM base AS dev
RUN apt-get update && apt-get install -y --no-install-recommends \
        chromium chromium-driver g++ git libopencv-dev libturbojpeg0-dev make minisign nginx-light pkg-config python3-dev \
    && rm -rf /var/lib/apt/lists/*

FROM base
ARG EXTRAS=
COPY . /src
RUN python3 -m venv /opt/genrep \
    && /opt/genrep/bin/pip install --no-cache-dir 'pip>=25.3' \
    && /opt/genrep/bin/pip install --no-cache-dir -c /src/constraints.txt "/src${EXTRAS:+[$EXTRAS]}" \
    && rm -rf /src
# Caches (weights, digests, compiled kernels) lie in /cache: mount a volume there to keep them.
RUN mkdir -m 1777 /cache /work
ENV PATH=/opt/genrep/bin:$PATH GENREP_HOME=/cache/genrep NUMBA_CACHE_DIR=/cache/numba HOME=/cache PYTHONSAFEPATH=1
WORKDIR /work
CMD ["genrep", "doctor"]
