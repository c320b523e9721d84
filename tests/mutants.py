"""Removes one guard of the data path at a time, and sees whether a test notices.

    make mutants                  every row of the table
    make mutants ARGS=framing     those whose name holds a word

A row names a guard, the line that makes it, what stands there without it, and the tests that must then fail.
The work is done on a copy; the tree stays as it is. A mutant that survives is a promise without a test.
"""

import os
import shlex
import shutil
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from time import monotonic

ROOT = Path(__file__).parent.parent
COPIED = ("authproxy", "tests", "pyproject.toml", "config.example.yaml", "docs", "README.md", "Makefile")
PATIENCE = 300  # seconds for the tests of one mutant


LIVE = "tests/live/test_"
UNIT = "tests/unit/proxy/"

# Each row: the guard, the line that makes it, which stands once in authproxy/, what stands there without it,
# and the tests that must fail. No file is named, so that a move breaks no row.
ROWS = (
    # ── parsing ──
    ("parsing: versions", "if request.version not in (HTTP_1_1, HTTP_1_0):", "if False:",
     LIVE + "parsing.py -k HTTP"),
    ("parsing: transfer encodings",
     'if encoding is not None and (encoding.lower() != "chunked" or request.version == HTTP_1_0):',
     "if False:", LIVE + "parsing.py -k encoding"),
    ("parsing: two Authorizations",
     "if AUTHORIZATION in headers and len(headers.getall(AUTHORIZATION)) > 1:", "if False:",
     LIVE + "parsing.py -k Authoriz"),
    ("parsing: spaces, controls and fragments in the target", "if _UNSAFE_IN_TARGET.search(target):",
     "if False:", LIVE + "parsing.py -k target"),
    ("parsing: neither path nor URL", 'if not target.lower().startswith(("http://", "https://")):',
     "if False:", LIVE + "parsing.py -k 'target or OPTIONS'"),
    ("parsing: labels of Host", r"[A-Za-z0-9_-]+(?:\.[A-Za-z0-9_-]+)*\.?", "[A-Za-z0-9._-]+",
     LIVE + "parsing.py -k Host"),
    ("parsing: ports of Host", "not 0 < int(match[2] or 80) <= 65535", "False",
     LIVE + "parsing.py -k localhost"),
    ("parsing: lengths beyond measure", "if length is not None and len(length) > MAX_DIGITS:", "if False:",
     LIVE + "parsing.py -k length"),
    ("parsing: expectations",
     'if any(value.lower() != "100-continue" for value in incoming.headers.getall(EXPECT)):', "if False:",
     LIVE + "parsing.py -k xpect"),
    ("parsing: CONNECT closes", 'and incoming.method != "CONNECT"', "and True",
     LIVE + "parsing.py -k CONNECT"),
    ("parsing: a fault closes", "CLOSING_STATUSES = frozenset({400, 431, 500})",
     "CLOSING_STATUSES = frozenset({500})", LIVE + "parsing.py -k 'whole and Host'"),
    ("parsing: one message at a time", "end += len(EMPTY_LINE)\n        if end < 0",
     "end = len(data)\n        if end < 0", LIVE + "parsing.py -k trailer"),
    ("parsing: an empty line may come in pieces", "find(EMPTY_LINE) if before else -1", "find(b'#')",
     LIVE + "parsing.py -k cut_in_its_last"),
    ("parsing: an empty line may be data", 'number + len(b"\\r\\n")', "0",
     UNIT + "downstream/test_framing.py"),
    ("parsing: chunks of an HTTP/1.0 client", "return message._replace(should_close=True)",
     "return message", LIVE + "parsing.py -k 1_0"),
    ("parsing: TRACE in any spelling", "request.method.upper() in", "request.method in",
     LIVE + "methods.py -k trace"),
    ("parsing: a method is what was sent", "message = message._replace(method=self._method)", "pass",
     LIVE + "methods.py -k allow"),
    ("parsing: no trailer becomes a header", "self._parser = self._server.parser_for(self)", "pass",
     LIVE + "parsing.py -k trailer"),
    ("parsing: a malformed body is heard of", "if not self._payload.is_eof():  # aiohttp tells",
     "if False:  # aiohttp tells", LIVE + "parsing.py -k 'malformed_body and pieces and size'"),
    ("parsing: steps behind blanks", "if any(_hides_a_step(each) for each in found):", "if False:",
     UNIT + "test_router.py -k blanks"),
    ("parsing: a path with its parameters", '    partial(_PARAMETERS.sub, ""),\n', "", LIVE + "trust.py"),
    ("parsing: a path as it stands", "return {each.translate(_AS_JUDGED) for each in found}",
     "return {_walked(each).translate(_AS_JUDGED) for each in found}", LIVE + "trust.py"),
    ("parsing: a path with its empty segments", "        found |= waiting\n",
     '        waiting = {_EMPTY_SEGMENTS.sub("/", each) for each in waiting}\n        found |= waiting\n',
     LIVE + "trust.py"),
    ("parsing: a slash that stays encoded", ' | {_ESCAPED["/"]: "%2F"}', "", LIVE + "trust.py"),
    ("parsing: paths of many readings",
     "len(found) > MAX_READINGS or len(found) * len(below) > MAX_TO_READ", "False",
     UNIT + "test_router.py -k 'long or many'"),
    ("parsing: steps out of the prefix", 'raise Forbidden("the path steps out of its route")', "continue",
     LIVE + "trust.py"),
    ("parsing: overlong UTF-8", "if _HIDDEN.search(path):", "if False:", LIVE + "trust.py"),
    ("parsing: backslashes", '    _replacing("\\\\", "/"),\n', "", LIVE + "trust.py"),
    # ── secrets ──
    ("secrets: what they may hold", "if (unfit := charset.refused.search(text)) is not None:",
     "if (unfit := None) is not None:", "tests/unit/config/test_texts.py"),
    ("secrets: nothing where one should be", "    if nothing:\n", "    if False:\n",
     "tests/unit/config/test_texts.py"),
    ("secrets: byte order marks", "if text.startswith(BYTE_ORDER_MARK):", "if False:",
     "tests/unit/config/test_texts.py -k mark"),
    ("secrets: read again", "found = judge(made, item)", "found = judge(None, item)",
     LIVE + "process.py -k half_there"),
    # ── listening ──
    ("listening: localhost in both families",
     'if is_loopback(host) and host.rstrip(".").lower().endswith("localhost"):', "if False:",
     LIVE + "process.py -k localhost"),
    ("listening: port 0 is free in both families",
     "tries = PORT_TRIES if port == 0 and len(places) > 1 else 1", "tries = 1",
     "tests/unit/app/test_listeners.py"),
    ("listening: a machine without IPv6", "if error.errno not in NO_SUCH_FAMILY:", "if True:",
     "tests/unit/app/test_listeners.py"),
    # ── platform ──
    ("platform: any encoding", "    prepare_output()\n", "", LIVE + "platform.py -k mask"),
    ("platform: check prepares", "asyncio.run(_prepare(config))", "pass",
     LIVE + "platform.py -k 'stumble or kept'"),
    # ── fidelity ──
    ("fidelity: nothing vanishes by Connection",
     'frozenset(b"host content-length content-type authorization cookie".split())', "frozenset({b''})",
     LIVE + "trust.py"),
    ("fidelity: what Connection lists goes", "if listed and name.lower() in listed:", "if False:",
     LIVE + "trust.py"),
    ("fidelity: spellings of the credential", 'spelled = name.replace(b"_", b"-")', "spelled = name",
     LIVE + "trust.py"),
    ("fidelity: what is removed is not brought along", "if route.request_headers.removes_credential:",
     "if False:", LIVE + "fidelity.py -k removed"),
    ("fidelity: the key and the token in one header",
     "if isinstance(grant, NoGrant) or any_spelling(grant.header) != wanted:", "if True:",
     "tests/unit/config/test_checks.py"),
    ("fidelity: spellings of the framing", " or (spelled in FRAMING and spelled != name)", "",
     LIVE + "trust.py"),
    ("fidelity: Expect stays here", 'OWN_REQUEST_HEADERS = frozenset({b"expect"})',
     "OWN_REQUEST_HEADERS = frozenset()", LIVE + "fidelity.py -k 'expect or 100'"),
    ("fidelity: no length with a 204", "if reply.status == 204:", "if False:", LIVE + "fidelity.py -k 204"),
    ("fidelity: bodies are not unpacked", "auto_decompress=False,  # bodies",
     "auto_decompress=True,  # bodies", LIVE + "fidelity.py -k gzip"),
    ("fidelity: HEAD has no body", "bodiless = self._is_head or status in NO_BODY",
     "bodiless = status in NO_BODY", LIVE + "fidelity.py -k head"),
    ("fidelity: interim answers", "if status < 200:  # an interim", "if False:  # an interim",
     LIVE + "fidelity.py -k interim"),
    ("fidelity: CORS is ours", 'or name.startswith(b"access-control-")', "", LIVE + "guard.py -k cors"),
    ("guard: an address is right for its connection only",
     "return address is not None and _address(host) == _address(address)",
     "return address is not None and bool(_address(host))", UNIT + "test_guard.py -k address"),
    # ── the admin listener ──
    ("admin: wants the key", "if place not in WITHOUT_KEY:", "if False:", LIVE + "guard.py -k admin"),
    ("admin: no reasons without it", "reasons=self._has_key(request))", "reasons=True)",
     LIVE + "guard.py -k reasons"),
    ("admin: no login without it",
     "if not self._guard.is_key(await _key_in_form(request, self._form_seconds)):", "if False:",
     LIVE + "login_links.py -k key"),
    ("admin: no page of another origin", "origins: Iterable[str] = ()) -> Guard:\n",
     'origins: Iterable[str] = ("https://app.example.com",)) -> Guard:\n', LIVE + "guard.py -k admin"),
    # ── words of others ──
    ("words: half characters", 'return _HALF.sub("\\ufffd", text)', "return text",
     LIVE + "errors.py -k half"),
    ("words: short secrets", "if len(secret) >= SHORT_SECRET or _is_word(text, start, end):",
     "if len(secret) >= SHORT_SECRET:", LIVE + "errors.py -k masked"),
    ("words: parts of words", "if len(secret) >= SHORT_SECRET or _is_word(text, start, end):", "if True:",
     LIVE + "errors.py -k masked"),
    ("words: names", "isinstance(leaf.value, SecretStr) and not is_name(leaf.name)",
     "isinstance(leaf.value, SecretStr)",
     LIVE + "errors.py -k masked"),
    ("words: spellings", "for each in _spellings(secret)}", "for each in [secret]}",
     LIVE + "errors.py -k masked"),
    # ── streams ──
    ("streams: no more than is read", "return self._size > HIGH_WATER or", "return",
     LIVE + "streams.py -k 'does_not_read or 300'"),
    ("streams: who does not read is not answered", "if connection.writing_paused:  # who",
     "if connection.writing_paused and False:  # who", LIVE + "streams.py -k pipelines"),
    ("streams: a client that goes takes its request along", "handler_cancellation=True",
     "handler_cancellation=False", LIVE + "streams.py -k leaves"),
    ("streams: an unframed body is reset", "if not context.framed:\n                reset_on_close",
     "if False:\n                reset_on_close", LIVE + "streams.py -k break_off"),
    ("streams: a reset is no end", "if self._until_close and exc is None:", "if self._until_close:",
     LIVE + "faults.py -k reset"),
    ("streams: deadlines", "        if self._stage is None or self.closed:\n            return\n",
     "        return\n", LIVE + "faults.py -k 'black and hole and download'"),
    ("streams: a client that stops in its upload", "UPLOADING: Stage = (RequestTimeout,",
     "UPLOADING: Stage = (ResponseTimeout,", LIVE + "uploads.py -k 408"),
    ("streams: a client that takes nothing",
     "async with asyncio.timeout(seconds):\n                    return",
     "async with asyncio.timeout(None):\n                    return", LIVE + "limits.py -k takes_nothing"),
    # ── upgrades ──
    ("upgrades: only to what was asked for",
     'if not protocols(protocol.decode("latin-1")) <= protocols(wanted_protocol(context.incoming) or ""):',
     "if False:", LIVE + "errors.py -k switch"),
    ("upgrades: not to HTTP itself", "return None if any(map(HTTP_ITSELF.match, protocols(protocol))) else",
     "return", LIVE + "tunnel.py -k itself"),
    ("upgrades: whatever its version", "h[0-9]+c?|hq|quic|tls|ssl)(?![a-z])", "h2c?|tls)\\Z",
     LIVE + "tunnel.py -k itself"),
    ("upgrades: with a body too", "wanted_protocol(incoming) if upgrades else",
     "wanted_protocol(incoming) if upgrades and body is None else", LIVE + "exec.py"),
    ("upgrades: not before the request is out", "if not self._sending:  # else not before",
     "if True:  # else not before", LIVE + "exec.py -k early"),
    ("upgrades: an unasked 101", "if status == SWITCHED and self._may_switch and self._reply is not None:",
     "if status == SWITCHED and self._reply is not None:",
     UNIT + "upstream/test_connection.py -k not_http_1_1"),
    ("upgrades: the upstream's side is closed",
     'close_or_abort(self._ends["upstream"], self._idle_seconds)', "pass", LIVE + "tunnel.py -k left_of"),
    ("upgrades: told at the end of a drain", "                    connection.end_tunnel()",
     "                    pass", LIVE + "tunnel.py -k drain"),
    ("upgrades: a moment for the other half", "await asyncio.wait([self._parted], timeout=QUIET)", "pass",
     LIVE + "tunnel.py -k 'drain or half'"),
    # ── loops ──
    ("loops: as it is written", "return IPv4Address(socket.inet_aton(text))", "return text",
     "tests/unit/config/test_checks.py"),
    ("loops: an upstream as it is dialled", "if not self._own.reached_by(each[4])]", "]", LIVE + "loops.py"),
    ("loops: a token endpoint as it is dialled", "if any(self._own.reached_by(each[4]) for each in found):",
     "if False:", LIVE + "loops.py -k token"),
    ("loops: the environment's proxy",
     "return None if found is not None and own.named(found.host, found.port) else found", "return found",
     LIVE + "loops.py -k environment"),
    ("loops: other processes' listeners", "sockets += listeners.admin[1]", "pass",
     LIVE + "loops.py -k admin"),
    # ── connections ──
    ("connections: whose request it was gives it back", "await context.outgoing.close()", "pass",
     LIVE + "streams.py -k goes_away"),
    ("connections: in the fast path too", "        context.give_up()\n        incoming =",
     "        incoming =", LIVE + "own_faults.py -k given_back"),
    ("connections: lost before it was lent", "if connection.closed:  #", "if False:  #",
     UNIT + "upstream/test_pool.py -k before_it_was_lent"),
    ("connections: begun is what was written", "if context.answer_begun:  # the answer",
     "if context.outgoing is not None:  # the answer", LIVE + "own_faults.py -k head"),
    ("connections: what nobody took was not sent", "context.sent -= left", "pass",
     LIVE + "limits.py -k log_counts"),
    ("connections: a dead one is replaced", "if not (outgoing.idempotent and outgoing.repeatable):",
     "if True:", LIVE + "connections.py -k '150 or dies or put'"),
    ("connections: a POST is not doubled", "if not (outgoing.idempotent and outgoing.repeatable):",
     "if False:", LIVE + "connections.py -k '150 or dies or put'"),
    ("connections: a body that is gone is not repeated",
     "if not (outgoing.idempotent and outgoing.repeatable):", "if not outgoing.idempotent:",
     LIVE + "connections.py -k put"),
    ("connections: a wait for one has an end",
     "async with asyncio.timeout(self._connect_seconds):\n                return await waiter",
     "if True:\n                return await waiter", LIVE + "connections.py -k wait_for_a_connection"),
    ("connections: look-ups are shared", "if self._looking_up is None:\n", "if True:\n",
     "tests/unit/net/test_dial.py -k look_up"),
    ("connections: none lives for ever", " or connection.idle_since - connection.opened_at >= MAX_LIFE", "",
     UNIT + "upstream/test_pool.py -k hour"),
    ("connections: the next address", "others, happy_eyeballs_delay=HAPPY_EYEBALLS_DELAY", "others",
     "tests/unit/net/test_dial.py -k hangs_does"),
    ("connections: never again after a fault",
     "        if reply is not None:\n            reply.end(failure)\n        self.abort()\n",
     "        if reply is not None:\n            reply.end(failure)\n        self._on_idle(self)\n",
     LIVE + "faulty_replies.py -k length"),
    ("connections: controls in a reason",
     "if self._reason not in REASONS and _CONTROLS.search(self._reason):", "if False:",
     LIVE + "faulty_replies.py -k reason"),
    ("connections: other encodings", 'if self._chunked or value.lower() != b"chunked":', "if False:",
     LIVE + "faulty_replies.py -k 'chunked or encoding'"),
    ("connections: a tunnel that is refused", "if not 200 <= status < 300:", "if False:",
     "tests/unit/net/test_dial.py -k tunnel"),
    ("connections: a proxy's 407", "if status == REFUSED and self._forwarding is not None:", "if False:",
     LIVE + "http_proxy.py -k 407"),
    ("connections: loopback needs no proxy", "if is_loopback(host) or _is_excepted", "if _is_excepted",
     "tests/unit/net/test_http_proxy.py -k environment"),
    ("connections: NO_PROXY", ' or _is_excepted(host, port, _first(environ, "no_proxy", "NO_PROXY")[1])',
     "", "tests/unit/net/test_http_proxy.py -k excepts"),
    # ── rewriting ──
    ("rewriting: foreign origins", "origin == self._origin or", "True or", UNIT + "test_rewrite.py"),
    ("rewriting: ports", "int(match[2] or DEFAULT_PORTS[scheme])", "0", UNIT + "test_rewrite.py"),
    ("rewriting: segments of the base", "if [_decoded(step) for step in top] == self._owned",
     "if '/'.join(path).startswith('/'.join(self._owned))", UNIT + "test_rewrite.py"),
    ("rewriting: steps up", "if climbs <= at.depth:\n                return None",
     "if True:\n                return None", UNIT + "test_rewrite.py"),
    ("rewriting: quoted strings of Link", """_LINK = re.compile(r'"(""", r"""_LINK = re.compile(r'\0"(""",
     UNIT + "test_rewrite.py"),
    ("rewriting: __Host- cookies", '.startswith("__host-")', '.startswith("__nope-")',
     UNIT + "test_rewrite.py"),
    ("rewriting: Domain", "self._is_domain(domains[-1], at) or ", "", UNIT + "test_rewrite.py"),
    ("rewriting: a Domain beyond the host", " or any(_reaches(each, at) for each in domains)", "",
     LIVE + "rewrite.py -k host_of_another"),
    ("rewriting: a Path of another route", 'or self._mount.rstrip("/") + path', "or path",
     LIVE + "rewrite.py -k names"),
    ("rewriting: every Path", "for index, path in paths:", "for index, path in paths[-1:]:",
     LIVE + "rewrite.py -k names"),
    ("rewriting: TLS", "secure=config.tls is not None,", "secure=False,", LIVE + "rewrite.py"),
    ("rewriting: off", "rewriting=rewriting if route.rewrite else None", "rewriting=rewriting",
     LIVE + "rewrite.py"),
    # ── tokens ──
    ("tokens: any words refuse a refresh token",
     "if failure.error is not None or 400 <= answer.status < 500:", 'if failure.error == "invalid_grant":',
     LIVE + "refresh.py -k any_words"),
    ("tokens: a page is nobody's no", "            if is_page(answer):\n", "            if False:\n",
     LIVE + "refresh.py -k outlives"),
    ("tokens: a refused refresh token is not sent again", "expired.refresh_token != self._refused", "True",
     LIVE + "refresh.py -k not_sent_again"),
    ("tokens: a refresh asks for what was granted", "        scope = granted\n", "        scope = None\n",
     LIVE + "refresh.py -k scope"),
    ("tokens: an answer has an end", "if self._room < 0:", "if False:",
     LIVE + "token_endpoint.py -k without_an_end"),
    ("tokens: interim replies are dropped", "if interim or self._answered:", "if self._answered:",
     LIVE + "token_endpoint.py -k interim"),
    ("tokens: assertions are dated back", "issued = int(now - skew)", "issued = int(now)",
     LIVE + "token_endpoint.py -k clock"),
    ("tokens: programs run in the configuration's directory", "cwd=self._directory,", "cwd=None,",
     LIVE + "cli.py -k relative_program"),
    ("tokens: a page at one well-known place",
     'if answer.status == 200 and isinstance(document, dict) and "issuer" in document:',
     "if answer.status < 400:", LIVE + "token_endpoint.py -k well_known"),
    ("tokens: kubectl's version", "asked if asked in EXEC_CREDENTIAL_VERSIONS else", "",
     LIVE + "cli.py -k kubectl"),
    # ── limits ──
    ("limits: connections", "len(self._connections) - len(self._turned_away) > self._limit", "False",
     LIVE + "limits.py -k 'turned or flood'"),
    ("limits: small pieces of a reply", "reply.join_from(before)", "pass",
     UNIT + "upstream/test_connection.py -k tiny"),
    ("limits: small pieces of a reply, one by one", " or len(self.parts) > MAX_HELD", "",
     UNIT + "upstream/test_connection.py -k tiny"),
    ("limits: few pieces go on", ' if len(parts) <= MAX_PIECES else [b"".join(parts)]', "",
     UNIT + "upstream/test_connection.py -k tiny"),
    ("limits: small pieces of an upload", "if len(payload._buffer) > MAX_PIECES:", "if False:",
     UNIT + "downstream/test_connection.py -k upload"),
    ("limits: small chunks of an upload", "elif self._chunked or 0 < len(data) < SMALL_PIECE:",
     "elif 0 < len(data) < SMALL_PIECE:", UNIT + "downstream/test_connection.py -k bit_by_bit"),
    ("limits: chunks of a client take turns", "self._framing.room = ROOM", "self._framing.room = 1 << 30",
     UNIT + "downstream/test_connection.py -k bit_by_bit"),
    ("limits: a run of chunks takes turns", "match(data, start, start + self.room * RUN_BYTES)",
     "match(data, start)", UNIT + "downstream/test_framing.py -k room"),
    ("limits: what waits for its turn is not read on", "self._turn is not None or (self._holds",
     "False or (self._holds", UNIT + "downstream/test_connection.py -k bit_by_bit"),
    ("limits: the framing of chunks", "if self._excess <= self._most_excess + LINE:", "if True:",
     LIVE + "limits.py -k little_but_framing"),
    ("limits: the framing that data accounts for",
     "self._excess = max(0, self._excess - LINE - 2 * number)", "pass",
     UNIT + "downstream/test_framing.py -k excess"),
    ("limits: chunks of an upstream take turns", r'if len(data) <= TURN or data.count(b"\n") <= MAX_LINES:',
     "if True:", UNIT + "upstream/test_connection.py -k bit_by_bit"),
    ("limits: chunks before the end of an upstream", "self._parse(self._ahead)", "pass",
     UNIT + "upstream/test_connection.py -k before_the_end"),
    ("limits: more than a reply in chunks", "if self._reply is None:\n            self._broken(",
     "if False:\n            self._broken(", UNIT + "upstream/test_connection.py -k behind_one"),
    ("limits: small pieces of an upload that is kept", "elif self._kept and len(self._kept[-1]) < PIECE:",
     "elif False:", UNIT + "test_body.py -k tiny"),
    ("limits: a reply's trailer", "if self._framed > MAX_HEAD:", "if False:",
     LIVE + "faulty_replies.py -k without_end"),
    ("limits: long names are not remembered", " and len(name) <= MAX_NAME", "",
     UNIT + "test_headers.py -k remembered"),
    ("limits: long lists are not remembered",
     "_remembered(connection) if len(connection) <= MAX_LIST else _listed_in(connection)",
     "_remembered(connection)", UNIT + "test_headers.py -k remembered"),
    ("limits: long hosts are not remembered", " and len(authority) <= MAX_HOST", "",
     UNIT + "test_guard.py -k remembered"),
    ("limits: heads on the admin listener", "if size > self._header_bytes:", "if False:",
     LIVE + "admin.py -k header_bytes"),
    ("limits: bodies on the admin listener", "if (request.content_length or 0) > LARGEST_BODY:",
     "if False:", LIVE + "admin.py -k 413"),
    ("limits: connections of the admin listener",
     "limit=min(MAX_CONNECTIONS, max(FEWEST_CONNECTIONS, connections // 4)),", "limit=999,",
     LIVE + "admin.py -k 503"),
    ("limits: idle connections of the admin listener", "idle = [each for each in clients if each.is_idle]",
     "idle = clients[:0]", LIVE + "admin.py -k keeps_connections"),
    ("limits: the form of a login in time", "async with asyncio.timeout(seconds):\n            body",
     "if True:\n            body", LIVE + "admin.py -k 'form and 408'"),
    ("limits: the trailer", "if framing.part == TRAILER and framing.section > self._server.header_bytes:",
     "if False:", LIVE + "parsing.py -k without_end"),
    ("limits: the head as a whole", "if size <= self._server.header_bytes:", "if True:",
     LIVE + "limits.py -k head"),
    ("limits: the head in time", "if self._head_timer is None and self.transport is not None:", "if False:",
     LIVE + "limits.py -k 'trickles or word or fifty'"),
    ("limits: body_bytes", "if self._limit is not None and self._size > self._limit:", "if False:",
     LIVE + "errors.py -k body"),
    ("limits: the refusal is read", "        if silent:\n            self.force_close()",
     "        if True:\n            self.force_close()", LIVE + "limits.py -k 'head or 413 or turned'"),
    ("limits: a closed client that takes nothing", "if left:\n        asyncio",
     "if False:\n        asyncio", LIVE + "limits.py -k nobody_takes"),
    ("limits: file descriptors", "min(wanted, max(1, room // 2, room - upstream))", "wanted",
     LIVE + "limits.py -k descriptors"),
    ("limits: keepalive spares a head on its way",
     "        if self._between:\n            super()._process_keepalive()",
     "        if True:\n            super()._process_keepalive()", LIVE + "limits.py -k on_its_way"),
    # ── tokens ──
    ("tokens: the same one again begins the cooldown", "if not self._asks_freely:", "if False:",
     LIVE + "storms.py -k 'same_token_again and endpoint'"),
    ("tokens: one that is set aside serves meanwhile", "return now < token.expires_at", "return False",
     LIVE + "storms.py -k stray"),
    ("tokens: a second between renewals", "abs(now - self._kept_at) < MIN_SECONDS", "False",
     "tests/unit/tokens/test_cache.py -k at_once"),
    ("tokens: a rejection is heeded by the next process", "await self._heed(await self._memory.recall())",
     "pass", LIVE + "rejections.py -k restart"),
    ("tokens: processes take turns", "await stack.enter_async_context(self._memory.turn())", "pass",
     LIVE + "rejections.py -k same_time"),
    ("tokens: a login without a token",
     "            failure.rejects = True\n            raise",
     "            raise", LIVE + "rejections.py -k 'whatever and no-token'"),
    ("tokens: a command is not run for each request", "now - self._ran_at < COMMAND_SECONDS", "False",
     LIVE + "rejections.py -k few_seconds"),
    ("tokens: what was rotated outlives the process", "if keys is None and route.grant.must_last:",
     "if False:", LIVE + "refresh_tokens.py"),
    ("tokens: a bad file is no reason to fail", "if last is None or last == instead_of:", "if True:",
     LIVE + "token_files.py -k empty"),
    ("tokens: half a JWT is no token", "answer.age < SETTLING_SECONDS", "False",
     LIVE + "token_files.py -k half"),
    ("tokens: nothing is sent twice", "session._retry_connection = False", "session._retry_connection = True",
     LIVE + "token_endpoint.py -k not_sent_again"),
    ("tokens: what was made for a request is masked", "*answer.secrets, ", "",
     LIVE + "token_endpoint.py -k repeats_is_masked"),
    ("tokens: a renewal that hangs", "if not renewal.done() and self._clock() < old.expires_at:", "if False:",
     LIVE + "storms.py -k hangs"),
    ("tokens: a process that hangs", "TURN_SECONDS = 3.0", "TURN_SECONDS = 60.0",
     LIVE + "rejections.py -k stopped"),
    ("tokens: a dead refresh token leaves the store", "await self._drop_refresh_token()", "pass",
     LIVE + "refresh_tokens.py -k leaves"),
    ("workers: a refusal is told to all", "self._tell_others(channel, question, answer)", "pass",
     LIVE + "workers.py -k replaced_in_all"),
    ("workers: what a line does not take now waits", "self._loop.add_writer(self._sock, self._write_more)",
     "self._to_send.clear()", LIVE + "workers.py -k stopped"),
    ("workers: long messages go in pieces", "DATAGRAM = 32 << 10", "DATAGRAM = 1 << 30",
     LIVE + "workers.py -k datagram"),
    ("limits: a log that nobody reads", "self._held + len(piece) > self._limit", "False",
     "tests/unit/test_stderr.py -k 'told_once'"),
    ("workers: a port of somebody else's is not shared", "if share and port:", "if False:",
     LIVE + "process.py -k second_proxy"),
    ("log: whole lines", "end = _end_of_write(text, start)", "end = len(text)",
     "tests/unit/test_stderr.py -k whole"),
    ("limits: a log that nobody reads holds nobody up",
     "with stderr.dropping_stderr(partial(logs.dropped_lines, config.log.format)):", "if True:",
     LIVE + "log.py -k reader"),
)  # fmt: skip


@dataclass(frozen=True)
class Mutant:
    """`old`, which stands in one place below authproxy/, becomes `new`: then `tests` must fail."""

    guard: str
    old: str
    new: str
    tests: str

    def place(self, root: Path) -> Path:
        """Return the file below `root` in which `old` stands, once; no other may hold it."""
        files = [
            path for path in sorted((root / "authproxy").rglob("*.py")) if self.old in path.read_text("utf-8")
        ]
        assert len(files) == 1, f"{self.guard}: its line is in {len(files)} files"
        assert files[0].read_text("utf-8").count(self.old) == 1, f"{self.guard}: its line is not there once"
        return files[0]


MUTANTS = tuple(Mutant(*row) for row in ROWS)


def main(words: list[str]) -> int:
    chosen = [each for each in MUTANTS if all(word in each.guard for word in words)]
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        verdicts = list(pool.map(tell, chosen))
    survivors = [mutant for mutant, killed in zip(chosen, verdicts, strict=True) if not killed]
    for mutant in survivors:
        print(f"survived: {mutant.guard}")
    print(f"{len(chosen) - len(survivors)} of {len(chosen)} killed")
    return 1 if survivors or not chosen else 0


def tell(mutant: Mutant) -> bool:
    """Return whether `mutant` is killed, and say so."""
    began = monotonic()
    killed = is_killed(mutant)
    print(f"{'killed  ' if killed else 'SURVIVED'} {monotonic() - began:5.1f} s  {mutant.guard}", flush=True)
    return killed


def is_killed(mutant: Mutant) -> bool:
    with tempfile.TemporaryDirectory(prefix="authproxy-mutant-") as place:
        copy = Path(place)
        for name in COPIED:
            source = ROOT / name
            if source.is_dir():
                shutil.copytree(source, copy / name, ignore=shutil.ignore_patterns("__pycache__"))
            else:
                shutil.copy(source, copy / name)
        file = mutant.place(copy)
        file.write_text(file.read_text("utf-8").replace(mutant.old, mutant.new), "utf-8")
        done = subprocess.run(
            [
                sys.executable,
                "-m",
                "pytest",
                "-x",
                "-q",
                "-p",
                "no:cacheprovider",
                *shlex.split(mutant.tests),
            ],
            cwd=copy,
            env=os.environ | {"PYTHONPATH": str(copy), "PYTHONDONTWRITEBYTECODE": "1"},
            capture_output=True,
            text=True,
            timeout=PATIENCE,
            check=False,
        )
    if done.returncode not in {0, 1}:  # nothing collected, or a wrong name: the row itself is at fault
        sys.exit(f"{mutant.guard}: pytest says {done.returncode}\n{done.stdout[-2000:]}{done.stderr[-2000:]}")
    return done.returncode == 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
