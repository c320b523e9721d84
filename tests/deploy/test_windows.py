"""What the pages on Windows show: the service's description, and the names that they agree on."""

import re
import xml.etree.ElementTree as ET

from .configurations import DEPLOY
from .machine import ROOT

SERVICE = DEPLOY / "windows/authproxy-service.xml"
PAGE = (ROOT / "docs/deployment-windows.md").read_text("utf-8")
KNOWN = {  # WinSW's "XML configuration file"
    "id", "name", "description", "executable", "arguments", "serviceaccount", "stoptimeout", "onfailure",
    "logpath", "log",
}  # fmt: skip


def test_the_service_is_described_in_elements_that_WinSW_knows() -> None:  # noqa: N802 - its name
    service = ET.parse(SERVICE).getroot()
    assert service.tag == "service"
    assert {each.tag for each in service} == KNOWN
    assert service.findtext("id") == "authproxy"
    assert service.findtext("serviceaccount/username") == r"NT AUTHORITY\LocalService"
    assert service.findtext("arguments") == r'-m authproxy run --config "%ProgramData%\authproxy\config.yaml"'


def test_the_page_names_the_same_places() -> None:
    assert SERVICE.name in PAGE
    assert re.search(r"ProgramData\\authproxy\\config\.yaml", PAGE)
    assert re.search(r"ProgramFiles\\authproxy", PAGE)
