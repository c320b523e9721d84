"""kubectl and a server of its API that wants a token: it runs `authproxy token` as its credential plugin."""

import json
import ssl
import subprocess
from pathlib import Path

import trustme

from tests.servers.test_credential_helpers import program
from tests.support.installed import need, where
from tests.support.launch import environment, write_config
from tests.support.wire import UNAUTHORIZED, Message, Tokens, Upstream, Wire, json_reply


def test_kubectl_runs_it_as_its_credential_plugin(tmp_path: Path) -> None:
    need("kubectl")
    authority = trustme.CA()
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(tls)

    def answer(came: Message, _wire: Wire) -> bytes:
        good = (came.one("Authorization") or "").removeprefix("Bearer ") in tokens.issued.good
        return json_reply({"gitVersion": "v1.33.0"}) if good else UNAUTHORIZED

    with Tokens() as tokens, Upstream(answer, tls=tls) as cluster:
        auth = {
            "grant": "client_credentials", "token_url": f"{tokens.url}/token",
            "client_id": "me", "client_secret": "the-clients-secret",
        }  # fmt: skip
        route = {"name": "cluster", "upstream": cluster.url, "auth": auth}
        options = ("token", "cluster", "--format", "exec-credential")
        plugin = program(tmp_path, "plugin", write_config(tmp_path, {"routes": [route]}), *options)
        kubeconfig = tmp_path / "kubeconfig"
        kubeconfig.write_text(json.dumps(kubeconfig_of(cluster.url, tmp_path / "ca.pem", plugin)))
        done = subprocess.run(
            [str(where("kubectl")), "--kubeconfig", str(kubeconfig), "get", "--raw", "/version"],
            cwd=tmp_path, env=environment(tmp_path), stdin=subprocess.DEVNULL,
            capture_output=True, text=True, timeout=120, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        assert json.loads(done.stdout) == {"gitVersion": "v1.33.0"}
        assert cluster.last.one("Authorization") == f"Bearer {tokens.issued.every[-1]}"


def kubeconfig_of(url: str, authority: Path, plugin: Path) -> dict[str, object]:
    """Return a kubeconfig with one cluster, and one user that `plugin` has the token of."""
    command = {
        "apiVersion": "client.authentication.k8s.io/v1beta1",  # v1 is not known to the kubectl of Debian 12
        "command": str(plugin),
        "interactiveMode": "Never",
    }
    return {
        "apiVersion": "v1", "kind": "Config", "current-context": "here",
        "clusters": [{"name": "there", "cluster": {"server": url, "certificate-authority": str(authority)}}],
        "users": [{"name": "me", "user": {"exec": command}}],
        "contexts": [{"name": "here", "context": {"cluster": "there", "user": "me"}}],
    }  # fmt: skip
