# syntax=docker/dockerfile:1
# The service alone: no torch, no compiler, nothing of pip. Mount a model repository, read-only, at /models.
#
#   docker build --tag clearweight .
#   docker buildx build --platform linux/amd64,linux/arm64 --tag clearweight .
#
# The last stage only copies, and the first picks wheels for TARGETARCH instead of running there, so that an image for
# arm64 is built on amd64 without emulation.
ARG BASE_IMAGE=python:3.11-slim-bookworm
ARG BUILD_IMAGE=${BASE_IMAGE}

# hadolint ignore=DL3029
FROM --platform=${BUILDPLATFORM} ${BUILD_IMAGE} AS build
ARG TARGETARCH=amd64
WORKDIR /source
COPY pyproject.toml constraints.txt ./
COPY deploy/image_requirements.py deploy/
# Third-party packages in a layer of their own: a new version of the service is then a pull of a megabyte.
# hadolint ignore=SC2046
RUN machine="$(case "${TARGETARCH}" in (arm64) echo aarch64 ;; (amd64) echo x86_64 ;; esac)" \
    && test -n "${machine}" \
    && python deploy/image_requirements.py pyproject.toml > requirements.txt \
    && python -m pip install --no-cache-dir --disable-pip-version-check --no-compile \
        --constraint constraints.txt --requirement requirements.txt --target /image/libraries --only-binary=:all: \
        $(seq -f "--platform=manylinux_2_%g_${machine}" 17 28) "--platform=manylinux2014_${machine}" \
    && rm -rf /image/libraries/bin \
    && find /image/libraries -type d -name tests -prune -exec rm -rf {} + \
    && rm -rf /image/libraries/onnxruntime/transformers /image/libraries/onnxruntime/tools \
    && find /image/libraries -name '*.pyi' -delete \
    && python -m compileall -q -j 0 --invalidation-mode unchecked-hash -s /image -p /opt/clearweight /image/libraries
COPY README.md LICENSE ./
COPY artifact artifact
COPY exporter exporter
COPY service service
COPY cli cli
RUN python -m pip install --no-cache-dir --disable-pip-version-check --no-deps --no-compile --target /image/clearweight . \
    && rm -rf /image/clearweight/bin /image/clearweight/clearweight/exporter \
    && python -m compileall -q --invalidation-mode unchecked-hash -s /image -p /opt/clearweight /image/clearweight
COPY deploy/healthcheck.py /image/
# Found by name, not run: the libraries may be another processor's.
RUN PYTHONPATH=/image/clearweight:/image/libraries python -c "import sys; from importlib.util import find_spec; \
        found = [name for name in ('torch', 'clearweight.exporter') if find_spec(name)]; \
        sys.exit(f'The image must not hold {found}.' if found else 0)"

FROM ${BASE_IMAGE}
ARG VERSION=0.1.0
ARG REVISION=unknown
LABEL org.opencontainers.image.title="clearweight" \
      org.opencontainers.image.description="Predictions and attribution maps from compressed classifiers, and live attribution drift." \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}"
COPY --from=build /image/libraries /opt/clearweight/libraries
COPY --from=build /image/healthcheck.py /opt/clearweight/
COPY --from=build /image/clearweight /opt/clearweight/clearweight
ENV PYTHONPATH=/opt/clearweight/clearweight:/opt/clearweight/libraries \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    HOME=/tmp \
    CLEARWEIGHT_HOST=0.0.0.0
USER 10001:10001
EXPOSE 8080 8081
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=5s --start-period=20s --retries=3 \
    CMD ["python", "-I", "-S", "/opt/clearweight/healthcheck.py"]
ENTRYPOINT ["python", "-m", "clearweight.cli.main"]
CMD ["serve", "/models"]
