"""Settings: where the webhooks go and what signs them, from the environment.

No message quotes a secret, nor a whole URL, which may hold one. What looks at a secret returns what
is wrong with it, and the environment is never handed over: so no frame of a traceback holds one.
"""

import binascii
import os
from base64 import b64decode
from typing import NamedTuple

import httpx2
from standardwebhooks import Webhook

from paceline_webhooks.addresses import objection

URL, SECRET = "PACELINE_WEBHOOKS_URL", "PACELINE_WEBHOOKS_SECRET"
ALLOW_PRIVATE = "PACELINE_WEBHOOKS_ALLOW_PRIVATE"
LADDER = "PACELINE_WEBHOOKS_LADDER_S"
# The schedule that Standard Webhooks gives as its example: three days, then it is dead.
LADDER_S = (5, 300, 1_800, 7_200, 18_000, 36_000, 50_400, 72_000, 86_400)
LONGEST_RUNG_S = 604_800.0  # a week
LIKE = "write it like https://hooks.example.com/paceline"
PREFIX = "whsec_"
SHORTEST, LONGEST = 24, 64  # bytes, as Standard Webhooks says


class Settings(NamedTuple):
    """Where the webhooks go, a signer for each secret, and the waits between attempts."""

    url: httpx2.URL
    private: bool
    signers: tuple[Webhook, ...]
    ladder_s: tuple[float, ...]


def read_settings() -> Settings:
    """Return the settings; raises ValueError, one sentence, where one is missing or wrong."""
    allowed = os.environ.get(ALLOW_PRIVATE, "")
    if allowed not in {"", "0", "1"}:
        raise ValueError(f"{ALLOW_PRIVATE} is {allowed!r}; set it to 1, or leave it out.")
    url = _url(os.environ.get(URL, "").strip(), private=allowed == "1")
    ladder_s = _ladder_s(os.environ.get(LADDER, ""))
    if wrong := _wrong_with_secrets():
        raise ValueError(wrong)
    signers = tuple(Webhook(secret) for secret in os.environ[SECRET].split())
    return Settings(url, allowed == "1", signers, ladder_s)


def _url(text: str, *, private: bool) -> httpx2.URL:
    if not text:
        raise ValueError(f"{URL} is not set; {LIKE}.")
    try:
        url = httpx2.URL(text)
    except httpx2.InvalidURL:
        url = None
    # httpx2 would quote a space, and ask for a host that nobody meant.
    if url is None or len(text.split()) != 1:
        raise ValueError(f"{URL} is not a URL; {LIKE}.")
    if wrong := _wrong_with(url, private=private):
        raise ValueError(f"{URL} {wrong}.")
    return url


def _wrong_with(url: httpx2.URL, *, private: bool) -> str | None:
    if url.scheme not in {"http", "https"} or not url.host:
        return f"is not a web address; {LIKE}"
    if url.userinfo:
        return "holds a user or a password; leave them out, the webhooks are signed"
    if url.scheme == "http" and not private:
        return (
            f"begins with http://, which everybody on the way can read; {LIKE}, or, for a receiver "
            f"on a private network, set {ALLOW_PRIVATE}=1"
        )
    if url.port is not None and not 0 < url.port < 65536:
        return f"has the port {url.port}; it must be between 1 and 65535"
    return _wrong_with_address(url.host, private=private)


def _wrong_with_address(host: str, *, private: bool) -> str | None:
    try:
        wrong = objection(host, private=private)
    except ValueError:
        return None  # a name, which is looked up for each call
    more = "" if private else f", or, if you mean it, set {ALLOW_PRIVATE}=1"
    return f"points to {host}, {wrong}; {LIKE}{more}" if wrong else None


def _ladder_s(text: str) -> tuple[float, ...]:
    if not text.strip():
        return LADDER_S
    try:
        rungs_s = tuple(float(rung) for rung in text.split(","))
    except ValueError:
        rungs_s = ()
    if not rungs_s or not all(0 < rung_s <= LONGEST_RUNG_S for rung_s in rungs_s):
        raise ValueError(
            f"{LADDER} is {text!r:.80}; write seconds above 0, at most {LONGEST_RUNG_S:.0f}, with "
            "commas between them, such as 5,300,1800."
        )
    return rungs_s


def _wrong_with_secrets() -> str | None:
    secrets = os.environ.get(SECRET, "").split()
    if not secrets:
        return f'{SECRET} is not set; make one: echo "whsec_$(head -c 32 /dev/urandom | base64)"'
    if not all(_is_secret(secret) for secret in secrets):
        return (
            f"{SECRET} is not {PREFIX} and the base64 of {SHORTEST} to {LONGEST} bytes; make one: "
            'echo "whsec_$(head -c 32 /dev/urandom | base64)"'
        )
    return None


def _is_secret(text: str) -> bool:
    try:
        key = b64decode(text.removeprefix(PREFIX), validate=True)
    except (binascii.Error, ValueError):
        return False
    return text.startswith(PREFIX) and SHORTEST <= len(key) <= LONGEST
