"""The property list for launchd: well-formed, of keys that launchd knows, and its command line runs."""

import plistlib
import re
from pathlib import Path
from typing import Any

from tests.support.command import running_proxy
from tests.support.wire import get

from .configurations import DEPLOY

PLIST = DEPLOY / "launchd/local.authproxy.plist"
KNOWN = {  # launchd.plist(5)
    "Label", "ProgramArguments", "RunAtLoad", "KeepAlive", "ThrottleInterval", "ExitTimeOut",
    "StandardErrorPath", "Umask", "SoftResourceLimits", "HardResourceLimits",
}  # fmt: skip
KEY_LINE = re.compile(r"<key>(\w+)</key>\s*<(\w+)/?>")


def job() -> dict[str, Any]:
    found: dict[str, Any] = plistlib.loads(PLIST.read_bytes())
    return found


def test_it_is_a_property_list_of_keys_that_launchd_knows() -> None:
    found = job()
    assert set(found) == KNOWN
    assert found["Label"] == PLIST.stem
    assert found["Umask"] == 0o077
    assert found["KeepAlive"] == {"SuccessfulExit": False}
    assert found["SoftResourceLimits"]["Core"] == 0


def test_every_path_is_absolute_and_under_the_home_that_is_to_be_replaced() -> None:
    paths = [job()["ProgramArguments"][0], job()["ProgramArguments"][-1], job()["StandardErrorPath"]]
    assert all(path.startswith("/Users/me/") for path in paths)


def test_its_command_line_serves(tmp_path: Path) -> None:
    program, verb, option, _ = job()["ProgramArguments"]
    assert Path(program).name == "authproxy"
    assert option == "--config"
    route = {"name": "api", "upstream": "http://127.0.0.1:1", "auth": {"grant": "none"}}
    with running_proxy({"routes": [route]}, verb=verb) as proxy:
        assert get(proxy.admin_url, "/healthz").status == 200
