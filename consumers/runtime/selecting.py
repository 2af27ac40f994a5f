"""Selecting: what the arguments of an operation name, and how many ids travel in them."""

from base64 import b64decode, b64encode
from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any

from events.envelope import id_bytes, id_text
from events.errors import PacelineError
from events.log import Selection

MOST_IDS = 100_000
_READABLE_IDS = 50
_PACKED = "packed_ids"


def selection_of(arguments: dict[str, Any], bindings: tuple[str, ...]) -> Selection:
    """Return the part of the log that a replay's arguments name."""
    return Selection(
        bindings=bindings,
        user_id=arguments.get("user"),
        kind=arguments.get("type"),
        ids=ids_of(arguments),
        accepted_from=_moment(arguments.get("from")),
        accepted_to=_moment(arguments.get("to")),
    )


def not_before(selection: Selection, since: datetime | None) -> Selection:
    """Return of a selection what was accepted at `since` or later; None leaves it as it is."""
    if since is None:
        return selection
    return replace(selection, accepted_from=max(since, selection.accepted_from or since))


def chosen_ids(ids: Sequence[str]) -> dict[str, Any]:
    """Return ids as arguments: readable where they are few, packed where they are many.

    Whoever carries on reads the arguments at each turn. Raises PacelineError for what is no id, and
    for more than a hundred thousand.
    """
    _check(ids)
    if len(ids) > MOST_IDS:
        raise PacelineError(
            f"{len(ids)} ids are more than {MOST_IDS} at once; select by time, user or type, or "
            "split them."
        )
    if len(ids) <= _READABLE_IDS:
        return {"ids": list(ids)}
    return {_PACKED: b64encode(b"".join(map(id_bytes, ids))).decode()}


def ids_of(arguments: dict[str, Any]) -> list[str] | None:
    """Return the ids that arguments name, or None; raises PacelineError for what is none."""
    if _PACKED in arguments:
        packed = b64decode(arguments[_PACKED])
        return [id_text(packed[start : start + 16]) for start in range(0, len(packed), 16)]
    ids: list[str] | None = arguments.get("ids")
    _check(ids or ())
    return ids


def _check(ids: Sequence[str]) -> None:
    for event_id in ids:
        if not _is_id(event_id):
            raise PacelineError(f"{event_id!r:.80} is no event's id; see `paceline events list`.")


def _is_id(event_id: str) -> bool:
    try:
        return len(id_bytes(event_id)) == 16
    except ValueError:
        return False


def _moment(text: str | None) -> datetime | None:
    return datetime.fromisoformat(text) if text else None


def readable(arguments: dict[str, Any]) -> dict[str, Any]:
    """Return arguments as people read them: of many ids only how many they are."""
    if _PACKED not in arguments:
        return arguments
    others = {name: value for name, value in arguments.items() if name != _PACKED}
    return others | {"ids": f"{len(ids_of(arguments) or ())} ids"}
