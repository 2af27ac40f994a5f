"""Posting: each workout's answer, against a real HTTP server that answers as the door does."""

import json
import socket
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any

import pytest
import urllib3

from events.errors import PacelineError
from producer.importing import NobodyThere
from producer.importing.posting import LONGEST_WAIT_S, TRIES, Posted, post

WORKOUTS = [{"workout_id": f"w-{number}", "duration_s": 60.5} for number in range(3)]


Answer = tuple[int, dict[str, str], Any]


@dataclass
class Door:
    """Answers with what `answer` gives for a body: status, headers, JSON; None hangs up."""

    answer: Callable[[dict[str, Any]], Answer | None]
    url: str = ""
    bodies: list[dict[str, Any]] = field(default_factory=list)
    requests: list[tuple[str, str, Any]] = field(default_factory=list)


def accepted(body: dict[str, Any], *, duplicate: bool = False) -> Answer:
    event_id = f"event-of-{body['workout_id']}"
    url = f"/v1/events/{event_id}"
    said = {"event_id": event_id, "status_url": url, "duplicate": duplicate}
    return 202, {"Location": url}, said


def problem(status: int, **said: Any) -> Answer:
    headers = {"Content-Type": "application/problem+json"}
    return status, headers, {"status": status, **said}


@contextmanager
def serving(door: Door) -> Iterator[Door]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True

        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            door.bodies.append(body)
            door.requests.append((self.path, self.headers["Content-Type"], self.client_address))
            answer = door.answer(body)
            if answer is None:
                self.close_connection = True
                return
            status, headers, said = answer
            content = said if isinstance(said, bytes) else json.dumps(said).encode()
            self.send_response(status)
            for name, value in {**headers, "Content-Length": str(len(content))}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        door.url = f"http://127.0.0.1:{server.server_port}"
        try:
            yield door
        finally:
            server.shutdown()
            thread.join()


@pytest.fixture
def door() -> Iterator[Door]:
    with serving(Door(answer=accepted)) as door:
        yield door


def posted(
    door: Door, workouts: Iterable[Mapping[str, Any]] = WORKOUTS, **options: Any
) -> list[Posted]:
    return list(post(workouts, url=door.url, **options))


def test_every_workout_is_posted_as_it_is_over_one_connection(door: Door) -> None:
    found = posted(door)
    assert door.bodies == WORKOUTS
    assert [each.workout for each in found] == WORKOUTS
    assert [each.event_id for each in found] == [f"event-of-w-{number}" for number in range(3)]
    assert all(each.accepted and not each.duplicate and each.reason is None for each in found)
    ((path, content_type, _client),) = set(door.requests)
    assert (path, content_type) == ("/v1/workouts", "application/json")


def test_each_is_told_of_before_the_next_is_taken(door: Door) -> None:
    taken: list[dict[str, Any]] = []

    def workouts() -> Iterator[dict[str, Any]]:
        for workout in WORKOUTS:
            taken.append(workout)
            yield workout

    first = next(posting := post(workouts(), url=door.url + "/"))
    assert first.accepted
    assert taken == door.bodies == WORKOUTS[:1]
    assert len(list(posting)) == 2


def test_a_duplicate_is_said(door: Door) -> None:
    door.answer = lambda body: accepted(body, duplicate=body["workout_id"] == "w-1")
    assert [each.duplicate for each in posted(door)] == [False, True, False]


def test_a_workout_with_other_content_was_imported_already(door: Door) -> None:
    door.answer = lambda _: problem(409, title="Conflict.", detail="It is there.")
    (found,) = posted(door, WORKOUTS[:1])
    assert not found.accepted
    assert (found.reason, found.conflicting) == ("with other options; the first stays", True)


def test_a_bad_workout_stops_nothing_and_every_fault_is_its_reason(door: Door) -> None:
    faults = [
        {"pointer": "/duration_s", "code": "out-of-range", "detail": "duration_s is 0."},
        {"pointer": "/sport", "code": "not-one-of", "detail": "sport is 'x'."},
    ]
    refused = problem(422, title="The workout is not valid.", errors=faults)
    door.answer = lambda body: refused if body["workout_id"] == "w-1" else accepted(body)
    found = posted(door)
    assert [each.accepted for each in found] == [True, False, True]
    assert found[1].reason == "duration_s is 0. sport is 'x'."


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (problem(400, title="Malformed.", detail="It is no JSON."), "It is no JSON."),
        (problem(413, title="Too large."), "Too large."),
        (problem(422, title="Not valid.", errors="?"), "Not valid."),
        (problem(422, title="Not valid.", errors=["?", {}]), "Not valid."),
        ((404, {}, b"<html>"), "the answer was 404: is this a Paceline producer?"),
        ((202, {}, b"<html>"), "the answer was 202: is this a Paceline producer?"),
        ((202, {}, {"event_id": 7}), "the answer was 202: is this a Paceline producer?"),
        ((200, {}, [1]), "the answer was 200: is this a Paceline producer?"),
        (
            (302, {"Location": "/elsewhere"}, b""),
            "the answer was 302: is this a Paceline producer?",
        ),
        ((500, {}, b"\xff"), "the answer was 500: is this a Paceline producer?"),
    ],
)
def test_any_other_answer_is_a_reason(door: Door, answer: Answer, reason: str) -> None:
    door.answer = lambda _: answer
    (found,) = posted(door, WORKOUTS[:1])
    assert (found.accepted, found.reason) == (False, reason)
    assert len(door.bodies) == 1


FULL = problem(503, title="Full.", detail="The outbox is full.")


def full(retry_after: str) -> Answer:
    status, headers, said = FULL
    return status, {**headers, "Retry-After": retry_after}, said


def test_a_full_producer_is_waited_for_as_long_as_it_asks(door: Door) -> None:
    answers = [full("7"), full("2"), None]
    door.answer = lambda body: answers.pop(0) or accepted(body)
    waits: list[float] = []
    (found,) = posted(door, WORKOUTS[:1], sleep=waits.append)
    assert found.accepted
    assert waits == [7, 2]


@pytest.mark.parametrize(
    ("asked", "waited"),
    [
        ("86400", LONGEST_WAIT_S),
        ("Fri, 31 Dec 2100 23:59:59 GMT", LONGEST_WAIT_S),
        ("Fri, 31 Dec 1999 23:59:59 GMT", 0),
        ("soon", 1),
    ],
)
def test_no_wait_is_longer_than_the_longest(door: Door, asked: str, waited: float) -> None:
    answers = [full(asked), None]
    door.answer = lambda body: answers.pop(0) or accepted(body)
    waits: list[float] = []
    posted(door, WORKOUTS[:1], sleep=waits.append)
    assert waits == [waited]


def test_a_producer_that_stays_full_is_given_up_on_after_a_number_of_tries(door: Door) -> None:
    door.answer = lambda _: FULL
    waits: list[float] = []
    found = posted(door, sleep=waits.append)
    assert [each.reason for each in found] == ["The outbox is full."] * 3
    assert len(waits) == TRIES - 1
    assert [body["workout_id"] for body in door.bodies] == ["w-0"] * TRIES + ["w-1", "w-2"]


def test_patience_is_back_once_the_producer_takes_workouts_again(door: Door) -> None:
    answers = [*[FULL] * TRIES, None, FULL, None]
    door.answer = lambda body: answers.pop(0) or accepted(body)
    found = posted(door, sleep=lambda _: None)
    assert [each.accepted for each in found] == [False, True, True]


def test_a_lost_answer_is_asked_for_again(door: Door) -> None:
    answers = ["hang up", None, None]
    door.answer = lambda body: None if answers.pop(0) else accepted(body)
    found = posted(door, WORKOUTS[:2])
    assert [each.accepted for each in found] == [True, True]
    assert [body["workout_id"] for body in door.bodies] == ["w-0", "w-0", "w-1"]


def test_a_door_that_always_hangs_up_is_nobody(door: Door) -> None:
    door.answer = lambda _: None
    with pytest.raises(NobodyThere):
        posted(door)
    assert len(door.bodies) == 3


def test_nobody_at_the_address_is_said_in_one_line() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # bound and not listening: nobody else can answer there
        url = f"http://127.0.0.1:{taken.getsockname()[1]}"
        with pytest.raises(NobodyThere) as refused:
            list(post(WORKOUTS, url=url))
    assert isinstance(refused.value, PacelineError)
    assert str(refused.value).startswith(
        f"Nobody answers at {url} ([Errno 111] Connection refused)."
    )
    assert len(str(refused.value).splitlines()) == 1


@pytest.mark.parametrize(
    "url", ["", "nowhere", "ftp://127.0.0.1", "http://", "http://127.0.0.1:99999"]
)
def test_what_is_no_address_of_a_server_is_nobody(url: str) -> None:
    with pytest.raises(NobodyThere):
        list(post(WORKOUTS[:1], url=url))


def test_a_pool_that_is_given_is_used_and_left_open(door: Door) -> None:
    with urllib3.PoolManager() as pool:
        posted(door, pool=pool)
        posted(door, pool=pool)
        assert len({client for _, _, client in door.requests}) == 1


def test_a_lone_surrogate_reaches_the_door_and_is_its_to_judge(door: Door) -> None:
    workout = {**WORKOUTS[0], "zone": "\ud800"}
    (found,) = posted(door, [workout])
    assert found.accepted
    assert door.bodies == [workout]
