# Built in one stage, run in another: the image that ships has no compiler and no pip.
FROM python:3.13-slim AS build
WORKDIR /src
COPY pyproject.toml README.md LICENSE ./
COPY authproxy authproxy
# What pip has compiled stays: the file system may be read-only, and each health check is a start.
RUN python -m venv /opt/authproxy \
 && /opt/authproxy/bin/pip install --no-cache-dir '.[redis]' \
 && /opt/authproxy/bin/pip uninstall --yes pip

FROM python:3.13-slim
RUN useradd --system --uid 10001 --no-create-home --shell /usr/sbin/nologin authproxy \
 && install --directory --owner=10001 --group=10001 --mode=0700 /var/lib/authproxy \
 && rm -rf /usr/local/lib/python3.13/site-packages/pip* /usr/local/bin/pip* /usr/local/lib/python3.13/ensurepip
COPY --from=build /opt/authproxy /opt/authproxy
# /var/lib/authproxy has what should outlive the process, where it can be written: tokens of a token store in a
# file, and what is remembered of rejected credentials. A volume there outlives the container.
ENV PATH=/opt/authproxy/bin:$PATH XDG_STATE_HOME=/var/lib PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1
USER 10001:10001
EXPOSE 8080
# For an admin listener in its usual place; give the URL of another one with --health-cmd.
HEALTHCHECK --interval=30s --timeout=10s --start-period=10s CMD ["authproxy", "healthcheck", "http://127.0.0.1:8081"]
ENTRYPOINT ["authproxy"]
# With the configuration that is mounted at /etc/authproxy/config.yaml. To be reached through a published port it
# needs `listen: 0.0.0.0:8080`, and `access` or `allow_remote: true`.
CMD ["run"]
