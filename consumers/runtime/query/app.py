"""create_query_app(): the WSGI application of the query process, which only reads."""

from collections.abc import Callable
from datetime import UTC, datetime

import structlog
from flask import Blueprint, Flask, Response, request
from werkzeug.exceptions import HTTPException

from consumers.runtime.installation import Installation
from consumers.runtime.query.answers import InvalidQuery, Missing, NotServed, answer, problem
from consumers.runtime.query.consumers import consumer_routes
from consumers.runtime.query.documents import KeyConverter, document_routes
from consumers.runtime.query.events import event_routes
from consumers.runtime.query.openapi import openapi
from consumers.runtime.query.pages import docs_page, front_page
from consumers.runtime.query.reading import Reading
from consumers.runtime.query.reads import Routes
from events.errors import Outage
from events.journal import keep_journal
from events.problems import for_status, page
from events.process import die_with_supervisor
from events.schema_fields import shown
from events.settings import Settings, read_settings

logger = structlog.get_logger(__name__)


def _utc_now() -> datetime:
    return datetime.now(UTC)


def query_app() -> Flask:
    """Return the application as the settings say; granian calls it inside the query process."""
    die_with_supervisor()
    keep_journal("query")
    return create_query_app(read_settings())


def create_query_app(
    settings: Settings, *, clock: Callable[[], datetime] = _utc_now, rescan_s: float = 1.0
) -> Flask:
    """Return the application; new consumers and new code are looked for every `rescan_s`."""
    installation = Installation(settings, rescan_s=rescan_s)
    routes = Routes(installation, rescan_s=rescan_s)
    reading = Reading(installation)
    app = Flask("query", static_folder=None)
    # A page in a browser must not reach us under a name of its own that points to loopback.
    app.config["TRUSTED_HOSTS"] = ["127.0.0.1", "localhost", settings.host]
    app.url_map.merge_slashes = False  # a key with two of them is another document's
    app.url_map.converters["key"] = KeyConverter
    app.register_blueprint(event_routes(installation))
    app.register_blueprint(document_routes(installation, reading))
    app.register_blueprint(consumer_routes(installation, routes, reading, clock=clock))
    app.register_blueprint(_own_routes(installation, routes))
    app.register_error_handler(Exception, lambda error: _refused(error, installation))
    app.after_request(_never_stored)
    return app


def _own_routes(installation: Installation, routes: Routes) -> Blueprint:
    blueprint = Blueprint("query", __name__)
    blueprint.add_url_rule("/", view_func=front_page)

    @blueprint.get("/docs")
    def get_docs() -> Response:
        return docs_page(openapi(routes.table().routes))

    @blueprint.get("/openapi.json")
    def get_openapi() -> Response:
        return answer(openapi(routes.table().routes))

    @blueprint.get("/problems/<slug>")
    def get_problem(slug: str) -> Response:
        try:
            return Response(page(slug), content_type="text/html; charset=utf-8")
        except KeyError:
            return problem("not-found", f"There is no problem {shown(slug)}.")

    @blueprint.get("/healthz")
    def get_health() -> Response:
        return answer({"status": "ok"})

    @blueprint.get("/readyz")
    def get_readiness() -> Response:
        log = installation.log()
        if log is None:
            raise NotServed("unavailable", "There is no event log yet; the relay makes it.")
        log.settled()
        return answer({"status": "ready"})

    return blueprint


def _refused(error: Exception, installation: Installation) -> Response:
    match error:
        case InvalidQuery():
            return problem("invalid-query", str(error))
        case Missing():
            return problem("not-found", str(error))
        case NotServed():
            return problem(error.slug, str(error), retry_after_s=1)
        case Outage():
            # The file may have been replaced or repaired: the next request opens it again.
            installation.reopen()
            logger.warning("cannot read", action="query_outage", reason=str(error))
            return problem("unavailable", str(error), retry_after_s=2)
        case HTTPException():
            return _http_problem(error)
        case _:
            logger.error("request failed", action="request_failed", exc_info=error)
            return problem("internal")


def _http_problem(error: HTTPException) -> Response:
    code = error.code or 500
    detail = f"There is nothing at {shown(request.path)}." if code == 404 else error.description
    response = problem(for_status(code), detail or "")
    for name, value in error.get_headers():
        if name == "Allow":
            response.headers[name] = value
    return response


def _never_stored(response: Response) -> Response:
    response.headers.setdefault("Cache-Control", "no-store")
    response.headers.setdefault("X-Content-Type-Options", "nosniff")
    return response
