"""The manifests and the chart: judged by the schema of Kubernetes and by Helm, and run as in a pod.

A pod is a machine of ours with an address beside its loopback one. What no test here knows is what a kubelet,
a scheduler or a network makes of it.
"""

import json
import subprocess
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.support.command import running_proxy, wait_until
from tests.support.installed import module, need
from tests.support.ports import free_port
from tests.support.wire import API, Tokens, connect, get, json_reply

from .configurations import CHART, DEPLOY, chart_values, config_of, helm, manifests, moved, rendered
from .machine import INSTALLED, ROOT, Machine, installed, machine, wait_until_up
from .test_image import CONFIGURATION, environment, only

kubernetes_validate = module("kubernetes_validate")

VERSIONS = ("1.29", "1.37")  # the first with native sidecars, and the newest that there is a schema for
POD = "10.244.1.7"
USER = 10001
MANIFESTS = {
    **{path.name: manifests(path) for path in (DEPLOY / "kubernetes").glob("*.yaml")},
    "the chart": rendered(chart_values()),
    "the chart, with a secret that is there": rendered(
        chart_values(secret={"existing": "mine"}, redis={"url": ""})
    ),
}
EACH = [
    pytest.param(each, id=f"{name}: {each['kind']} {each['metadata']['name']}")
    for name, found in MANIFESTS.items()
    for each in found
]


# ── read ─────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("manifest", EACH)
def test_a_manifest_fits_the_schema_of_kubernetes(manifest: dict[str, Any], version: str) -> None:
    kubernetes_validate.validate(manifest, version, strict=True)


def pods() -> list[tuple[str, dict[str, Any], dict[str, Any]]]:
    """Return the name of each container that is ours or Redis', its pod's specification and its own."""
    found = []
    for manifest in [each for some in MANIFESTS.values() for each in some]:
        if manifest["kind"] != "Deployment":
            continue
        pod = manifest["spec"]["template"]["spec"]
        containers = [*pod.get("initContainers", []), *pod["containers"]]
        name = manifest["metadata"]["name"]
        found += [(f"{name}: {container['name']}", pod, container) for container in containers]
    return found


PODS = pods()


@pytest.mark.parametrize(("pod", "container"), [each[1:] for each in PODS], ids=[each[0] for each in PODS])
def test_a_container_may_do_what_the_restricted_standard_lets_it(
    pod: dict[str, Any], container: dict[str, Any]
) -> None:
    """The restricted profile of the pod security standards, and a file system that is read-only."""
    its = {**pod["securityContext"], **container["securityContext"]}
    assert its["runAsNonRoot"] is True
    assert its["runAsUser"] > 0
    assert its["allowPrivilegeEscalation"] is False
    assert its["capabilities"] == {"drop": ["ALL"]}
    assert its["seccompProfile"] == {"type": "RuntimeDefault"}
    assert its["readOnlyRootFilesystem"] is True
    assert pod["automountServiceAccountToken"] is False
    assert container["resources"]["limits"]["memory"]


@pytest.mark.parametrize("name", ["sidecar.yaml", "the chart"])
def test_it_is_run_as_the_image_is_made(name: str) -> None:
    ours = [each[2] for each in PODS if each[2]["image"].startswith("authproxy:")]
    assert ours
    for container in ours:
        assert not {"command", "args"} & container.keys()
        mounted = {each["mountPath"] for each in container["volumeMounts"]}
        assert str(Path(CONFIGURATION).parent) in mounted
        for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
            port = container[probe]["httpGet"]["port"]
            (number,) = [each["containerPort"] for each in container["ports"] if each["name"] == port]
            assert f"0.0.0.0:{number}" in config_of(MANIFESTS[name])
    assert only("USER").rest == f"{USER}:{USER}"


def test_the_sidecar_starts_before_the_application_and_ends_after_it() -> None:
    (deployment,) = [each for each in MANIFESTS["sidecar.yaml"] if each["kind"] == "Deployment"]
    (sidecar,) = deployment["spec"]["template"]["spec"]["initContainers"]
    assert sidecar["restartPolicy"] == "Always"
    assert sidecar["startupProbe"]["httpGet"]["path"] == "/healthz"


# ── the chart ────────────────────────────────────────────────────────────────────────────────────


def test_helm_finds_nothing_wrong_with_the_chart() -> None:
    found = helm.lint(CHART, chart_values(), strict=True)
    assert found["total_charts_linted"] == 1
    assert not found["errors"]


def test_the_chart_is_for_this_version() -> None:
    chart = yaml.safe_load((CHART / "Chart.yaml").read_text("utf-8"))
    assert f'__version__ = "{chart["appVersion"]}"' in (ROOT / "authproxy/__init__.py").read_text("utf-8")


@pytest.mark.parametrize(
    ("more", "named"),
    [
        ({"config": {"routes": []}}, "/config/routes"),
        ({"redis": {"url": ""}}, "/redis/url"),
        ({"redis": {"url": "http://redis"}}, "/redis/url"),
        ({"secret": {"data": {"store-key": "k"}}}, "access-key"),
        ({"replicas": 0}, "/replicas"),
        ({"replica": 2}, "replica"),
    ],
)
def test_values_that_will_not_do_are_named(more: dict[str, Any], named: str) -> None:
    with helm.Chart.load(CHART) as chart, pytest.raises(helm.HelmValuesError) as raised:
        chart.render(chart_values(**more), name="authproxy", namespace="prod")
    assert named in str(raised.value)


def of_kind(found: list[dict[str, Any]], kind: str) -> list[dict[str, Any]]:
    return [each for each in found if each["kind"] == kind]


def test_what_is_secret_is_in_the_secret_alone() -> None:
    found = MANIFESTS["the chart"]
    (secret,) = of_kind(found, "Secret")
    values = chart_values()
    assert secret["stringData"] == {"redis-url": values["redis"]["url"], **values["secret"]["data"]}
    for manifest in found:
        for text in secret["stringData"].values():
            assert manifest is secret or text not in json.dumps(manifest)


def test_a_secret_that_is_there_is_taken() -> None:
    found = MANIFESTS["the chart, with a secret that is there"]
    assert of_kind(found, "Secret") == []
    (deployment,) = of_kind(found, "Deployment")
    volumes = {each["name"]: each for each in deployment["spec"]["template"]["spec"]["volumes"]}
    assert volumes["secret"]["secret"]["secretName"] == "mine"


def test_what_the_user_says_is_laid_over_what_the_chart_says() -> None:
    config = {**chart_values()["config"], "allow_remote": True, "log": {"level": "debug"}, "workers": 2}
    made = yaml.safe_load(config_of(rendered(chart_values(config=config))))
    assert made["log"] == {"level": "debug", "format": "json"}
    assert made["workers"] == 2
    assert made["listen"] == "0.0.0.0:8080"
    assert "authproxy.prod.svc" in made["allowed_hosts"]


def test_replicas_are_as_many_as_were_asked_for_and_their_configurations_are_one() -> None:
    (deployment,) = of_kind(rendered(chart_values(replicas=5)), "Deployment")
    assert deployment["spec"]["replicas"] == 5
    with_more = chart_values()
    with_more["config"]["workers"] = 2
    annotations = [
        of_kind(rendered(values), "Deployment")[0]["spec"]["template"]["metadata"]["annotations"]
        for values in (chart_values(), with_more)
    ]
    assert annotations[0] != annotations[1], "another configuration makes no other pods"


# ── run ──────────────────────────────────────────────────────────────────────────────────────────


@contextmanager
def pod(directory: Path, text: str, routes: list[dict[str, Any]], **secrets: str) -> Iterator[Machine]:
    """Run the sidecar as its pod would: another user, nothing to write to, an address of its own."""
    here = installed()
    config = {**yaml.safe_load(text), "routes": routes}
    files = {CONFIGURATION: yaml.safe_dump(config)}
    files |= {f"/run/secrets/authproxy/{name}": secret for name, secret in secrets.items()}
    with machine(
        directory, [INSTALLED, *only("CMD").words], files=here["files"] | files, binds=here["binds"],
        env=environment(), user=USER, read_only=True, then=f"ip address add {POD}/32 dev lo",
    ) as made:  # fmt: skip
        yield made


ROUTE = {
    "name": "api",
    "upstream": "http://127.0.0.1:9000",
    "auth": {
        "grant": "client_credentials", "token_url": "http://127.0.0.1:9001", "client_id": "me",
        "client_secret": "${file:/run/secrets/authproxy/up42-password}",
    },
}  # fmt: skip


def test_the_sidecar_serves_its_pod_and_is_probed_by_the_pods_address(tmp_path: Path) -> None:
    text = config_of(MANIFESTS["sidecar.yaml"])
    with ExitStack() as stack:
        made = stack.enter_context(pod(tmp_path, text, [ROUTE], **{"up42-password": "of-the-pod"}))
        wait_until_up(made, lambda: "admin on" in made.output(), "it does not listen")
        with made.network():
            tokens = stack.enter_context(Tokens(port=9001))
            api = stack.enter_context(API(tokens.issued, port=9000))
            admin = f"http://{POD}:8081"
            for path in ("/healthz", "/readyz"):  # as the kubelet asks
                assert get(admin, path, host=f"{POD}:8081").status == 200
            assert get(admin, "/healthz", host="rebound.example").status == 403
            assert get("http://127.0.0.1:8080").status == 200
            assert api.last.one("Authorization") == f"Bearer {tokens.issued.every[-1]}"
            with pytest.raises(ConnectionRefusedError):
                connect(f"http://{POD}:8080")
        made.signal()
        assert made.wait() == 0


def test_without_a_token_the_pod_gets_no_traffic_and_is_not_killed_for_it(tmp_path: Path) -> None:
    text = config_of(MANIFESTS["sidecar.yaml"])
    with ExitStack() as stack:
        made = stack.enter_context(pod(tmp_path, text, [ROUTE], **{"up42-password": "of-the-pod"}))
        wait_until_up(made, lambda: "admin on" in made.output(), "it does not listen")
        with made.network():
            tokens = stack.enter_context(Tokens(port=9001))
            tokens.says(json_reply({"error": "invalid_client"}, 401))
            assert get("http://127.0.0.1:8080").status == 502
            assert get(f"http://{POD}:8081", "/readyz", host=f"{POD}:8081").status == 503
            assert get(f"http://{POD}:8081", "/healthz", host=f"{POD}:8081").status == 200


def test_replicas_share_a_token_through_the_redis_of_the_manifest(tmp_path: Path) -> None:
    need("redis-server")
    (redis,) = of_kind(MANIFESTS["redis.yaml"], "Deployment")
    (server,) = redis["spec"]["template"]["spec"]["containers"]
    (conf,) = [each["data"]["redis.conf"] for each in of_kind(MANIFESTS["redis.yaml"], "ConfigMap")]
    port, password = free_port(), "of-the-redis"
    (tmp_path / "password.conf").write_text(f"requirepass {password}\n")
    conf = conf.replace("/run/secrets/redis", str(tmp_path))
    conf = conf.replace("port 6379", f"port {port}\nbind 127.0.0.1")
    (tmp_path / "redis.conf").write_text(conf)
    program, file = server["args"]
    assert file == "/etc/redis/redis.conf"
    process = subprocess.Popen([program, str(tmp_path / "redis.conf")], stdout=subprocess.DEVNULL)
    try:
        _share_a_token(tmp_path, f"redis://:{password}@127.0.0.1:{port}", port)
    finally:
        process.terminate()
        process.wait()


def _share_a_token(directory: Path, url: str, port: int) -> None:
    wait_until(lambda: _is_open(port), "Redis does not listen")
    values = chart_values(redis={"url": url})
    secrets = {"redis-url": url, **values["secret"]["data"]}
    config = yaml.safe_load(moved(config_of(rendered(values)), directory, secrets))
    key = f"X-Authproxy-Key: {values['secret']['data']['access-key']}"
    with ExitStack() as stack:
        tokens = stack.enter_context(Tokens())
        api = stack.enter_context(API(tokens.issued))
        auth = {"grant": "client_credentials", "client_id": "me", "client_secret": "of-the-client"}
        config |= {
            "listen": "0.0.0.0:0",
            "admin": False,
            "routes": [{"name": "api", "upstream": api.url, "auth": {**auth, "token_url": tokens.url}}],
        }
        for _ in range(2):
            replica = stack.enter_context(running_proxy(config))
            url = replica.url.replace("0.0.0.0", "127.0.0.1")
            assert get(url, "/", key, host="authproxy.prod.svc").status == 200
            assert get(url, "/", host="authproxy.prod.svc").status == 401
            assert get(url, "/", key, host="elsewhere.example").status == 403
        assert len(tokens.requests) == 1


def _is_open(port: int) -> bool:
    try:
        connect(f"http://127.0.0.1:{port}").close()
    except OSError:
        time.sleep(0.01)
        return False
    return True
