"""Tokens: which are known, what each role may do, and that none of them is ever kept or shown."""

import contextlib
import hmac

import pytest

from clearweight.service import ForbiddenError, LoadError, UnauthenticatedError
from clearweight.service.access import Access, Role, TokenSet
from clearweight.service.settings import Settings

USER, ADMIN, OTHER = "user-token-0123456789", "admin-token-0123456789", "other-token-0123456789"


@pytest.fixture
def access():
    return Access(TokenSet(f"{USER}, {OTHER}"), TokenSet(ADMIN))


def test_several_tokens_are_known(access):
    for token in (USER, OTHER, ADMIN):
        access.demand(Role.USER, f"Bearer {token}")


def test_the_scheme_is_read_in_any_case(access):
    access.demand(Role.USER, f"bearer {USER}")


@pytest.mark.parametrize(
    "given",
    [
        None,
        "",
        "Bearer",
        "Bearer ",
        f"Bearer {USER[:-1]}",
        f"Bearer {USER}x",
        f"Basic {USER}",
        USER,
        f"Bearer {USER},{OTHER}",
        "Bearer \udcff",
    ],
)
def test_anything_else_is_unknown(access, given):
    with pytest.raises(UnauthenticatedError) as found:
        access.demand(Role.USER, given)
    assert USER not in str(found.value)


def test_a_user_is_no_administrator(access):
    access.demand(Role.ADMIN, f"Bearer {ADMIN}")
    with pytest.raises(ForbiddenError):
        access.demand(Role.ADMIN, f"Bearer {USER}")


def test_without_user_tokens_everyone_is_a_user_and_nobody_an_administrator():
    open_access = Access(admin=TokenSet(ADMIN))
    open_access.demand(Role.USER, None)
    for access in (open_access, Access()):
        with pytest.raises(UnauthenticatedError):
            access.demand(Role.ADMIN, None)


def test_anyone_is_let_in_where_anyone_may(access):
    access.demand(Role.ANYONE, "Bearer wrong")


def test_every_known_token_is_compared_in_constant_time_whichever_matches(access, monkeypatch):
    compared = []
    monkeypatch.setattr(hmac, "compare_digest", lambda a, b: compared.append((len(a), len(b))) or a == b)
    counts = []
    for token in (USER, OTHER, ADMIN, "wrong-token-0123456789"):
        compared.clear()
        with contextlib.suppress(UnauthenticatedError):
            access.demand(Role.USER, f"Bearer {token}")
        counts.append(list(compared))

    assert counts == [[(32, 32)] * 3] * 4


def test_refusals_are_told():
    told = []
    access = Access(TokenSet(USER), TokenSet(ADMIN), refused=told.append)
    for needed, given in ((Role.USER, None), (Role.ADMIN, f"Bearer {USER}"), (Role.USER, f"Bearer {USER}")):
        with contextlib.suppress(PermissionError):
            access.demand(needed, given)

    assert told == ["unauthenticated", "forbidden"]


def write(path, *lines):
    """Replace a file as secret stores do, so that no half of it is ever seen."""
    fresh = path.with_suffix(".fresh")
    fresh.write_text("\n".join(lines))
    fresh.replace(path)


@pytest.fixture
def read_again(monkeypatch):
    monkeypatch.setattr("clearweight.service.access._LOOK_SECONDS", 0.0)


def allowed(access, token):
    try:
        access.demand(Role.USER, f"Bearer {token}")
    except UnauthenticatedError:
        return False
    return True


def test_a_file_is_read_again_when_it_changes(tmp_path, read_again):
    path = tmp_path / "tokens"
    write(path, "# the shop", USER, "", f"  {OTHER}  ")
    access = Access(TokenSet(file=path))
    assert allowed(access, USER)
    assert allowed(access, OTHER)

    write(path, OTHER)
    assert not allowed(access, USER)
    assert allowed(access, OTHER)


def test_an_emptied_file_lets_nobody_in(tmp_path, read_again):
    path = tmp_path / "tokens"
    write(path, USER)
    access = Access(TokenSet(file=path))
    write(path, "# all revoked")

    assert not allowed(access, USER)
    assert not allowed(access, "")


@pytest.mark.parametrize("change", [lambda path: path.unlink(), lambda path: write(path, "short")])
def test_an_unreadable_file_changes_nothing_and_is_logged_without_a_token(
    tmp_path, read_again, change, caplog
):
    path = tmp_path / "tokens"
    write(path, USER)
    access = Access(TokenSet(file=path))
    change(path)

    assert allowed(access, USER)
    assert "Tokens stay as they were" in caplog.text
    assert USER not in caplog.text
    assert "short" not in caplog.text


@pytest.mark.parametrize("bad", ["short", "with space 0123456789", "naïve-token-0123456789"])
def test_a_weak_token_is_refused_at_start_and_not_shown(bad):
    with pytest.raises(LoadError) as found:
        TokenSet(bad)
    assert bad not in str(found.value)


def test_a_file_that_is_missing_or_empty_at_start_is_an_error(tmp_path):
    with pytest.raises(LoadError, match="tokens"):
        TokenSet(file=tmp_path / "tokens")
    (tmp_path / "tokens").touch()
    with pytest.raises(LoadError, match="no token"):
        TokenSet(file=tmp_path / "tokens")


def test_settings_take_tokens_from_the_environment_and_never_show_them(monkeypatch, tmp_path):
    monkeypatch.setenv("CLEARWEIGHT_TOKENS", USER)
    monkeypatch.setenv("CLEARWEIGHT_ADMIN_TOKENS", ADMIN)
    settings = Settings(models=tmp_path)

    settings.access().demand(Role.USER, f"Bearer {USER}")
    settings.access().demand(Role.ADMIN, f"Bearer {ADMIN}")
    shown = repr(settings) + str(settings) + settings.model_dump_json()
    assert USER not in shown
    assert ADMIN not in shown
