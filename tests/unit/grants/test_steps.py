"""Steps and answers are plain data, and fit to print."""

import pytest

from authproxy.grants.steps import Ask, Callback, Code, Run, Show, UseUp

from .talk import answer


@pytest.mark.parametrize(
    "step",
    [
        Ask("POST", "https://a/?s3cr3t", {"A": "s3cr3t"}, b"s3cr3t"),
        Ask("POST", "https://a/", secrets=("s3cr3t",)),
        Run(("program", "s3cr3t")),
        Code("s3cr3t"),
        UseUp("s3cr3t", "https://a/"),
        Show("https://a/?state=s3cr3t", "s3cr3t", "https://a/?code=s3cr3t"),
        Callback("s3cr3t"),
        answer({"access_token": "s3cr3t"}, headers={"Set-Cookie": "s3cr3t"}),
    ],
)
def test_no_step_and_no_answer_prints_its_secrets(step):
    assert "s3cr3t" not in repr(step)


def test_a_place_is_the_url_without_what_may_be_secret_in_it():
    assert (
        Ask("POST", "https://joe:s3cr3t@a.example/token?key=s3cr3t#s3cr3t").place == "https://a.example/token"
    )
