"""The settings, what is said where one is wrong, and that no secret is ever told."""

import traceback
from base64 import b64encode

import pytest
from hypothesis import given
from hypothesis import strategies as st
from webhook_receiver import SECRET, answer

from paceline_webhooks import Gone, Refused, Undelivered, Webhooks

GOOD = "https://hooks.example.com/paceline"
LONG = (0.2, 60, 604_800)


def refusal(monkeypatch, **settings: str) -> str:
    for name, value in settings.items():
        monkeypatch.setenv(f"PACELINE_WEBHOOKS_{name}", value)
    with pytest.raises(ValueError, match="PACELINE_WEBHOOKS_") as refused:
        Webhooks()
    assert "\n" not in str(refused.value)
    return str(refused.value)


@pytest.mark.parametrize(
    "url",
    [
        *(GOOD, f" {GOOD}\n", "https://hooks.example.com", "https://hooks.example.com:8443/a?b=c"),
        *("https://bücher.example/", "https://93.184.216.34/", "https://[2606:4700::1111]:8443/"),
    ],
)
def test_an_https_url_of_a_public_host_is_taken(monkeypatch, url):
    monkeypatch.setenv("PACELINE_WEBHOOKS_URL", url)
    Webhooks()


@pytest.mark.parametrize("url", ["http://127.0.0.1:9000/", "http://[::1]/", "https://10.0.0.1/"])
def test_private_networks_and_http_are_taken_where_allowed(monkeypatch, url):
    monkeypatch.setenv("PACELINE_WEBHOOKS_URL", url)
    monkeypatch.setenv("PACELINE_WEBHOOKS_ALLOW_PRIVATE", "1")
    Webhooks()


def test_it_is_made_without_asking_for_the_host(monkeypatch, names):
    monkeypatch.setenv("PACELINE_WEBHOOKS_URL", "https://hooks.example/")
    names["hooks.example"] = []  # each look-up is one too many
    Webhooks()


def test_a_url_that_is_missing_is_asked_for(monkeypatch):
    assert "PACELINE_WEBHOOKS_URL is not set" in refusal(monkeypatch)


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("hooks.example.com/paceline", "is not a web address"),
        ("ftp://hooks.example.com/", "is not a web address"),
        ("https:///paceline", "is not a web address"),
        ("https://hooks.example.com:port/", "is not a URL"),
        ("https://hooks example com/", "is not a URL"),
        ("https://hooks.example.com:99999/", "has the port 99999"),
        ("https://hooks.example.com:0/", "has the port 0"),
        ("http://hooks.example.com/", "which everybody on the way can read"),
        ("https://127.0.0.1/", "points to 127.0.0.1, a private address"),
        ("https://[::1]/", "points to ::1, a private address"),
        ("https://169.254.169.254/latest", "a cloud answers its own machines"),
        ("https://[ff02::1]/", "no public address of one machine"),
    ],
)
def test_a_url_that_is_wrong_is_refused_with_what_to_do(monkeypatch, url, said):
    message = refusal(monkeypatch, URL=url)
    assert said in message
    assert message.startswith("PACELINE_WEBHOOKS_URL")


def test_a_password_in_the_url_is_refused_and_not_told(monkeypatch):
    message = refusal(monkeypatch, URL="https://ada:s3cret@hooks.example.com/")
    assert "user or a password" in message
    assert "s3cret" not in message


def test_a_secret_that_is_missing_is_asked_for(monkeypatch):
    monkeypatch.delenv("PACELINE_WEBHOOKS_SECRET")
    assert "PACELINE_WEBHOOKS_SECRET is not set; make one" in refusal(monkeypatch, URL=GOOD)


def whsec(key: bytes) -> str:
    return f"whsec_{b64encode(key).decode()}"


@pytest.mark.parametrize("length", [24, 32, 64])
def test_a_secret_of_24_to_64_bytes_is_taken(monkeypatch, length):
    monkeypatch.setenv("PACELINE_WEBHOOKS_URL", GOOD)
    monkeypatch.setenv("PACELINE_WEBHOOKS_SECRET", whsec(b"k" * length))
    Webhooks()


@pytest.mark.parametrize(
    "secret",
    [
        whsec(b"hidden-key"[:10]),
        whsec(b"hidden-key" * 7),
        whsec(b"hidden-key" * 3).removeprefix("whsec_"),
        whsec(b"hidden-key" * 3)[:-1],
        f"{whsec(b'hidden-key' * 3)} whsec_hidden",
        f"{whsec(b'hidden-key' * 3)}!!!!",
        "whsec_!idden-key!idden-key!idden-key!idden",
        "whsec_schlüssel",
    ],
)
def test_a_secret_that_is_wrong_is_refused_and_not_told(monkeypatch, secret):
    monkeypatch.setenv("PACELINE_WEBHOOKS_URL", GOOD)
    monkeypatch.setenv("PACELINE_WEBHOOKS_SECRET", secret)
    with pytest.raises(ValueError, match="24 to 64 bytes") as refused:
        Webhooks()
    told = all_that_is_told(refused.value)
    for part in secret.split():
        assert part.removeprefix("whsec_") not in told


@pytest.mark.parametrize("value", ["yes", "true", "2"])
def test_private_addresses_are_allowed_by_1_and_by_nothing_else(monkeypatch, value):
    assert f"is {value!r}; set it to 1" in refusal(monkeypatch, URL=GOOD, ALLOW_PRIVATE=value)


@pytest.mark.parametrize(
    ("text", "ladder_s"),
    [("", Webhooks.ladder_s), (" ", Webhooks.ladder_s), ("5", (5,)), ("0.2, 60,604800", LONG)],
)
def test_the_waits_between_attempts_are_taken_from_the_environment(monkeypatch, text, ladder_s):
    monkeypatch.setenv("PACELINE_WEBHOOKS_URL", GOOD)
    monkeypatch.setenv("PACELINE_WEBHOOKS_LADDER_S", text)
    assert Webhooks().ladder_s == ladder_s


@pytest.mark.parametrize("text", ["5,", "5;300", "0", "5,-1", "nan", "inf", "1e999", "604801"])
def test_waits_that_are_none_are_refused_with_what_to_write(monkeypatch, text):
    message = refusal(monkeypatch, URL=GOOD, LADDER_S=text)
    assert message.startswith(f"PACELINE_WEBHOOKS_LADDER_S is {text!r}; write seconds above 0")


def said_of_the_settings() -> str | None:
    try:
        Webhooks()
    except ValueError as refused:
        return str(refused)
    return None


@given(st.text(st.characters(codec="utf-8", exclude_characters="\0")))
def test_whatever_the_url_is_it_is_taken_or_refused_in_one_sentence(url):
    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.setenv("PACELINE_WEBHOOKS_URL", url)
        said = said_of_the_settings()
        assert said is None or said.startswith("PACELINE_WEBHOOKS_URL ")


def all_that_is_told(error: BaseException) -> str:
    """What a traceback shows at most: the chain, the lines, and the variables of each frame.

    The first frame is the test's own, which knows the secret.
    """
    assert error.__traceback__ is not None
    error.__traceback__ = error.__traceback__.tb_next
    told = traceback.TracebackException.from_exception(error, capture_locals=True)
    shown = [*told.format()]
    return f"{''.join(shown)} {error!r} {vars(error)}"


@pytest.mark.parametrize("status", [400, 410, 503])
def test_no_error_tells_the_secret_or_the_path_of_the_url(
    webhooks, receiver, event, monkeypatch, status
):
    monkeypatch.setenv("PACELINE_WEBHOOKS_URL", f"{receiver.url}/token-in-the-path")
    receiver.does(answer(status))
    with pytest.raises((Gone, Undelivered)) as raised:
        Webhooks().handle(event)
    assert "token-in-the-path" not in "".join(traceback.format_exception(raised.value))
    told = all_that_is_told(raised.value)
    assert "in handle" in told
    assert SECRET.removeprefix("whsec_") not in told
    assert "012345678901234567890123" not in told


@pytest.mark.parametrize("address", ["127.0.0.9", "169.254.169.254"])
def test_no_error_on_the_way_tells_them_either(
    webhooks, receiver, event, monkeypatch, names, address
):
    url = f"http://hooks.example:{receiver.port}/token-in-the-path"
    monkeypatch.setenv("PACELINE_WEBHOOKS_URL", url)
    names["hooks.example"] = [[address]]
    with pytest.raises((Refused, Undelivered)) as raised:
        Webhooks().handle(event)
    assert "token-in-the-path" not in "".join(traceback.format_exception(raised.value))
    assert SECRET.removeprefix("whsec_") not in all_that_is_told(raised.value)
