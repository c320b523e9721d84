"""`authproxy token ROUTE`: a usable token, for tools that take one."""

import asyncio
import json
import logging
import os
from datetime import UTC, datetime
from math import ceil, isinf

import click

from authproxy import logs
from authproxy.app.application import App
from authproxy.cli.options import config_option, find_route, load_config, retry_rejected_option
from authproxy.config.model import Config
from authproxy.config.route import RouteConfig
from authproxy.errors import TokenUnavailable
from authproxy.tokens.shared import UNAVAILABLE
from authproxy.tokens.token import Token

EXEC_CREDENTIAL_VERSIONS = tuple(
    f"client.authentication.k8s.io/{version}" for version in ("v1", "v1beta1", "v1alpha1")
)


@click.command()
@click.argument("route")
@config_option
@click.option("--header", "as_header", is_flag=True, help="Print the whole header line.")
@click.option(
    "--format", "style", type=click.Choice(["exec-credential", "credential-process"]),
    help="Print a document for kubectl (ExecCredential) or for AWS-style tools.",
)  # fmt: skip
@retry_rejected_option
def token(
    *, route: str, config_file: str | None, as_header: bool, style: str | None, retry_rejected: bool
) -> None:
    """Print a usable token for ROUTE, and nothing else."""
    if as_header and style is not None:
        raise click.UsageError("--header and --format cannot be used together")
    config = load_config(config_file)
    wanted = find_route(config, route)
    _log_little(config)
    got = asyncio.run(_fetch(config, wanted, retry_rejected=retry_rejected))
    if as_header:
        scheme = wanted.grant.scheme
        click.echo(f"{wanted.grant.header}: {scheme}{' ' if scheme else ''}{got.value}")
    elif style == "exec-credential":
        click.echo(json.dumps(_exec_credential(got)))
    elif style == "credential-process":
        click.echo(json.dumps(_credential_process(got, wanted)))
    else:
        click.echo(got.value)


def _log_little(config: Config) -> None:
    """Have errors logged, and that a store is passed over; what became of the token is told anyway."""
    logs.set_up("warning", config.log.format)
    for handler in logging.getLogger().handlers:
        handler.addFilter(lambda record: record.levelno >= logging.ERROR or record.msg == UNAVAILABLE)


async def _fetch(config: Config, route: RouteConfig, *, retry_rejected: bool) -> Token:
    async with App(config, retry_rejected=retry_rejected) as app:
        try:
            return await app.token(route)
        except TokenUnavailable as left_alone:
            if left_alone.rejects and left_alone.retry_after is not None:
                when = f"next try in {ceil(left_alone.retry_after)} s; --retry-rejected tries now"
                left_alone.hint = f"{left_alone.hint}; {when}" if left_alone.hint else when
            raise


def _exec_credential(got: Token) -> dict[str, object]:
    """Return a Kubernetes ExecCredential, in the version that kubectl asks for: it takes no other."""
    try:
        info = json.loads(os.environ.get("KUBERNETES_EXEC_INFO", ""))
    except (ValueError, RecursionError):
        info = None
    asked = info.get("apiVersion") if isinstance(info, dict) else None
    version = asked if asked in EXEC_CREDENTIAL_VERSIONS else EXEC_CREDENTIAL_VERSIONS[0]
    status = {"token": got.value, **_ends(got, "expirationTimestamp")}
    return {"apiVersion": version, "kind": "ExecCredential", "status": status}


def _credential_process(got: Token, route: RouteConfig) -> dict[str, object]:
    """Return an AWS credential_process document, version 1; the token is in `SessionToken`."""
    keys = {"AccessKeyId": route.name, "SecretAccessKey": got.value, "SessionToken": got.value}
    return {"Version": 1, **keys, **_ends(got, "Expiration")}


def _ends(got: Token, key: str) -> dict[str, str]:
    if isinf(got.expires_at):
        return {}
    return {key: datetime.fromtimestamp(got.expires_at, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")}
