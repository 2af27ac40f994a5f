"""create_app(): the producer's WSGI application from its parts."""

from collections.abc import Callable, Sequence

import structlog
from flask import Flask, Response
from werkzeug.exceptions import HTTPException, MethodNotAllowed

from events.envelope import Sealed
from events.problems import for_status
from producer.answers import problem
from producer.outbox import Accepted, Outbox
from producer.outbox_reader import OutboxReader
from producer.routes import Accept, routes

logger = structlog.get_logger(__name__)


def create_app(
    outbox: Outbox,
    reader: OutboxReader,
    *,
    passed: Callable[[str], int | None],
    forward: Callable[[], Response],
    host: str = "127.0.0.1",
    kept: Callable[[Sequence[Accepted]], None] | None = None,
) -> Flask:
    """Return the application; `passed` tells up to which row the relay has carried a source on.

    `forward` answers what is not the producer's own; `host` is the name that it is asked under;
    `kept` waits until what was accepted is also elsewhere, and raises Outage.
    """
    app = Flask("producer", static_folder=None)
    # A page in a browser must not reach us under a name of its own that points to loopback.
    app.config["TRUSTED_HOSTS"] = ["127.0.0.1", "localhost", host]
    accept = _accepting(outbox, kept)
    app.register_blueprint(routes(outbox, reader, accept=accept, passed=passed, forward=forward))
    app.add_url_rule("/", "forward_root", forward, methods=["GET"])
    app.add_url_rule("/<path:path>", "forward", lambda path: forward(), methods=["GET"])
    for path in ("/v1/workouts", "/v1/workouts/batch"):
        app.add_url_rule(path, f"no GET {path}", _only_post, methods=["GET"])
    app.register_error_handler(HTTPException, _http_error)
    app.register_error_handler(Exception, _unexpected)
    return app


def _accepting(outbox: Outbox, kept: Callable[[Sequence[Accepted]], None] | None) -> Accept:
    def accept(events: Sequence[Sealed]) -> list[Accepted]:
        accepted = outbox.accept(events)
        if kept is not None:
            kept(accepted)
        return accepted

    return accept


def _only_post() -> Response:
    raise MethodNotAllowed(["POST"])


def _http_error(error: Exception) -> Response:
    code = error.code if isinstance(error, HTTPException) else None
    response = problem(for_status(code or 500), str(error))
    if isinstance(error, MethodNotAllowed) and error.valid_methods:
        response.headers["Allow"] = ", ".join(error.valid_methods)
    return response


def _unexpected(error: Exception) -> Response:
    logger.error("request failed", action="request_failed", exc_info=error)
    return problem("internal")
