# One image for manager, webhook and agent. `docker build -t poolmgr .`
# The agent needs modprobe (kmod); manager and webhook run as 65532 with a read-only root.
FROM python:3.12-slim-bookworm AS build
RUN pip install --no-cache-dir uv==0.13.9
WORKDIR /src
COPY pyproject.toml uv.lock README.md LICENSE ./
RUN UV_PROJECT_ENVIRONMENT=/opt/poolmgr uv sync --frozen --no-dev --no-install-project --extra postgresql
COPY poolmgr poolmgr
COPY webhooks webhooks
RUN UV_PROJECT_ENVIRONMENT=/opt/poolmgr uv sync --frozen --no-dev --no-editable --extra postgresql

# libhook is loaded into users' containers, whatever their glibc: built against an old one (2.17).
FROM quay.io/pypa/manylinux2014_x86_64 AS hook
ENV PATH=/opt/python/cp312-cp312/bin:$PATH
RUN pip install --no-cache-dir meson==1.12.1 ninja
COPY libhook /src/libhook
RUN meson setup /build /src/libhook && ninja -C /build libvgpu.so

FROM python:3.12-slim-bookworm
RUN apt-get update && apt-get install -y --no-install-recommends kmod && rm -rf /var/lib/apt/lists/*
COPY --from=build /opt/poolmgr /opt/poolmgr
COPY --from=hook /build/libvgpu.so /opt/poolmgr/lib/libvgpu.so
ENV PATH=/opt/poolmgr/bin:$PATH PYTHONDONTWRITEBYTECODE=1 PYTHONUNBUFFERED=1
ENTRYPOINT ["poolmgr"]
