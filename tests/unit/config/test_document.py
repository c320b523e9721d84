import pytest

from authproxy.config import document
from authproxy.config.document import UNKNOWN_TAG, Item, compose, merge, plain, scalars, typed
from authproxy.config.traps import NO_COLON
from authproxy.errors import ConfigError

QUOTES = "put the value in quotes"
TAB = "this line is indented with a tab, where YAML allows spaces only"
OPEN = "this bracket is never closed; close it, or if it belongs to a value"
ALIAS = "a * at the start refers to an anchor (&) that is not there, or has no name"


def said(text):
    with pytest.raises(ConfigError) as raised:
        compose(text, "f")
    return [str(fault) for fault in raised.value.faults]


def test_every_value_knows_its_key_and_its_place():
    item = compose("a:\n  - b: 1\n    c: [x, y]\n", "f").child("a").child(0).child("c")
    assert (item.key, item.line, item.column, item.key_line, item.key_column) == ("a[0].c", 3, 8, 3, 5)
    assert item.child(1).key == "a[0].c[1]"


def test_the_data_is_what_yaml_says():
    text = "a: 1\nb: 1.5\nc: true\nd: ~\ne: text\nf: [1]\ng: {h: '1'}\n"
    assert plain(compose(text, "f")) == {
        "a": 1, "b": 1.5, "c": True, "d": None, "e": "text", "f": [1], "g": {"h": "1"},
    }  # fmt: skip


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("", "f:1:1: is empty; `authproxy init` writes one to begin with"),
        ("# nothing\n", "f:1:1: is empty; `authproxy init` writes one to begin with"),
        (
            "a: b: c",
            f"f:1:5: is not YAML: there is a second `: ` in this line; if it belongs to the value, {QUOTES}",
        ),
        (
            "a: [1",
            f"f:1:4: is not YAML: {OPEN}, {QUOTES}",
        ),
        (
            "a: {b: ${NAME}}",
            'f:1:9: is not YAML: within { } and [ ] a reference needs quotes: write "${NAME}"',
        ),
        (
            "a:\n\tb: 1",
            f"f:2:1: is not YAML: {TAB}; replace it by spaces",
        ),
        (
            "a: 1\n---\nb: 2",
            "f:2:1: contains more than one document (`---`); only one is allowed: put the others elsewhere",
        ),
        ("a: 1\nb: 2\na: 3", "f:3:1: a: is given twice; the first is in line 1: remove one"),
        ("a: {b: 1, b: 2}", "f:1:11: a.b: is given twice; the first is in line 1: remove one"),
        ("a: {1: x}", "f:1:5: a: a key should be a string; put it in quotes"),
        ("yes: 1", "f:1:1: a key should be a string; put it in quotes"),
        (
            "a: {{NAME}}",
            'f:1:5: a: { } within { } is a key here; a reference is written "${NAME}", in quotes',
        ),
        ("\u00a0b: 1", "f:1:1: begins with a character that only looks like a space (U+00A0); use spaces"),
        ("? [a]\n: 1", "f:1:3: a key should be a string; put it in quotes"),
        ("a: &x [*x]", "f:1:4: a[0]: an alias (*) cannot be inside what it refers to"),
        ("a: &x\n  b: *x", "f:2:3: a.b: an alias (*) cannot be inside what it refers to"),
        (
            "a: *secret",
            f"f:1:4: is not YAML: {ALIAS}; if it is text, {QUOTES}",
        ),
        ("a: !secret x", f"f:1:4: a: {UNKNOWN_TAG}"),
        ("a: !!python/name:os.system x", f"f:1:4: a: {UNKNOWN_TAG}"),
        ("a: 2024-99-99", "f:1:4: a: is neither a number nor a date; put it in quotes"),
        ("x\ny: \0", "f:2:4: contains a character that YAML does not allow (U+0000); remove it"),
        ("[" * 1000, "f:1:1: is nested too deeply"),
        ("a: 1\n<<: 5", "f:2:5: a merge key (<<) should refer to a mapping: `<<: *name`"),
    ],
)
def test_what_is_wrong_with_it_as_yaml_is_said_with_its_place(text, fault):
    assert said(text) == [fault]


def test_all_duplicates_are_told_at_once():
    assert len(said("a: 1\na: 2\nb: 1\nb: 2\n")) == 2


def test_aliases_that_multiply_are_cut_off(monkeypatch):
    monkeypatch.setattr(document, "MAX_ITEMS", document.MAX_ITEMS // 10)
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 10)]
    assert said("\n".join(lines)) == ["f:1:1: is too large once its aliases (*) are expanded"]


def test_an_ordinary_file_is_not_too_large(monkeypatch):
    monkeypatch.setattr(document, "MAX_ITEMS", 4)
    assert plain(compose("[1, 2, 3]", "f")) == [1, 2, 3]
    assert said("[1, 2, 3, 4]") == ["f:1:1: is too large once its aliases (*) are expanded"]


def test_anchors_and_merge_keys_work():
    text = "base: &base {a: 1, b: 1}\nother: &other {b: 2, c: 2}\nx: {<<: [*base, *other], a: 0}\ny: *base\n"
    data = plain(compose(text, "f"))
    assert data["x"] == {"a": 0, "b": 1, "c": 2}
    assert data["y"] == {"a": 1, "b": 1}


def test_a_merged_value_points_at_where_it_is_written():
    item = compose("base: &base\n  a: 1\nx:\n  <<: *base\n", "f").child("x").child("a")
    assert (item.key, item.line) == ("x.a", 2)


@pytest.mark.parametrize(
    ("over", "under", "depth", "both"),
    [
        ({"a": 1}, {"b": 2}, 1, {"a": 1, "b": 2}),
        ({"a": {"x": 1}}, {"a": {"y": 2}}, 1, {"a": {"x": 1}}),
        ({"a": {"x": 1}}, {"a": {"y": 2}}, 2, {"a": {"x": 1, "y": 2}}),
        ({"a": {"x": {"p": 1}}}, {"a": {"x": {"q": 2}}}, 2, {"a": {"x": {"p": 1}}}),
        ({"a": None}, {"a": {"y": 2}, "b": 1}, 2, {"b": 1}),
        ({"a": {"y": None}}, {"a": {"y": 2, "z": 3}}, 2, {"a": {"z": 3}}),
        ({"a": False}, {"a": {"y": 2}}, 2, {"a": False}),
        ({"a": [1]}, {"a": [2, 3]}, 2, {"a": [1]}),
        ({"a": None}, {}, 2, {"a": None}),
    ],
)
def test_mappings_are_laid_over_each_other_so_many_levels_down(over, under, depth, both):
    here = Item(None, "f")
    assert plain(merge(here.made(over), here.made(under), depth)) == both


def test_what_is_made_stands_where_it_was_made_for():
    item = compose("a:\n  b: 1\n", "f").child("a").made({"x": ["y"]}, "a")
    assert (item.child("x").child(0).key, item.child("x").child(0).line) == ("a.x[0]", 2)


def test_scalars_are_found_at_every_depth():
    assert [item.value for item in scalars(compose("a: [1, {b: 2}]\nc: 3", "f"))] == [1, 2, 3]


def test_an_item_does_not_print_its_value():
    assert "hunter2" not in repr(compose("password: hunter2", "f"))


def test_what_stands_on_the_command_line_has_no_line():
    item = typed({"listen": ["x"], "own": typed("y", "--own")})
    assert str(item.child("listen").child(0).fault("no")) == "authproxy: command line: listen[0]: no"
    assert str(item.child("own").fault("no")) == "authproxy: command line: --own: no"


def test_a_key_without_a_value_in_braces_is_marked_as_one():
    item = compose("{a: 1, b, c: , d: ~}", "f")
    assert [item.child(name).trap == NO_COLON for name in "abcd"] == [False, True, False, False]
