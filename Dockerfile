# Built in one stage, run in another: the image that ships has no compiler and no pip cache.
FROM python:3.13-slim AS build
WORKDIR /src
COPY pyproject.toml README.md LICENSE ./
COPY authproxy authproxy
RUN python -m venv /opt/authproxy \
 && /opt/authproxy/bin/pip install --no-cache-dir '.[redis]' \
 && /opt/authproxy/bin/pip uninstall --yes pip \
 && find /opt/authproxy -name __pycache__ -prune -exec rm -rf {} +

FROM python:3.13-slim
RUN useradd --system --uid 10001 --no-create-home --shell /usr/sbin/nologin authproxy \
 && rm -rf /usr/local/lib/python3.13/site-packages/pip* /usr/local/bin/pip* /usr/local/lib/python3.13/ensurepip
COPY --from=build /opt/authproxy /opt/authproxy
ENV PATH=/opt/authproxy/bin:$PATH PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1
USER 10001
EXPOSE 8080
# The configuration is mounted; it has to say `listen: 0.0.0.0:8080` and `access` or `allow_remote: true`.
HEALTHCHECK --interval=10s --timeout=5s --start-period=5s CMD ["authproxy", "healthcheck", "http://127.0.0.1:8081"]
ENTRYPOINT ["authproxy"]
CMD ["run", "--config", "/etc/authproxy/config.yaml"]
