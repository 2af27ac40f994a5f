"""A receiver of webhooks on loopback that does what it is told."""

import threading
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from random import Random
from ssl import SSLContext
from typing import Any

SECRET = "whsec_" + "MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIz"  # 24 bytes
Behaviour = Callable[[BaseHTTPRequestHandler], None]


@dataclass(frozen=True)
class Got:
    path: str
    headers: dict[str, str]
    body: bytes


def answer(status: int, **headers: str) -> Behaviour:
    def behave(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(status)
        for name, value in headers.items():
            handler.send_header(name.replace("_", "-"), value)
        handler.send_header("Content-Length", "0")
        handler.end_headers()

    return behave


class Mood:
    """A receiver that often fails, and at some webhooks ends the process that sends them.

    What fails, and how often, depends on the webhook alone, so that each one arrives in the end.
    """

    KILLS_AT = (20, 90, 160, 230)

    def __init__(self, kill: Callable[[], None]) -> None:
        self._kill, self._lock = kill, threading.Lock()
        self._calls = 0
        self._left: dict[str, list[str]] = {}
        self.kills, self.done = 0, Counter[str]()
        self.taken: set[str] = set()  # the ids of those that were answered well

    def __call__(self, handler: BaseHTTPRequestHandler) -> None:
        webhook_id = handler.headers["webhook-id"]
        with self._lock:
            self._calls += 1
            ends_it = self._calls in self.KILLS_AT
            left = self._left.setdefault(webhook_id, self._failures_of(webhook_id))
            mood = left.pop() if left else "well"
        if ends_it:
            self._kill()
            self.kills += 1
        self._behave(mood, handler)
        self.done[mood] += 1
        if mood in {"well", "slow"} and not ends_it:
            self.taken.add(webhook_id)

    @staticmethod
    def _failures_of(webhook_id: str) -> list[str]:
        random = Random(webhook_id)
        return random.choices(["error", "hang-up", "slow"], k=random.choice((0, 0, 1, 1, 2, 3)))

    @staticmethod
    def _behave(mood: str, handler: BaseHTTPRequestHandler) -> None:
        if mood == "error":
            answer(500)(handler)
        elif mood != "hang-up":
            time.sleep(0.3 if mood == "slow" else 0)
            answer(204)(handler)


class Server(ThreadingHTTPServer):
    daemon_threads = False
    block_on_close = True
    context: SSLContext | None = None

    def get_request(self) -> tuple[Any, Any]:
        connection, address = super().get_request()
        if self.context is not None:
            try:
                connection = self.context.wrap_socket(connection, server_side=True)
            except OSError:
                connection.close()
                raise  # http.server goes on with the next one
        return connection, address


@dataclass
class Receiver:
    """What came, and what is answered: each call takes the next behaviour, the last one stays."""

    behaviours: list[Behaviour] = field(default_factory=lambda: [answer(204)])
    got: list[Got] = field(default_factory=list)
    ended: threading.Event = field(default_factory=threading.Event)
    server: Server = field(init=False)

    def __post_init__(self) -> None:
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                length = int(self.headers["Content-Length"])
                body = self.rfile.read(length)
                if len(body) < length:
                    return  # the sender was killed on the way
                headers = {name.lower(): value for name, value in self.headers.items()}
                receiver.got.append(Got(self.path, headers, body))
                left = receiver.behaviours
                behave = left.pop(0) if len(left) > 1 else left[0]
                with suppress(OSError):  # a sender that gives up is part of the game
                    behave(self)

            def log_message(self, *told: Any) -> None:
                pass

        self.server = Server(("127.0.0.1", 0), Handler)

    @property
    def port(self) -> int:
        return int(self.server.server_address[1])

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/hooks"

    def does(self, *behaviours: Behaviour) -> None:
        self.behaviours = [*behaviours]
