"""Names that do not exist."""

from authproxy.cli.suggest import MAX_LISTED, no_such


def test_the_name_that_was_probably_meant_is_named_before_all_there_are():
    said = no_such("route", "up4", ["up42", "other"], " in a.yaml").message
    assert said == "there is no route 'up4' in a.yaml; did you mean up42? (choose from up42, other)"


def test_the_only_one_there_is_is_not_named_twice():
    assert no_such("route", "up43", ["up42"]).message == "there is no route 'up43'; did you mean up42?"


def test_what_is_like_none_gets_just_the_list():
    assert no_such("verb", "xyz", ["run"]).message == "there is no verb 'xyz' (choose from run)"


def test_a_long_list_has_an_end():
    said = no_such("route", "x", [f"r{index}" for index in range(MAX_LISTED + 3)]).message
    assert said.endswith(f"r{MAX_LISTED - 1} and 3 more)")
