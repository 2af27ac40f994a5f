"""A consumer's documents, without code of its own: by key, and by its indexes."""

import json
from functools import partial
from typing import Any

from flask import Blueprint, Response
from werkzeug.routing import PathConverter

from consumers import Documents
from consumers.runtime.installation import Installation
from consumers.runtime.query.answers import InvalidQuery, Missing, limit_of, page, parameters
from consumers.runtime.query.reading import Reading
from consumers.runtime.query.waiting import PARAMETERS
from consumers.runtime.store import Generation
from events.schema_fields import shown

LISTING = ("index", "equals", "prefix", "limit", "cursor")
# No key holds it and none sorts after it: it is the largest character, and not printable.
_LAST = "\U0010ffff"


class KeyConverter(PathConverter):
    """A document's key: any text, also with slashes where a path would not have them."""

    regex = ".+?"
    part_isolating = False


def document_routes(installation: Installation, reading: Reading) -> Blueprint:
    """Return the addresses; the application must know the converter `key`."""
    blueprint = Blueprint("documents", __name__)

    @blueprint.get("/v1/consumers/<name>/documents/<key:key>")
    def get_document(name: str, key: str) -> Response:
        given = parameters(*PARAMETERS)
        known(installation, name)
        return reading.answer(name, given, partial(_one, key=key))

    @blueprint.get("/v1/consumers/<name>/documents")
    def list_documents(name: str) -> Response:
        given = parameters(*LISTING, *PARAMETERS)
        known(installation, name)
        look = _by_index if "index" in given else _by_key
        return reading.answer(name, given, partial(look, given=given, limit=limit_of(given)))

    return blueprint


def known(installation: Installation, name: str) -> None:
    """Raise Missing for a name that is no consumer's."""
    if name not in installation.found():
        names = ", ".join(installation.names()) or "none"
        raise Missing(f"There is no consumer {shown(name)}; there are: {names}.")


def _one(documents: Documents, live: Generation, *, key: str) -> dict[str, Any]:
    document = documents.get(key)
    if document is None:
        raise LookupError(f"There is no document {shown(key)}.")
    return _item(key, document)


def _item(key: str, document: dict[str, Any]) -> dict[str, Any]:
    return {"key": key, "document": document}


def _by_key(
    documents: Documents, live: Generation, *, given: dict[str, str], limit: int
) -> dict[str, Any]:
    if "equals" in given:
        raise InvalidQuery("equals needs index, the name of the index that has these fields.")
    prefix, cursor = given.get("prefix", ""), given.get("cursor")
    first = prefix
    if cursor is not None:
        if not cursor.startswith(prefix):
            raise InvalidQuery(f"cursor is {shown(cursor)}, which is not of this list.")
        first = cursor + "\0"  # the least text after it
    found = documents.range(first, prefix + _LAST, limit=limit + 1)
    following = found[limit - 1][0] if len(found) > limit else None
    return page([_item(*one) for one in found[:limit]], following)


def _by_index(
    documents: Documents, live: Generation, *, given: dict[str, str], limit: int
) -> dict[str, Any]:
    if "prefix" in given:
        raise InvalidQuery("prefix lists by key; with index, give equals.")
    index = given["index"]
    if index not in live.indexes:
        names = ", ".join(live.indexes) or "none"
        raise InvalidQuery(f"index is {shown(index)}; this consumer has: {names}.")
    equals = _values(given.get("equals", "[]"), live.indexes[index])
    found, following = documents.listed(index, equals, limit=limit, after=given.get("cursor"))
    return page([_item(*one) for one in found], following)


def _values(text: str, fields: tuple[str, ...]) -> list[str | int]:
    """Return the values of an index's leading fields: a JSON list, or one text as it is."""
    try:
        values = json.loads(text) if text.startswith("[") else [text]
    except (ValueError, RecursionError):
        values = [None]
    if len(values) > len(fields) or not all(_is_value(value) for value in values):
        example = 'ada or ["ada",2026]'
        raise InvalidQuery(
            f"equals is {shown(text)}; it must be a text, or a JSON list of texts and whole numbers"
            f" for the first of {', '.join(fields)}: {example}."
        )
    return list(values)


def _is_value(value: object) -> bool:
    if isinstance(value, int):
        return not isinstance(value, bool) and abs(value) < 1 << 63
    return isinstance(value, str)
