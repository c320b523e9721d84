"""The vendors' systems, one small file each, and the table of them.

Each checks what its vendor documents, no more and no less strictly: method, path, query, media type,
credential, and the token on the API. A new one is one file, one row and one test.
"""

from authproxy.demo.standin import StandIn
from authproxy.demo.systems.calendar42 import Calendar42
from authproxy.demo.systems.calendar42_oauth import Calendar42OAuth
from authproxy.demo.systems.code42 import Code42
from authproxy.demo.systems.incydr import Incydr
from authproxy.demo.systems.password_login import PasswordLogin
from authproxy.demo.systems.up42 import Up42

SYSTEMS: tuple[type[StandIn], ...] = (Code42, Incydr, Calendar42, Calendar42OAuth, Up42, PasswordLogin)
