# Lamplighter as a base image for functions, laid out as AWS's own: code in /var/task, layers in /opt, the runtime in
# /var/runtime, Python and its packages in /var/lang.
#
#   docker build -t lamplighter .
#   docker build -t lamplighter --build-arg PYTHON=3.12 .
#   docker build -t lamplighter --build-arg BASE=debian:bookworm-slim --build-arg PYTHON=3.11 .
#
# BASE is any image of the Debian family. The Python version asked for is used where BASE has it, and installed from its
# packages otherwise.
ARG PYTHON=3.13
ARG BASE=python:${PYTHON}-slim-bookworm

FROM ${BASE} AS python
ARG PYTHON
RUN set -eu; \
    if ! command -v "python${PYTHON}" >/dev/null; then \
        apt-get update -qq; \
        DEBIAN_FRONTEND=noninteractive apt-get install -qq -y --no-install-recommends \
            "python${PYTHON}" ca-certificates >/dev/null; \
        apt-get clean; \
        rm -rf /var/lib/apt/lists/* /var/cache/apt/*.bin /var/log/apt /var/log/dpkg.log; \
    fi

# What compiling needs stays in this stage.
FROM python AS build
ARG PYTHON
RUN set -eu; \
    apt-get update -qq; \
    packages="gcc libc6-dev"; \
    [ "$(command -v "python${PYTHON}")" != "/usr/bin/python${PYTHON}" ] || \
        packages="$packages python${PYTHON}-dev python${PYTHON}-venv"; \
    DEBIAN_FRONTEND=noninteractive apt-get install -qq -y --no-install-recommends $packages >/dev/null
RUN "python${PYTHON}" -m venv /var/lang
COPY pyproject.toml setup.py README.md LICENSE /src/
COPY native /src/native
COPY runtime /src/runtime
# Compiled to bytecode here, since no function's user may write it later. setuptools, where venv brought it, was for the
# installation of old packages only.
RUN /var/lang/bin/python -m pip install --quiet --no-cache-dir --disable-pip-version-check /src && \
    /var/lang/bin/python -m pip uninstall --quiet --yes setuptools

FROM python
# The ids of a function's process on Lambda.
RUN groupadd --gid 990 sbx_user1051 && \
    useradd --uid 993 --gid 990 --no-create-home --home-dir /tmp --shell /usr/sbin/nologin sbx_user1051 && \
    mkdir -p /var/task /var/runtime /opt
COPY --from=build /var/lang /var/lang
COPY --chmod=0755 image/bootstrap image/healthcheck /var/runtime/
COPY --chmod=0755 image/lambda-entrypoint.sh /
ENV PATH=/var/lang/bin:/usr/local/bin:/usr/bin:/bin \
    LANG=C.UTF-8 \
    TZ=:UTC \
    LAMBDA_TASK_ROOT=/var/task \
    LAMBDA_RUNTIME_DIR=/var/runtime
WORKDIR /var/task
USER 993:990
EXPOSE 8080
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=3s --start-period=30s CMD ["/var/runtime/healthcheck"]
ENTRYPOINT ["/lambda-entrypoint.sh"]
CMD ["app.handler"]
