"""What the receiver gets, and what follows from what it answers; all of it over real sockets."""

import base64
import hashlib
import hmac
import json
import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from standardwebhooks import Webhook
from webhook_receiver import SECRET, Receiver, answer

from paceline_webhooks import Gone, Undelivered, Webhooks
from paceline_webhooks.sending import retry_after_s

FOREVER = 60  # no test waits for this: it is what a broken deadline would run into


def undelivered(webhooks: Webhooks, event: SimpleNamespace) -> Undelivered:
    with pytest.raises(Undelivered) as raised:
        webhooks.handle(event)
    assert not getattr(raised.value, "permanent", False)
    assert not getattr(raised.value, "pause", False)
    return raised.value


def test_an_event_is_posted_as_json_of_type_time_and_fact(webhooks, receiver, event):
    webhooks.handle(event)
    (got,) = receiver.got
    assert got.path == "/hooks"
    assert got.headers["content-type"] == "application/json"
    assert got.headers["webhook-id"] == event.id
    assert got.headers["host"] == f"127.0.0.1:{receiver.port}"
    assert json.loads(got.body) == {
        "type": "achievement.unlocked",
        "timestamp": "2026-11-24T07:30:00+01:00",
        "data": {
            "user_id": "ada",
            "badge": "first-workout",
            "workout_id": "w-1",
            "day": "2026-11-24",
            "origin": "live",
        },
    }


def test_a_fact_that_is_a_mapping_is_sent_too(webhooks, receiver, event):
    event.data = {"badge": "first-workout", "day": datetime(2026, 11, 24, tzinfo=UTC).date()}
    webhooks.handle(event)
    assert json.loads(receiver.got[0].body)["data"] == {
        "badge": "first-workout",
        "day": "2026-11-24",
    }


def test_the_library_of_standard_webhooks_verifies_the_signature(webhooks, receiver, event):
    webhooks.handle(event)
    (got,) = receiver.got
    assert Webhook(SECRET).verify(got.body, got.headers)["type"] == "achievement.unlocked"


def test_the_signature_is_the_hmac_of_id_time_and_body(webhooks, receiver, event):
    before = int(time.time())
    webhooks.handle(event)
    (got,) = receiver.got
    sent_at = got.headers["webhook-timestamp"]
    assert before <= int(sent_at) <= time.time()
    signed = b".".join([event.id.encode(), sent_at.encode(), got.body])
    digest = hmac.new(b"012345678901234567890123", signed, hashlib.sha256).digest()
    assert got.headers["webhook-signature"] == f"v1,{base64.b64encode(digest).decode()}"


def test_with_two_secrets_a_receiver_of_either_verifies_it(receiver, webhooks, event, monkeypatch):
    new = "whsec_" + base64.b64encode(b"n" * 32).decode()
    monkeypatch.setenv("PACELINE_WEBHOOKS_SECRET", f"{new} {SECRET}")
    Webhooks().handle(event)
    (got,) = receiver.got
    for secret in (new, SECRET):
        Webhook(secret).verify(got.body, got.headers)


def test_what_is_sent_again_has_the_same_id_and_the_same_bytes(webhooks, receiver, event):
    receiver.does(answer(500), answer(204))
    undelivered(webhooks, event)
    webhooks.handle(event)
    first, second = receiver.got
    assert first.body == second.body
    assert first.headers["webhook-id"] == second.headers["webhook-id"]


@pytest.mark.parametrize("status", [200, 201, 202, 204, 299])
def test_every_2xx_is_delivered(webhooks, receiver, event, status):
    receiver.does(answer(status))
    webhooks.handle(event)
    assert len(receiver.got) == 1


@pytest.mark.parametrize("status", [304, 400, 401, 404, 408, 413, 422, 429, 500, 502, 503, 504])
def test_every_other_status_is_sent_again_and_named(webhooks, receiver, event, status):
    receiver.does(answer(status))
    error = undelivered(webhooks, event)
    assert f"127.0.0.1:{receiver.port} answered {status}" in str(error)
    assert error.retry_after_s == 0


def test_gone_pauses_the_consumer_and_says_what_to_do(webhooks, receiver, event):
    receiver.does(answer(410))
    with pytest.raises(Gone, match=r"PACELINE_WEBHOOKS_URL.*paceline consumers resume") as raised:
        webhooks.handle(event)
    assert raised.value.pause is True


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_a_redirect_is_not_followed(webhooks, receiver, event, status):
    receiver.does(answer(status, Location="/elsewhere"), answer(204))
    assert "redirects are not followed" in str(undelivered(webhooks, event))
    assert [got.path for got in receiver.got] == ["/hooks"]


@pytest.mark.parametrize("status", [429, 503])
def test_a_wait_in_seconds_is_kept_to(webhooks, receiver, event, status):
    receiver.does(answer(status, Retry_After="120"))
    assert undelivered(webhooks, event).retry_after_s == 120


@pytest.mark.parametrize("status", [429, 503])
def test_a_wait_until_a_date_is_kept_to(webhooks, receiver, event, status):
    until = datetime.now(UTC) + timedelta(hours=2)
    receiver.does(answer(status, Retry_After=format_datetime(until, usegmt=True)))
    wait = undelivered(webhooks, event).retry_after_s
    assert 7_000 < wait <= 7_200


@pytest.mark.parametrize(
    "written", ["Sun, 06 Nov 2033 08:49:37 GMT", "Sunday, 06-Nov-33 08:49:37 GMT"]
)
def test_no_wait_is_longer_than_a_day(webhooks, receiver, event, written):
    receiver.does(answer(429, Retry_After=written))
    assert undelivered(webhooks, event).retry_after_s == 86_400


def test_a_date_without_a_zone_is_gmt():
    moment = datetime.now(UTC) + timedelta(hours=3)
    assert 10_700 < retry_after_s(moment.strftime("%a %b %d %H:%M:%S %Y")) <= 10_800


@pytest.mark.parametrize(
    ("written", "wait"),
    [
        ("", 0),
        ("soon", 0),
        ("-5", 0),
        ("1.5", 0),
        ("٣", 0),
        (" 7 ", 7),
        ("9" * 5_000, 86_400),
        ("Sun, 06 Nov 1994 08:49:37 GMT", 0),
    ],
)
def test_a_wait_that_is_unreadable_or_over_is_none(written, wait):
    assert retry_after_s(written) == wait


@given(
    st.text() | st.datetimes().map(str) | st.from_regex(r"\w{3}, \d+ \w{3} \d+ \d\d:\d\d:\d\d .*")
)
def test_whatever_is_written_the_wait_is_between_nothing_and_a_day(written):
    assert 0 <= retry_after_s(written) <= 86_400


def test_a_receiver_that_stalls_is_given_up_on_in_time(webhooks, receiver, event):
    receiver.does(lambda handler: receiver.ended.wait(FOREVER))
    webhooks.answer_s = 0.3
    began = time.monotonic()
    assert "did not answer in 0.3 s" in str(undelivered(webhooks, event))
    assert time.monotonic() - began < FOREVER / 2


def drip(receiver: Receiver, first: bytes):
    def behave(handler) -> None:
        handler.wfile.write(first)
        while not receiver.ended.wait(0.02):
            handler.wfile.write(b"x")

    return behave


@pytest.mark.parametrize("first", [b"HTTP/1.1 200 O", b"HTTP/1.1 200 OK\r\nX-Slow: "])
def test_an_answer_that_comes_byte_by_byte_is_given_up_on_in_time(webhooks, receiver, event, first):
    receiver.does(drip(receiver, first))
    webhooks.answer_s = 0.5
    began = time.monotonic()
    assert "did not answer in 0.5 s" in str(undelivered(webhooks, event))
    assert time.monotonic() - began < FOREVER / 2


def test_interim_answers_without_end_are_given_up_on_in_time(webhooks, receiver, event):
    def behave(handler) -> None:
        while not receiver.ended.wait(0.02):
            handler.wfile.write(b"HTTP/1.1 102 Processing\r\n\r\n")

    receiver.does(behave)
    webhooks.answer_s = 0.5
    assert "did not answer" in str(undelivered(webhooks, event))


def test_a_body_that_never_ends_is_not_read_and_the_status_counts(webhooks, receiver, event):
    receiver.does(drip(receiver, b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"))
    webhooks.handle(event)
    assert len(receiver.got) == 1


def test_a_body_of_a_gigabyte_is_hung_up_on(webhooks, receiver, event):
    written = []

    def behave(handler) -> None:
        handler.connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4_096)
        handler.wfile.write(b"HTTP/1.1 503 No\r\nContent-Length: 1000000000\r\n\r\n")
        while not receiver.ended.is_set():
            handler.wfile.write(b"x" * 4_096)
            written.append(4_096)

    receiver.does(behave)
    assert "answered 503" in str(undelivered(webhooks, event))
    receiver.server.shutdown()
    receiver.server.server_close()  # waits for the one that writes: it was hung up on
    assert sum(written) < 20_000_000  # what the kernel's buffers took, and no gigabyte


def test_a_receiver_that_hangs_up_is_tried_again(webhooks, receiver, event):
    receiver.does(lambda handler: handler.connection.shutdown(socket.SHUT_RDWR))
    assert "cannot be reached" in str(undelivered(webhooks, event))


def test_an_answer_that_is_no_http_is_tried_again(webhooks, receiver, event):
    receiver.does(lambda handler: handler.wfile.write(b"SSH-2.0-OpenSSH\r\n\r\n"))
    assert "cannot be reached" in str(undelivered(webhooks, event))


def test_a_header_without_end_is_refused(webhooks, receiver, event):
    def behave(handler) -> None:
        handler.wfile.write(b"HTTP/1.1 200 OK\r\nX-Long: ")
        while not receiver.ended.is_set():
            handler.wfile.write(b"x" * 65_536)

    receiver.does(behave)
    assert "cannot be reached" in str(undelivered(webhooks, event))


def test_a_port_where_nobody_listens_is_tried_again(webhooks, receiver, event):
    receiver.server.shutdown()
    receiver.server.server_close()
    assert f"127.0.0.1:{receiver.port} cannot be reached" in str(undelivered(webhooks, event))


def test_a_proxy_of_the_environment_is_not_used(webhooks, receiver, event, monkeypatch):
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    webhooks.handle(event)
    assert len(receiver.got) == 1


def test_many_threads_send_at_once(webhooks, receiver, event):
    meeting = threading.Barrier(webhooks.concurrency)

    def behave(handler) -> None:
        meeting.wait(30)  # all of them are in the middle of a call here
        answer(204)(handler)

    receiver.does(behave)
    events = [SimpleNamespace(**{**vars(event), "id": f"e-{number}"}) for number in range(4)]
    with ThreadPoolExecutor(webhooks.concurrency) as threads:
        list(threads.map(webhooks.handle, events))
    assert {got.headers["webhook-id"] for got in receiver.got} == {"e-0", "e-1", "e-2", "e-3"}


def open_files() -> int:
    return sum(1 for _ in Path("/proc/self/fd").iterdir())


def test_nothing_stays_open_after_a_call(webhooks, receiver, event):
    webhooks.handle(event)
    before = open_files()
    receiver.does(answer(204), answer(500), answer(204))
    webhooks.handle(event)
    undelivered(webhooks, event)
    webhooks.handle(event)
    receiver.server.shutdown()
    receiver.server.server_close()
    assert open_files() < before
