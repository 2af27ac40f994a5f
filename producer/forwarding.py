"""What is not the producer's own goes to the query process: few seats, one deadline, no retries."""

from threading import BoundedSemaphore
from urllib.parse import quote

import urllib3
from flask import Response, request

from producer.answers import problem

DEADLINE_S = 7.0
_BACK = (
    "Content-Type",
    "Paceline-Fate",
    "Retry-After",
    "Cache-Control",
    "X-Content-Type-Options",
)


class Forwarding:
    """The way to the query process; accepting never waits for it."""

    def __init__(self, base_url: str, *, seats: int) -> None:
        self._base_url = base_url
        self._seats = BoundedSemaphore(seats)
        self._pool = urllib3.PoolManager(maxsize=seats, retries=False, timeout=DEADLINE_S)

    def forward(self) -> Response:
        """Answer the present request with the query process's answer, or a 503 problem."""
        if not self._seats.acquire(blocking=False):
            return problem("busy", "Every seat for reading is taken.", retry_after_s=1)
        try:
            return self._ask()
        except urllib3.exceptions.HTTPError:
            detail = "The query process does not answer; accepting goes on."
            return problem("unavailable", detail, retry_after_s=2)
        finally:
            self._seats.release()

    def _ask(self) -> Response:
        # WSGI hands the path over decoded, byte by byte in Latin-1.
        path = quote(request.environ["PATH_INFO"].encode("latin-1"))
        query = request.environ.get("QUERY_STRING", "")
        target = f"{path}?{query}" if query else path
        answer = self._pool.request(
            request.method,
            self._base_url + target,
            headers={"Accept": request.headers.get("Accept", "*/*")},
            redirect=False,
        )
        headers = {name: answer.headers[name] for name in _BACK if name in answer.headers}
        return Response(answer.data, status=answer.status, headers=headers)
