"""Entity tags of what was changed: weak on the way out, as they were on the way back."""

import pytest

from authproxy.proxy.entity_tags import MAX_REMEMBERED, MAX_TAG, EntityTags


@pytest.mark.parametrize(
    ("said", "comes_back"),
    [
        (b'"abc"', b'W/"abc"'),
        (b'""', b'W/""'),
        (b'W/"abc"', b'W/"abc"'),
        (b"abc", b"abc"),
        (b'w/"abc"', b'w/"abc"'),
        (b'"a", "b"', b'"a", "b"'),
        (b"", b""),
    ],
)
def test_a_strong_one_becomes_weak_and_what_is_none_stays(said, comes_back):
    assert EntityTags().weakened(said) == comes_back


@pytest.mark.parametrize(
    ("sent", "arrives"),
    [
        (b'W/"abc"', b'"abc"'),
        (b'"abc"', b'"abc"'),
        (b'W/"a" ,W/"b","c"', b'"a" ,"b","c"'),
        (b'W/"W/"', b'"W/"'),
        (b'"W/", W/"b"', b'"W/", "b"'),
        (b"*", b"*"),
        (b"", b""),
        (b'W/"abc', b'W/"abc'),
    ],
)
def test_in_a_list_each_comes_back_strong(sent, arrives):
    assert EntityTags().restored(sent) == arrives


def test_one_that_was_weak_at_the_upstream_stays_weak_until_it_is_strong_there():
    tags = EntityTags()
    tags.weakened(b'W/"abc"')
    assert tags.restored(b'W/"abc", W/"d"') == b'W/"abc", "d"'
    assert tags.restored(b'"abc"') == b'"abc"'
    tags.weakened(b'"abc"')
    assert tags.restored(b'W/"abc"') == b'"abc"'


def test_the_last_ones_are_remembered_and_no_long_ones():
    tags = EntityTags()
    tags.weakened(b'W/"first"')
    for number in range(MAX_REMEMBERED - 1):
        tags.weakened(b'W/"%d"' % number)
    tags.weakened(b'W/"first"')  # once more
    tags.weakened(b'W/"last"')
    assert tags.restored(b'W/"first", W/"0", W/"1", W/"last"') == b'W/"first", "0", W/"1", W/"last"'
    tags.weakened(b'W/"%b"' % (b"x" * MAX_TAG))
    assert len(tags._weak) == MAX_REMEMBERED
    assert tags.restored(b'W/"1"') == b'W/"1"'
