"""The vendors' systems, one small file each, and the table of them.

Each checks what its vendor documents, no more and no less strictly: method, path, query, media type,
credential, and the token on the API. A new one is one file, one row and one test.
"""

from authproxy.demo.standin import StandIn
from authproxy.demo.systems.atlassian import Atlassian
from authproxy.demo.systems.auth0 import Auth0
from authproxy.demo.systems.calendar42 import Calendar42
from authproxy.demo.systems.calendar42_oauth import Calendar42OAuth
from authproxy.demo.systems.code42 import Code42
from authproxy.demo.systems.copernicus import Copernicus
from authproxy.demo.systems.entra import Entra
from authproxy.demo.systems.github import GitHub
from authproxy.demo.systems.gitlab import GitLab
from authproxy.demo.systems.google import Google
from authproxy.demo.systems.incydr import Incydr
from authproxy.demo.systems.keycloak import Keycloak
from authproxy.demo.systems.okta import Okta
from authproxy.demo.systems.password_login import PasswordLogin
from authproxy.demo.systems.planet import Planet
from authproxy.demo.systems.salesforce import Salesforce
from authproxy.demo.systems.sentinel_hub import SentinelHub
from authproxy.demo.systems.spotify import Spotify
from authproxy.demo.systems.up42 import Up42
from authproxy.demo.systems.zoom import Zoom

SYSTEMS: tuple[type[StandIn], ...] = (
    Code42, Incydr, Calendar42, Calendar42OAuth, Up42, PasswordLogin, Copernicus, SentinelHub, Planet,
    Keycloak, Auth0, Okta, Entra, Google, GitHub, GitLab, Atlassian, Salesforce, Spotify, Zoom,
)  # fmt: skip
