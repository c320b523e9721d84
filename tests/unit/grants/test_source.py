"""Where grants become token sources: changed secrets, changed files."""

import os

import pytest
from pydantic import SecretStr

from authproxy.errors import CredentialRejected, TokenUnavailable
from authproxy.grants.client_credentials import ClientCredentials
from authproxy.grants.source import GrantSource, WatchedSource
from authproxy.grants.static import Static
from authproxy.tokens.cache import CachedSource, token_cache
from authproxy.tokens.token import Token

from .talk import TOKEN_URL, expired


class Grant(ClientCredentials):
    """One whose conversation needs no steps: `outcomes` says, by its secret, what comes of it."""

    def flow(self, expired):
        outcome = OUTCOMES[self.client_secret.get_secret_value()]
        FLOWS.append((self.client_secret.get_secret_value(), expired))
        if isinstance(outcome, Exception):
            raise outcome
        return outcome
        yield


OUTCOMES, FLOWS = {}, []


class FlowRunner:
    async def run(self, flow, *, transport):
        assert transport.http_proxy is None
        try:
            while True:
                next(flow)
        except StopIteration as end:
            return end.value


class Reread:
    def __init__(self, *grants):
        self.grants = list(grants)
        self.asked = 0

    async def __call__(self):
        self.asked += 1
        return self.grants.pop(0)


@pytest.fixture(autouse=True)
def _fresh():
    OUTCOMES.clear()
    FLOWS.clear()


def grant(secret):
    return Grant(token_url=TOKEN_URL, client_id="id", client_secret=SecretStr(secret))


# ── GrantSource ──────────────────────────────────────────────────────────────────────────────────


async def test_a_conversation_is_held_each_time_with_the_spent_token():
    OUTCOMES["one"] = Token("a")
    source = GrantSource(grant("one"), FlowRunner())
    old = expired("r1")
    assert await source.token() == Token("a")
    await source.token(instead_of=old)
    assert [("one", None), ("one", old)] == FLOWS
    assert repr(source) == "<GrantSource Grant>"


async def test_a_rejected_credential_is_read_again_and_tried_once_when_it_has_changed():
    OUTCOMES.update(one=CredentialRejected("no"), two=Token("b"))
    source = GrantSource(grant("one"), FlowRunner(), reread=Reread(grant("two")))
    assert await source.token(instead_of=expired("r1")) == Token("b")
    assert FLOWS[1] == ("two", None)  # the refresh token belonged to the other credential
    assert await source.token() == Token("b")
    assert [secret for secret, _ in FLOWS] == ["one", "two", "two"]


@pytest.mark.parametrize("reread", [None, Reread(None), Reread(grant("one"))])
async def test_a_rejected_credential_that_has_not_changed_is_not_repeated(reread):
    OUTCOMES["one"] = CredentialRejected("no")
    with pytest.raises(CredentialRejected):
        await GrantSource(grant("one"), FlowRunner(), reread=reread).token()
    assert len(FLOWS) == 1


async def test_a_changed_credential_that_is_rejected_too_is_not_tried_a_third_time():
    OUTCOMES.update(one=CredentialRejected("no"), two=CredentialRejected("no"))
    with pytest.raises(CredentialRejected):
        await GrantSource(grant("one"), FlowRunner(), reread=Reread(grant("two"), grant("one"))).token()
    assert [secret for secret, _ in FLOWS] == ["one", "two"]


async def test_an_outage_is_no_reason_to_read_secrets_again():
    OUTCOMES["one"] = TokenUnavailable("down")
    reread = Reread(grant("two"))
    with pytest.raises(TokenUnavailable):
        await GrantSource(grant("one"), FlowRunner(), reread=reread).token()
    assert reread.asked == 0


async def test_a_refused_refresh_token_is_not_tried_again_though_the_spent_token_still_holds_it():
    refused = TokenUnavailable("the grant's own way is down")
    refused.refresh_refused = True
    OUTCOMES["one"] = refused
    source = GrantSource(grant("one"), FlowRunner())
    for _ in range(2):
        with pytest.raises(TokenUnavailable):
            await source.token(instead_of=expired("r1"))
    with pytest.raises(TokenUnavailable):
        await source.token(instead_of=expired("r2"))
    assert [old.refresh_token for _, old in FLOWS] == ["r1", None, "r2"]


async def test_a_refresh_token_that_met_an_outage_is_tried_again():
    OUTCOMES["one"] = TokenUnavailable("down")
    source = GrantSource(grant("one"), FlowRunner())
    for _ in range(2):
        with pytest.raises(TokenUnavailable):
            await source.token(instead_of=expired("r1"))
    assert [old.refresh_token for _, old in FLOWS] == ["r1", "r1"]


def static(token):
    return Static(token=SecretStr(token))


async def test_a_static_token_is_read_again_once_it_is_refused():
    reread = Reread(static("new"))
    source = GrantSource(static("old"), FlowRunner(), reread=reread)
    old = await source.token()
    assert reread.asked == 0
    assert await source.token(instead_of=old) == Token("new")


async def test_a_static_token_whose_source_has_not_changed_stays_the_same():
    source = GrantSource(static("old"), FlowRunner(), reread=Reread(static("old")))
    assert await source.token(instead_of=Token("old")) == Token("old")


# ── WatchedSource ────────────────────────────────────────────────────────────────────────────────


class FromFile:
    """Reads the token from a file each time it is asked, and counts that."""

    def __init__(self, path):
        self.path = path
        self.asked = 0

    async def token(self, *, instead_of=None):
        self.asked += 1
        try:
            return Token(self.path.read_text())
        except OSError:
            raise TokenUnavailable("cannot read") from None


@pytest.fixture
def path(tmp_path):
    path = tmp_path / "token"
    path.write_text("one")
    return path


@pytest.fixture
def behind(path):
    return FromFile(path)


@pytest.fixture
def source(behind, path, clock):
    cached = CachedSource(behind, token_cache(), "key", name="k8s", clock=clock)
    return WatchedSource(cached, str(path))


def rewrite(path, text):
    """Write the file anew, as one that has another time, whatever the clock's grain."""
    before = path.stat().st_mtime_ns if path.exists() else 0
    path.write_text(text)
    os.utime(path, ns=(before + 1, before + 1))


async def test_a_file_is_read_once_while_it_stays_as_it_is(source, behind):
    assert source.take() is None
    assert await source.token() == Token("one")
    assert source.take() == await source.token() == Token("one")
    assert behind.asked == 1


async def test_a_changed_file_is_read_at_the_next_request(source, path):
    await source.token()
    rewrite(path, "two")
    assert source.take() is None
    assert await source.token() == Token("two")
    assert source.take() == Token("two")


async def test_a_link_that_points_elsewhere_now_is_a_change(tmp_path, behind, clock):
    for name in ("one", "two"):
        (tmp_path / name).write_text(name)
        os.utime(tmp_path / name, ns=(1, 1))
    link = tmp_path / "link"
    link.symlink_to("one")
    behind.path = link
    source = WatchedSource(CachedSource(behind, token_cache(), "k", name="k8s", clock=clock), str(link))
    await source.token()
    link.unlink()
    link.symlink_to("two")
    assert await source.token() == Token("two")


async def test_a_file_that_is_written_again_with_the_same_token_is_read_once(source, path, behind):
    await source.token()
    rewrite(path, "one")
    assert await source.token() == Token("one")
    assert source.take() == Token("one")
    assert behind.asked == 2


async def test_a_file_that_is_away_for_a_moment_has_not_changed(source, path):
    await source.token()
    path.unlink()
    assert source.take() == Token("one")
    rewrite(path, "two")
    assert await source.token() == Token("two")


async def test_a_file_that_comes_later_is_found(source, path):
    path.unlink()
    with pytest.raises(TokenUnavailable):
        await source.token()
    rewrite(path, "two")
    assert await source.token() == Token("two")


async def test_a_refused_token_is_read_again(source, behind):
    refused = await source.token()
    await source.token(instead_of=refused)
    assert behind.asked == 2


async def test_its_repr_names_the_file(source, path):
    assert repr(source) == f"<WatchedSource {path} <CachedSource k8s empty>>"
