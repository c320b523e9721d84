"""What a text says below its percent-encoding."""

from urllib.parse import quote

from authproxy.escapes import MAX_LEVELS, layers


def texts(text):
    return [layer.text for layer in layers(text)]


def test_each_layer_has_a_level_of_encoding_less():
    assert texts("/?n=%2Fb%3Fn%3D%252Fc%2541") == [
        "/?n=%2Fb%3Fn%3D%252Fc%2541",
        "/?n=/b?n=%2Fc%41",
        "/?n=/b?n=/cA",
    ]


def test_a_text_without_escapes_is_the_only_one():
    assert texts("/?n=1") == ["/?n=1"]
    assert texts("") == [""]
    assert texts("100% %zz %2") == ["100% %zz %2"]


def test_what_ends_a_url_and_what_is_not_ascii_stays_encoded():
    assert texts("%22%3c%3E%20%0A%7f%C3%A9%2f") == [
        "%22%3c%3E%20%0A%7f%C3%A9%2f",
        "%22%3c%3E%20%0A%7f%C3%A9/",
    ]


def test_each_place_is_known_in_the_text_that_it_was_made_of():
    text = "é=%2Fb%253D%C3%A9c"
    layer = list(layers(text))[-1]
    assert layer.text == "é=/b=%C3%A9c"
    assert [layer.place(at) for at in range(len(layer.text) + 1)] == [
        0,
        1,
        2,
        5,
        6,
        11,
        12,
        13,
        14,
        15,
        16,
        17,
        18,
    ]
    b, equals = layer.text.index("b"), layer.text.index("=", 3)
    assert text[layer.place(b) : layer.place(equals + 1)] == "b%253D"


def test_levels_are_bounded():
    text = "&"
    for _ in range(MAX_LEVELS + 9):
        text = quote(text)
    found = texts(text)
    assert len(found) == MAX_LEVELS + 1
    assert found[-1] != "&"
