"""Webhooks: every badge that is unlocked, sent to one URL, signed as Standard Webhooks says."""

import asyncio
import json
from collections.abc import Mapping
from dataclasses import asdict, is_dataclass
from datetime import UTC, date, datetime
from typing import Any

import httpx2

from paceline_webhooks.addresses import Refused
from paceline_webhooks.sending import Answer, post
from paceline_webhooks.settings import LADDER_S, URL, read_settings

__all__ = ["Gone", "Refused", "Undelivered", "Webhooks"]


class Undelivered(Exception):
    """The receiver did not say that it has the webhook; it is sent again, not before the wait."""

    def __init__(self, message: str, retry_after_s: float = 0.0) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


class Gone(Exception):
    """The receiver wants no more webhooks."""

    pause = True


class Webhooks:
    """Sends each unlocked badge to PACELINE_WEBHOOKS_URL.

    Made without arguments: it reads its settings from the environment, and raises ValueError, one
    sentence, where one is missing or wrong.
    """

    name = "webhooks"
    bindings = ("achievement.unlocked.#",)
    version = 1
    concurrency = 4  # threads; nothing is shared that a call changes
    deadline_s = 20.0
    answer_s = 15.0  # of one call, looking up and connecting included; under the deadline
    ladder_s: tuple[float, ...] = LADDER_S  # or what the environment says

    def __init__(self) -> None:
        self._url, self._private, self._signers, self.ladder_s = read_settings()
        self._place = self._url.netloc.decode()
        self._context = httpx2.create_ssl_context()

    def handle(self, event: Any) -> None:
        """Send an event, and return once the receiver has said that it has it.

        Raises Undelivered where it is to be sent again, Gone where the receiver wants no more, and
        Refused where the host is at an address that gets no webhook.
        """
        body = _body(event)
        answer = asyncio.run(self._sent(body, self._headers(event.id, body)))
        if answer.status == 410:
            raise Gone(
                f"{self._place} answered 410 Gone: it wants no more webhooks. Set {URL} to one "
                "that does and start again, then: paceline consumers resume webhooks"
            )
        if not 200 <= answer.status < 300:
            redirected = 300 <= answer.status < 400
            more = f", and redirects are not followed: correct {URL}" if redirected else ""
            raise Undelivered(
                f"{self._place} answered {answer.status}{more}.", answer.retry_after_s
            )

    async def _sent(self, body: bytes, headers: Mapping[str, str]) -> Answer:
        try:
            async with asyncio.timeout(self.answer_s):
                return await post(
                    self._url, body, headers, private=self._private, context=self._context
                )
        except TimeoutError:
            raise Undelivered(f"{self._place} did not answer in {self.answer_s:g} s.") from None
        except (OSError, httpx2.HTTPError) as error:
            # Not chained: the other one holds the request, and with it the path of the URL.
            reason = str(error) or type(error).__name__
            raise Undelivered(f"{self._place} cannot be reached: {reason}.") from None

    def _headers(self, event_id: str, body: bytes) -> dict[str, str]:
        now = datetime.now(UTC)  # of this attempt: receivers refuse what is older than 5 minutes
        signed = [
            signer.sign(msg_id=event_id, timestamp=now, data=body.decode())
            for signer in self._signers
        ]
        return {
            "content-type": "application/json",
            "user-agent": f"paceline-webhooks/{self.version}",
            "webhook-id": event_id,
            "webhook-timestamp": str(int(now.timestamp())),
            "webhook-signature": " ".join(signed),
        }


def _body(event: Any) -> bytes:
    """The JSON that is signed and sent: the same bytes for each attempt."""
    fact = event.data
    content = {
        "type": event.type,
        "timestamp": event.time.isoformat(),
        "data": asdict(fact) if is_dataclass(fact) and not isinstance(fact, type) else dict(fact),
    }
    return json.dumps(content, separators=(",", ":"), default=_day).encode()


def _day(value: Any) -> str:
    if isinstance(value, date):
        return value.isoformat()
    raise TypeError(f"{value!r} is no JSON")
