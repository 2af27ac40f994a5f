"""The consumers: what each is doing, and its reads."""

from collections.abc import Callable
from dataclasses import asdict
from datetime import datetime

from flask import Blueprint, Response

from consumers.runtime.installation import Installation
from consumers.runtime.query.answers import answer, page, parameters
from consumers.runtime.query.documents import known
from consumers.runtime.query.reading import Reading
from consumers.runtime.query.reads import Routes, answer_read
from consumers.runtime.status import status, statuses


def consumer_routes(
    installation: Installation, routes: Routes, reading: Reading, *, clock: Callable[[], datetime]
) -> Blueprint:
    """Return the addresses; every path under /v1 that is nobody else's may be a consumer's read."""
    blueprint = Blueprint("consumers", __name__)

    @blueprint.get("/v1/consumers")
    def list_consumers() -> Response:
        parameters()
        return answer(page([asdict(one) for one in statuses(installation, now=clock())], None))

    @blueprint.get("/v1/consumers/<name>")
    def get_consumer(name: str) -> Response:
        parameters()
        known(installation, name)
        found = installation.found()[name]
        return answer(asdict(status(installation, found, now=clock())))

    @blueprint.get("/v1/<path:rest>")
    def get_read(rest: str) -> Response:
        return answer_read(f"/{rest}", routes, reading, clock=clock)

    return blueprint
