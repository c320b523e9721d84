"""URLs in the string values of JSON, whatever the document, the spelling and the cuts."""

import json
import re
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from authproxy.proxy.json_scanner import MAX_DEPTH, JSONScanner, TextScanner
from authproxy.proxy.url_prefixes import MAX_URL, Prefix, Prefixes
from tests.support.examples import examples

OWN, OTHER = "http://localhost:8080/up42", "http://localhost:8080/sts"
PREFIXES = Prefixes(
    [
        Prefix.of("https", "api.example.com", 443, "/v2"),
        Prefix.of("https", "api.example.com", 443, "/v2/tokens"),  # never seen: the one before goes first
        Prefix.of("http", "sts.example.com", 8080, ""),
    ]
)
BECOMES = [OWN, "http://localhost:8080/never", OTHER]
HITS = [
    ("https://", "api.example.com", ["", ":443", ":", ":0443", ":00443"], "/v2", OWN),
    ("http://", "sts.example.com", [":8080", ":08080"], "", OTHER),
]
MISSES = [
    "https://api.example.com/v20", "https://api.example.com/v2x/", "https://api.example.com/V2/items",
    "https://api.example.com/v", "https://api.example.com", "https://api.example.com/",
    "https:/api.example.com/v2", "https://api.example.com:8443/v2/", "https://api.example.com:443443/v2/",
    "https://api.example.com:000443/v2/", "https://api.example.com.evil/v2/", "https://api.example.comx/v2", "https://api.example.com../v2",
    "https://x@api.example.com/v2/", "https://api.example.com@evil.example/v2/",
    "https://api.example.com:@evil/v2",
    "https://api.example.com\\v2/", "https://api.example.com/v2\\x", "https://api.example.com/v2%2Fx",
    "https://api.example.com/%762/x", "https:\\\\api.example.com/v2/", " https://api.example.com/v2/",
    "//api.example.com/v2/", "/v2/items", "http://api.example.com/v2/", "wss://api.example.com/v2/",
    "see https://api.example.com/v2/", '"https://api.example.com/v2/"', "http://sts.example.com/",
    "http://sts.example.com:80801/", "http://sts.example.com:8080x", "https://sts.example.com:8080/",
    "h", "ht", "\\",
    "https\u212a://api.example.com/v2/", "https://api.example.com/v2\u0000",
]  # fmt: skip


def scanner(prefixes=PREFIXES, becomes=BECOMES, **more):
    return JSONScanner(prefixes, [each.encode() for each in becomes], **more)


def scanned(text, *cuts):
    """Return what comes of `text`, cut at these places."""
    made, places = scanner(), [0, *sorted(cuts), len(text)]
    pieces = [made.feed(text[start:end]) for start, end in pairwise(places)]
    return b"".join([*pieces, made.end()])


# ── documents: as they are, and as they come out ─────────────────────────────────────────────────


def spelled(text, random):
    """Return `text` as it may stand in a string, each character for itself."""
    made = ""
    for each in text:
        ways = [each] * 9 if each >= " " and each not in '"\\' else []
        ways += [f"\\u{ord(each):04x}", f"\\u{ord(each):04X}"] if ord(each) < 0x10000 else []
        ways += ["\\/"] if each == "/" else []
        made += random.choice(ways)
    return made


def stays_below(rest):
    """Tell whether a URL stays below what stands before `rest`: the reference, which walks step by step."""
    path = re.sub(r"[^!-~]*\Z", "", re.split("[?#]", rest)[0])
    depth = 0
    for step in path.split("/"):
        depth += {"": 0, ".": 0, "..": -1}.get(re.sub("%2e", ".", step, flags=re.IGNORECASE), 1)
        if depth < 0:
            return False
    return not re.search(r"[\\\x00-\x1f\x7f]", path)


@st.composite
def hits(draw):
    """Return a string that begins with a prefix, without its quotes, and what it comes to."""
    scheme, host, ports, path, becomes = draw(st.sampled_from(HITS))
    random = draw(st.randoms(use_true_random=False))
    origin = scheme + host + random.choice(["", "."]) + random.choice(ports)
    origin = "".join(random.choice([each, each.upper()]) for each in origin)
    boundary = draw(st.sampled_from(["", "/", "?", "#"]))
    behind = boundary + (draw(TEXT | STEPS) if boundary else "")
    rest, begins = spelled(behind, random), spelled(origin + path, random)
    return begins + rest, (becomes if stays_below(behind) else begins) + rest


TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=12) | st.sampled_from(MISSES)
STEPS = st.lists(
    st.sampled_from(
        ["..", ".", "%2e.", ".%2E", "a", "b%20", "...", "..;", ".\t.", "\n", "\\", "\xa0", "é", "?", "#"]
    )
).flatmap(lambda steps: st.sampled_from(["/", "/", "", "//"]).map(lambda between: between.join(steps)))
RAW = st.builds(spelled, TEXT, st.randoms(use_true_random=False)) | TEXT.map(
    lambda text: json.dumps(text)[1:-1]
)
UNCHANGED = st.one_of(
    RAW, RAW, hits().map(lambda pair: " " + pair[0]), hits().map(lambda pair: '\\"' + pair[0])
).map(lambda raw: (raw, raw))
STRINGS = hits() | UNCHANGED
KEYS = hits().map(lambda pair: (pair[0], pair[0])) | UNCHANGED
SPACE = st.text(" \t\r\n", max_size=2)
PLAIN = st.sampled_from(["null", "true", "-1.5e3", "0", "{}", "[]", "{ }"]).map(lambda raw: (raw, raw))


def quoted(pair):
    return tuple(f'"{each}"' for each in pair)


def joined(pairs):
    return tuple(map("".join, zip(*pairs, strict=True))) if pairs else ("", "")


@st.composite
def containers(draw, values):
    is_object = draw(st.booleans())
    parts = []
    for count in range(draw(st.integers(0, 4))):
        parts += [(",", ",")] if count else []
        parts.append((draw(SPACE),) * 2)
        if is_object:
            parts += [quoted(draw(KEYS)), (draw(SPACE),) * 2, (":", ":"), (draw(SPACE),) * 2]
        parts += [draw(values), (draw(SPACE),) * 2]
    first, last = "{}" if is_object else "[]"
    return joined([(first,) * 2, *parts, (last,) * 2])


VALUES = st.recursive(STRINGS.map(quoted) | PLAIN, containers, max_leaves=12)
DOCUMENTS = st.tuples(st.sampled_from(["", "\ufeff", "\x1e", "\n"]), VALUES).map(
    lambda made: tuple((made[0] + each).encode() for each in made[1])
)


def replaced(value):
    """Return a parsed value with its strings replaced: the reference, which knows nothing of bytes."""
    if isinstance(value, str):
        for scheme, host, ports, path, becomes in HITS:
            for port in ports:
                for dot in ("", "."):
                    origin, size = scheme + host + dot + port, len(scheme + host + dot + port)
                    rest = value[size + len(path) :]
                    if (
                        value[:size].lower() == origin
                        and value[size:].startswith(path)
                        and rest[:1] in {"", *"/?#"}
                        and stays_below(rest)
                    ):
                        return becomes + rest
        return value
    if isinstance(value, list):
        return [replaced(each) for each in value]
    if isinstance(value, tuple):
        return tuple((key, replaced(each)) for key, each in value)
    return value


def parsed(text):
    return json.loads(text.decode().strip("\ufeff\x1e"), object_pairs_hook=tuple)


@settings(max_examples=examples(300), deadline=None)
@given(document=DOCUMENTS, cuts=st.lists(st.integers(0, 400), max_size=6))
def test_a_document_comes_out_as_if_its_values_had_been_replaced_and_every_other_byte_as_it_is(
    document, cuts
):
    text, expected = document
    assert scanned(text) == expected
    assert scanned(text, *[cut for cut in cuts if cut <= len(text)]) == expected
    assert scanned(text, *range(len(text))) == expected
    assert parsed(expected) == replaced(parsed(text))


@settings(max_examples=examples(30), deadline=None)
@given(document=DOCUMENTS)
def test_a_document_comes_out_alike_wherever_it_is_cut(document):
    text, expected = document
    for cut in range(len(text)):
        assert scanned(text, cut) == expected
        assert scanned(text, cut, cut + 1) == expected


@settings(max_examples=examples(300), deadline=None)
@given(
    pieces=st.lists(
        st.binary(max_size=20)
        | st.sampled_from([b'"https:', b"//api.example.com/v2", b"\\", b'"', b"{", b"]"])
    )
)
def test_no_byte_is_lost_of_what_is_no_json(pieces):
    made, text = scanner(), b"".join(pieces)
    out = b"".join([*map(made.feed, pieces), made.end()])
    for becomes in BECOMES:  # the only thing that is ever added
        out = out.replace(becomes.encode(), b"")
    assert len(out) <= len(text)
    if b"//" not in text:
        assert out == text


# ── one by one ───────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("value", MISSES)
@pytest.mark.parametrize("around", ["%s", '{"a": %s}', '["x", %s]', '[{"b": 1}, %s]'])
def test_what_only_looks_alike_stays_as_it_is(value, around):
    text = (around % json.dumps(value)).encode()
    assert scanned(text) == scanned(text, *range(len(text))) == text


URL = '"https://api.example.com/v2/x"'
BECOME = f'"{OWN}/x"'


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (f"{{{URL}: {URL}}}", f"{{{URL}: {BECOME}}}"),
        (f'{{"a": [{URL}], {URL}: 1}}', f'{{"a": [{BECOME}], {URL}: 1}}'),
        (f'{{"a": {{"b": 1}}, {URL}: {URL}}}', f'{{"a": {{"b": 1}}, {URL}: {BECOME}}}'),
        (f"[1, {URL}, {{}}, {URL}, {{{URL}:1}}]", f"[1, {BECOME}, {{}}, {BECOME}, {{{URL}:1}}]"),
        (f'{{"a":"{{[", {URL}:{URL}}}', f'{{"a":"{{[", {URL}:{BECOME}}}'),
        (f'{{"a":"\\\\", {URL}:{URL}}}', f'{{"a":"\\\\", {URL}:{BECOME}}}'),
        (f'{{"a":"\\"", {URL}:{URL}}}', f'{{"a":"\\"", {URL}:{BECOME}}}'),
        (f'{URL}\n{URL}\n{{"a":{URL}}}\n', f'{BECOME}\n{BECOME}\n{{"a":{BECOME}}}\n'),
        (f'\x1e{{"a":{URL}}}\n\x1e{{"a":{URL}}}\n', f'\x1e{{"a":{BECOME}}}\n\x1e{{"a":{BECOME}}}\n'),
        (f'["a\\{URL[:-1]}"]', f'["a\\{URL[:-1]}"]'),
        ('"https:\\/\\/API.example.com:443\\/v2\\/x\\n"', f'"{OWN}\\/x\\n"'),
        ('"\\u0068ttps\\u003A//api.example.com/v2\\u003fx"', f'"{OWN}\\u003fx"'),
        ('"https://api.example.com/v2/tokens/x"', f'"{OWN}/tokens/x"'),
    ],
)  # fmt: skip
def test_keys_and_values_are_told_apart_by_the_containers_around_them(text, expected):
    assert scanned(text.encode()).decode() == expected
    assert scanned(text.encode(), *range(len(text))).decode() == expected


def test_the_one_that_goes_first_is_waited_for():
    found = Prefixes([Prefix.of("https", "a.example", 443, "/v2"), Prefix.of("https", "a.example", 443, "")])
    for cut in range(1, 25):
        made, text = scanner(found, [OWN, OTHER]), b'"https://a.example/v2/x" '
        assert made.feed(text[:cut]) + made.feed(text[cut:]) == f'"{OWN}/x" '.encode()
    assert scanner(found, [OWN, OTHER]).feed(b'"https://a.example/v"') == f'"{OTHER}/v"'.encode()


def test_addresses_are_known_with_their_brackets_and_without_a_root():
    found = Prefixes([Prefix.of("http", "::1", 9000, "")])
    assert scanner(found, [OWN]).feed(b'["http://[::1]:9000/x"]') == f'["{OWN}/x"]'.encode()
    assert scanner(found, [OWN]).feed(b'["http://[::1].:9000/x"]') == b'["http://[::1].:9000/x"]'


@pytest.mark.parametrize(
    "piece", [b'{"a": 1}\n', b'"done"', b'["x"', b'{"https://api', b'"a\\', b'"https://api.example.com/w']
)
def test_what_cannot_be_a_match_is_passed_on_at_once(piece):
    assert scanner().feed(piece) == piece


def test_what_may_be_a_match_is_held_and_nothing_before_it():
    made = scanner()
    assert made.feed(b'{"a": 1, "b": "https://api.exa') == b'{"a": 1, "b": '
    assert made.feed(b"mple.org/") == b'"https://api.example.org/'
    assert made.feed(b'x", "c": "\\u00') == b'x", "c": '
    assert made.end() == b'"\\u00'
    assert made.end() == b""


@pytest.mark.parametrize("end", ['"', "?", "#", "\\u003f", "\\u003F", "\\u0023"])
@pytest.mark.parametrize("path", ["/x", "\\/x", "/x%2e", "/..", "/\\u002e."])
def test_a_url_is_held_until_its_path_ends_and_what_is_before_it_is_not(path, end):
    made, begins = scanner(), f'"https://api.example.com/v2{path}'.encode()
    assert made.feed(b'["x", ' + begins) == b'["x", '
    said = made.feed(end[:-1].encode()) + made.feed(end[-1:].encode())
    becomes = f'"{OWN}{path}'.encode() if "x" in path else begins
    assert said == becomes + end.encode()


@pytest.mark.parametrize("fill", ["x", "\\\\", '\\"', "%41", "\\u0041", "\\u00"])
def test_one_with_too_long_a_path_is_left_alone_wherever_it_is_cut(fill):
    begins, size = '"https://api.example.com/v2/', len('"https://api.example.com/v2/')
    longest = MAX_URL - size - 1
    for length in (longest - 1, longest, longest + 1, 2 * MAX_URL):
        path = "y" * (length % len(fill)) + fill * (length // len(fill))
        text = f'{begins}{path}" {URL}'.encode()
        out = scanned(text)
        ends = [*range(100), *range(longest - 100, min(longest + 100, len(text))), *range(len(text))[-100:]]
        assert scanned(text, *range(0, len(text), 100)) == scanned(text, *sorted({*ends})) == out
        is_changed = length <= longest and fill in {"x", '\\"', "%41", "\\u0041"}
        begin = f'"{OWN}/' if is_changed else begins
        assert out == f'{begin}{path}" {BECOME}'.encode()


@settings(max_examples=examples(100), deadline=None)
@given(text=st.text(st.sampled_from('"hHtT\\u007:/ {}[],'), max_size=300))
def test_no_more_is_held_than_a_prefix_may_take(text):
    made, fed, given_back = scanner(), 0, 0
    for each in text.encode():
        fed, given_back = fed + 1, given_back + len(made.feed(bytes([each])))
        assert fed - given_back <= PREFIXES.longest


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-16-be", "utf-32", "utf-32-le", "utf-32-be"])
@pytest.mark.parametrize("sizes", [1, 3, 1000])
def test_other_encodings_pass_and_are_told_of_once(encoding, sizes):
    text, told = f'["x", {URL}]'.encode(encoding), []
    made = scanner(foreign=lambda: told.append(1))
    pieces = [text[at : at + sizes] for at in range(0, len(text), sizes)]
    assert b"".join([*map(made.feed, pieces), made.end()]) == text
    assert told == [1]


def test_utf_8_with_a_mark_is_none_of_them():
    told = []
    text = b"\xef\xbb\xbf" + f'["\u00e4", {URL}]'.encode()
    assert scanner(foreign=lambda: told.append(1)).feed(text) == text.replace(URL.encode(), BECOME.encode())
    assert not told


# ── what it takes ────────────────────────────────────────────────────────────────────────────────


def test_nested_without_end_it_passes_and_remembers_little():
    made, piece = scanner(), b"[" * 100_000
    assert made.feed(piece) == made.feed(piece) == piece
    assert made.feed(URL.encode()) == URL.encode()
    assert len(made._structure.open) < 2 * MAX_DEPTH + len(piece)


@pytest.mark.parametrize(
    "piece",
    [b"[" * 9 + b"]" * 9, b"[", b"{[", b'{"a":', b'"', b'"h', b"\\", b'"https://api.example.com/', b" ",
     b'"https://api.example.com/w"', b'"\\u0068', b'"https://api.example.com/v2"'],
)  # fmt: skip
def test_long_ones_that_are_made_up_to_take_long_do_not(piece):
    text = piece * (500_000 // len(piece))  # for ever, if the time grew with the square
    made = scanner()
    out = [made.feed(text[at : at + 65_536]) for at in range(0, len(text), 65_536)]
    assert (b"".join([*out, made.end()]) == text) == (b"/v2" not in piece)


def test_nesting_in_one_piece_is_walked_once():
    text = b"[" * 300_000 + b"]" * 300_000
    assert scanner().feed(text) == text


# ── plain texts ──────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("https://api.example.com/v2", OWN),
        ("https://api.example.com/v2\n", f"{OWN}\n"),
        ("https://API.example.com:443/v2/x?y z#https://api.example.com/v2", f"{OWN}/x?y z#https://api.example.com/v2"),
        ("https://api.example.com/v2/x \r\n\n", f"{OWN}/x \r\n\n"),
        ("https://api.example.com/v2/a/../x#/../..", f"{OWN}/a/../x#/../.."),
        ("https://api.example.com/v2/x y", None),
        ("https://api.example.com/v2 is it", None),
        ("https://api.example.com/v2\nhttps://api.example.com/v2", None),
        ("https://api.example.com/v2/../x", None),
        ("https://api.example.com/v2/x/%2E./..", None),
        ("https://api.example.com/v2/.\n./x", None),
        ("https://api.example.com/v2/x\\..\\..\\..", None),
        ("https:\\/\\/api.example.com/v2", None),
        ('https://api.example.com/v2"x', None),
        ("https://api.example.com/v2/" + "x" * MAX_URL, None),
        ("https://api.example.com/v2" + " " * MAX_URL + "/../x", None),
        ("https://api.example.com/v20", None),
        ("https://api.example.com/v", None),
        ("https://api.exa mple.com/v2", None),
        (" https://api.example.com/v2", None),
        ('"https://api.example.com/v2"', None),
        ("", None),
        ("h", None),
    ],
)  # fmt: skip
def test_a_plain_text_that_is_one_is_changed_wherever_it_is_cut(text, expected):
    data = text.encode()
    for cut in range(0, len(data) + 1, 1 + len(data) // 100):
        made = TextScanner(PREFIXES, [each.encode() for each in BECOMES])
        out = made.feed(data[:cut]) + made.feed(data[cut:]) + made.end() + made.end()
        assert out.decode() == (text if expected is None else expected)


@pytest.mark.parametrize(
    "text", [b"https://api.example.com/v2 i", b"https://api.example.com/v2\ni", b"https:\\"]
)
def test_a_plain_text_that_cannot_be_one_any_more_is_passed_on_at_once(text):
    assert TextScanner(PREFIXES, [each.encode() for each in BECOMES]).feed(text) == text
