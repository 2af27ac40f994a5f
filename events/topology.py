"""Every exchange, queue and routing-key name, and how a topic pattern matches a routing key."""

import re
from collections.abc import Iterable
from functools import lru_cache

EXCHANGE = "paceline.events"


def queue_name(consumer: str) -> str:
    """Return the name of a consumer's durable queue."""
    return f"paceline.{consumer}"


@lru_cache(maxsize=4096)
def matches(pattern: str, routing_key: str) -> bool:
    """Say whether an AMQP topic pattern matches: `*` is one word, `#` is any number of words."""
    return _match(pattern.split("."), routing_key.split("."))


def wanted(bindings: Iterable[str], routing_key: str) -> bool:
    """Say whether any of the bindings matches the routing key."""
    return any(matches(pattern, routing_key) for pattern in bindings)


def _match(pattern: list[str], words: list[str]) -> bool:
    reachable = {0}
    for word in pattern:
        if word == "#":
            reachable = set(range(min(reachable, default=len(words) + 1), len(words) + 1))
        else:
            reachable = {at + 1 for at in reachable if at < len(words) and word in ("*", words[at])}
    return len(words) in reachable


def check_pattern(pattern: str) -> None:
    """Raise ValueError for what RabbitMQ would take but never match as its author expects."""
    if not re.fullmatch(r"(?:[a-z0-9_-]+|\*|#)(?:\.(?:[a-z0-9_-]+|\*|#))*", pattern):
        raise ValueError(
            f"binding {pattern!r} is no topic pattern; write words of a-z, 0-9, _ and - with dots "
            "between them, * for one word and # for any number of words"
        )
