"""Sending: one POST to an address that was looked at, and what was answered."""

import ssl
from collections.abc import Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import NamedTuple

import httpx2

from paceline_webhooks.addresses import look_up

CONNECT_S = 3.0  # for each address of the host
LONGEST_WAIT_S = 86_400.0
PORTS = {"http": 80, "https": 443}


class Answer(NamedTuple):
    """The status, and for how many seconds the receiver asks to be left alone."""

    status: int
    retry_after_s: float


async def post(
    url: httpx2.URL,
    body: bytes,
    headers: Mapping[str, str],
    *,
    private: bool,
    context: ssl.SSLContext,
) -> Answer:
    """Send a body and return the answer; the caller bounds the time.

    The addresses of the host are tried in their order, until one takes the connection. Raises
    Refused where one of them is not allowed, OSError if there is none, and httpx2.HTTPError for
    what goes wrong on the way.
    """
    addresses = await look_up(url.raw_host, url.port or PORTS[url.scheme], private=private)
    timeout = httpx2.Timeout(None, connect=CONNECT_S)
    # Proxies that the environment names would look the host up again.
    async with httpx2.AsyncClient(verify=context, timeout=timeout, trust_env=False) as client:
        for address in addresses[:-1]:
            try:
                return await _post_to(address, client, url, body, headers)
            except (httpx2.ConnectError, httpx2.ConnectTimeout):
                continue  # nothing was sent yet
        return await _post_to(addresses[-1], client, url, body, headers)


async def _post_to(
    address: str,
    client: httpx2.AsyncClient,
    url: httpx2.URL,
    body: bytes,
    headers: Mapping[str, str],
) -> Answer:
    request = client.build_request(
        "POST",
        url.copy_with(host=address),
        content=body,
        headers={**headers, "host": url.netloc.decode(), "connection": "close"},
        # The name is what the certificate is checked against.
        extensions={"sni_hostname": url.raw_host.decode()},
    )
    response = await client.send(request, stream=True, follow_redirects=False)
    # The status says it all. What comes after it may be endless, and is not read.
    await response.aclose()
    return Answer(response.status_code, retry_after_s(response.headers.get("retry-after", "")))


def retry_after_s(header: str) -> float:
    """Return the seconds that a Retry-After asks for, from now, at most a day; 0 if unreadable."""
    text = header.strip()
    try:
        wait = float(text) if text.isascii() and text.isdigit() else _seconds_until(text)
    except (ValueError, OverflowError):
        return 0.0
    return min(max(wait, 0.0), LONGEST_WAIT_S)


def _seconds_until(date: str) -> float:
    moment = parsedate_to_datetime(date)
    # One of the three forms names no zone; all of them are GMT.
    return (moment.replace(tzinfo=moment.tzinfo or UTC) - datetime.now(UTC)).total_seconds()
