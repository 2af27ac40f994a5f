"""JSON as the door takes it: UTF-8, no NaN, no duplicate keys, no depth that breaks a parser."""

import json
from collections import Counter
from typing import Any, NoReturn

from events.errors import PacelineError
from events.schema_fields import shown


class MalformedJson(PacelineError):
    """The body is not JSON."""


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        counts = Counter(name for name, _ in pairs)
        twice, _ = counts.most_common(1)[0]
        raise MalformedJson(f"The key {shown(twice)} stands twice in one object.")
    return found


def _no_constant(name: str) -> NoReturn:
    raise MalformedJson(f"{name} is not a JSON number.")


_decode = json.JSONDecoder(object_pairs_hook=_unique, parse_constant=_no_constant).decode


def parse(body: bytes) -> Any:
    """Return the value of a body; raises MalformedJson with the place where it breaks."""
    try:
        return _decode(body.decode("utf-8"))
    except UnicodeDecodeError as error:
        raise MalformedJson(f"The body is not UTF-8 at byte {error.start}.") from error
    except RecursionError as error:
        raise MalformedJson("The body is nested too deeply.") from error
    except json.JSONDecodeError as error:
        raise MalformedJson(f"{error.msg} at character {error.pos}.") from error
    except ValueError as error:  # an integer of more digits than the interpreter takes
        raise MalformedJson("A number has too many digits.") from error
