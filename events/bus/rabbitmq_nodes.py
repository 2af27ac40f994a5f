"""Where a broker is and how it is connected to, read from its URL."""

import re
import ssl
from collections.abc import Mapping
from urllib.parse import SplitResult, parse_qsl, urlencode, urlsplit

import pika

from events.errors import PacelineError

_HEARTBEAT_S, _SOCKET_S, _OPEN_S, _BLOCKED_S = 30, 5.0, 10.0, 300.0
_OURS = ("cafile", "certfile", "keyfile")


def parameters(url: str, *, name: str) -> list[pika.URLParameters]:
    """Return how to connect to each node that a URL names; `name` is what the broker shows.

    The nodes of a cluster stand with commas between them: `amqp://user:password@a:5672,b:5672/`.
    `amqps://` checks the broker's certificate. `?cafile=` names who signed it, where the system
    does not know; `certfile=` and `keyfile=` are the client's own, where the broker asks for one.
    Raises PacelineError for a bad URL.
    """
    scheme, _, rest = url.partition("://")
    netloc = re.split("[/?#]", rest, maxsplit=1)[0]
    who, at, nodes = netloc.rpartition("@")
    after = rest[len(netloc) :]
    return [_node(f"{scheme}://{who}{at}{node}{after}", name) for node in nodes.split(",")]


def _node(url: str, name: str) -> pika.URLParameters:
    parts = _split(url)
    query = dict(parse_qsl(parts.query))
    files = {key: query.pop(key) for key in _OURS if key in query}
    plain = parts._replace(query=urlencode(query)).geturl()
    try:
        made = pika.URLParameters(plain)
    except (TypeError, ValueError, AttributeError) as error:
        raise PacelineError(f"The broker's URL for {address(url)} is not usable.") from error
    if parts.scheme == "amqps":
        made.ssl_options = pika.SSLOptions(_tls(files), parts.hostname)
    made.heartbeat, made.blocked_connection_timeout = _HEARTBEAT_S, _BLOCKED_S
    made.socket_timeout, made.stack_timeout = _SOCKET_S, _OPEN_S
    made.client_properties = {"connection_name": name}
    return made


def _split(url: str) -> SplitResult:
    wrong = PacelineError("The broker's URL must be amqp://… or amqps://… with a host.")
    try:
        parts = urlsplit(url)
    except ValueError as error:
        raise wrong from error
    if parts.scheme not in ("amqp", "amqps") or not parts.hostname:
        raise wrong
    return parts


def _tls(files: Mapping[str, str]) -> ssl.SSLContext:
    try:
        context = ssl.create_default_context(cafile=files.get("cafile"))
        if "certfile" in files:
            context.load_cert_chain(files["certfile"], files.get("keyfile"))
    except (OSError, ssl.SSLError) as error:
        named = ", ".join(files.values())
        raise PacelineError(f"The certificates in {named} cannot be read: {error}.") from error
    return context


def address(url: str) -> str:
    """Return a broker's URL without who connects and how, for messages."""
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"
