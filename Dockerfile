# The service alone, without torch and without a compiler. Mount a model repository at /models.
ARG BASE_IMAGE=python:3.11-slim-bookworm

FROM ${BASE_IMAGE} AS build
WORKDIR /source
COPY pyproject.toml constraints.txt README.md LICENSE ./
COPY artifact artifact
COPY exporter exporter
COPY service service
COPY cli cli
RUN python -m venv /opt/clearweight \
    && /opt/clearweight/bin/python -m pip install --no-cache-dir --disable-pip-version-check \
        --constraint constraints.txt '.[service]' \
    && ! /opt/clearweight/bin/python -c 'import torch' 2>/dev/null

FROM ${BASE_IMAGE}
RUN useradd --uid 10001 --no-create-home --shell /usr/sbin/nologin clearweight
COPY --from=build /opt/clearweight /opt/clearweight
ENV PATH=/opt/clearweight/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    CLEARWEIGHT_HOST=0.0.0.0
USER 10001
EXPOSE 8080 8081
VOLUME ["/models"]
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=3s --start-period=15s \
    CMD ["python", "-c", "import os, urllib.request as r; r.urlopen('http://127.0.0.1:' + os.environ.get('CLEARWEIGHT_HTTP_PORT', '8080') + '/v2/health/live', timeout=2)"]
ENTRYPOINT ["clearweight"]
CMD ["serve", "/models"]
