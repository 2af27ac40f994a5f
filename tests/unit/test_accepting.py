"""The door as a client sees it: what is accepted, what is refused and why, and what is kept."""

import json
import shutil
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import apsw
import pytest
from flask import Response
from flask.testing import FlaskClient
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from structlog.testing import capture_logs
from werkzeug.test import TestResponse

from events.envelope import from_bytes, workout_event_id
from events.problems import MEDIA_TYPE, PROBLEMS
from producer.app import create_app
from producer.outbox import Outbox
from producer.outbox_reader import OutboxReader
from producer.outbox_room import Bounds
from tests.contract.power_cut import Disk

GIB = 1 << 30
ROOM = Bounds(waiting_bytes=GIB, free_bytes=0)
RUN = {
    "workout_id": "w-1",
    "user_id": "ada",
    "sport": "running",
    "started_at": "2026-11-24T07:30:00+01:00",
    "duration_s": 1800,
    "distance_m": 5000.125,
}
ADA_1 = workout_event_id("ada", "w-1")
ONE, MANY = "/v1/workouts", "/v1/workouts/batch"
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda below: st.lists(below, max_size=3) | st.dictionaries(st.text(max_size=5), below),
    max_leaves=6,
)


class Door:
    """The application with its outbox; what the relay would carry on is read beside it."""

    def __init__(self, file: Path, *, bounds: Bounds = ROOM, vfs: str | None = None) -> None:
        self.passed, self.asked = 0, ""
        self.forwarded: list[str] = []
        self.answer = Response('{"state": "logged"}', content_type="application/json")
        self.outbox = Outbox(file, passed=self._passed, bounds=bounds, vfs=vfs)
        self.kept = OutboxReader(file, vfs=vfs)
        app = create_app(
            self.outbox, OutboxReader(file, vfs=vfs), passed=self._passed, forward=self._forward
        )
        self.client: FlaskClient = app.test_client()

    def _passed(self, source: str) -> int:
        self.asked = source
        return self.passed

    def _forward(self) -> Response:
        self.forwarded.append("")
        return self.answer

    def post(self, path: str, body: bytes | str, *, kind: str = "application/json") -> TestResponse:
        """Post these bytes; nothing that a client sends is our fault."""
        response = self.client.post(path, data=body, content_type=kind)
        assert response.status_code < 500, response.text
        return response

    def run(self, **changes: Any) -> TestResponse:
        return self.post(ONE, json.dumps(RUN | changes))

    def batch(self, *workouts: Any) -> TestResponse:
        return self.post(MANY, json.dumps({"items": workouts}))

    def ids(self) -> list[str]:
        return [event_id for _, event_id in self.kept.ids()]

    def refuses(self, response: TestResponse, slug: str) -> dict[str, Any]:
        """Check that it is that problem, and that nothing was kept of it."""
        assert self.ids() == []
        return problem(response, slug)


def problem(response: TestResponse, slug: str) -> dict[str, Any]:
    """The problem document of a response, which is of this kind."""
    assert response.content_type == MEDIA_TYPE
    body: dict[str, Any] = response.get_json(force=True)
    assert response.status_code == body["status"] == PROBLEMS[slug].status
    assert body["type"] == f"/problems/{slug}"
    assert body["title"] == PROBLEMS[slug].title
    return body


@pytest.fixture(autouse=True)
def journal() -> Iterator[list[Any]]:
    """What is logged; on a terminal's log a deeply nested body would be drawn for minutes."""
    with capture_logs() as logged:
        yield logged


@pytest.fixture
def door(tmp_path: Path) -> Iterator[Door]:
    made = Door(tmp_path / "outbox.db")
    yield made
    made.outbox.close()


def test_a_posted_workout_is_accepted_and_on_disk(door: Door) -> None:
    response = door.run()
    assert response.status_code == 202
    assert response.content_type == "application/json"
    assert response.headers["Location"] == f"/v1/events/{ADA_1}"
    assert response.get_json() == {
        "event_id": ADA_1,
        "status_url": f"/v1/events/{ADA_1}",
        "duplicate": False,
    }
    (row,) = door.kept.rows(0, limit=10)
    event = from_bytes(row.event.body)
    assert (event.id, event.data.user_id, event.data.distance_mm) == (ADA_1, "ada", 5_000_125)
    assert abs(event.accepted_at - datetime.now(UTC)) < timedelta(minutes=5)


def test_the_same_workout_again_is_the_same_event(door: Door) -> None:
    door.run()
    shuffled = dict(reversed(RUN.items())) | {"distance_m": 5000.1250, "duration_s": 1800.0}
    again = door.post(ONE, json.dumps(shuffled, indent=4))
    assert again.status_code == 202
    assert again.get_json() == {
        "event_id": ADA_1,
        "status_url": f"/v1/events/{ADA_1}",
        "duplicate": True,
    }
    assert door.ids() == [ADA_1]


@pytest.mark.parametrize(
    "changes",
    [
        {"duration_s": 1801},
        {"distance_m": 5000.126},
        {"sport": "cycling"},
        {"zone": "Europe/Berlin"},
        {"visibility": "private"},
        {"started_at": "2026-11-24T07:30:00.001+01:00"},
        {"started_at": "2026-11-24T06:30:00Z"},
    ],
)
def test_another_workout_under_the_same_id_is_a_conflict_and_the_first_stays(
    door: Door, changes: dict[str, Any]
) -> None:
    door.run()
    (before,) = door.kept.rows(0, limit=10)
    body = problem(door.run(**changes), "conflicting-workout")
    assert [error["code"] for error in body["errors"]] == ["conflict"]
    assert door.kept.rows(0, limit=10) == [before]
    assert door.run().get_json()["duplicate"] is True


def test_the_same_workout_id_of_two_users_is_two_workouts(door: Door) -> None:
    door.run()
    assert door.run(user_id="bob", duration_s=1).get_json()["duplicate"] is False
    assert door.ids() == [ADA_1, workout_event_id("bob", "w-1")]


def test_a_batch_is_accepted_in_its_order(door: Door) -> None:
    door.run()
    names = ["w-2", "w-1", "w-0"]
    response = door.batch(*[RUN | {"workout_id": name} for name in names])
    assert response.status_code == 202
    ids = [workout_event_id("ada", name) for name in names]
    assert response.get_json() == {
        "items": [
            {"event_id": event_id, "status_url": f"/v1/events/{event_id}", "duplicate": known}
            for event_id, known in zip(ids, [False, True, False], strict=True)
        ]
    }
    assert door.ids() == [ADA_1, ids[0], ids[2]]


def test_a_batch_may_hold_a_thousand_workouts_and_no_more(door: Door) -> None:
    workouts = [RUN | {"workout_id": f"w{number}"} for number in range(1_001)]
    body = door.refuses(door.batch(*workouts), "invalid-workout")
    assert body["errors"][0]["pointer"] == "/items"
    assert door.batch(*workouts[:1_000]).status_code == 202
    assert len(door.ids()) == 1_000


def test_one_bad_workout_refuses_its_whole_batch_by_its_index(door: Door) -> None:
    good = [RUN | {"workout_id": f"w{number}"} for number in range(5)]
    bad = {**good[3], "duration_s": -5, "athlete": {"weight_kg": "x"}}
    body = door.refuses(door.batch(*good[:3], bad, good[4], None), "invalid-workout")
    assert {(error["pointer"], error["code"]) for error in body["errors"]} == {
        ("/items/3/duration_s", "out-of-range"),
        ("/items/3/athlete/weight_kg", "not-a-number"),
        ("/items/5", "not-an-object"),
    }


@pytest.mark.parametrize("changes", [{}, {"duration_s": 1}])
def test_a_workout_twice_in_a_batch_is_named_and_refuses_it(
    door: Door, changes: dict[str, Any]
) -> None:
    workouts = [RUN | {"workout_id": "w-0"}, RUN, RUN | changes]
    body = door.refuses(door.batch(*workouts), "invalid-workout")
    (error,) = body["errors"]
    assert (error["pointer"], error["code"]) == ("/items/2", "duplicate-in-batch")
    assert "item 1" in error["detail"]


def test_one_conflict_refuses_its_whole_batch_by_its_index(door: Door) -> None:
    door.run()
    workouts = [RUN | {"workout_id": "w-0"}, RUN | {"duration_s": 1}, RUN | {"workout_id": "w-2"}]
    body = problem(door.batch(*workouts), "conflicting-workout")
    assert [error["pointer"] for error in body["errors"]] == ["/items/1"]
    assert door.ids() == [ADA_1]


@pytest.mark.parametrize(
    "body",
    [[], {}, {"items": []}, {"items": RUN}, {"items": [RUN], "more": 1}, {"workouts": [RUN]}, 5],
)
def test_a_batch_is_an_object_with_a_list_and_nothing_else(door: Door, body: object) -> None:
    refused = door.refuses(door.post(MANY, json.dumps(body)), "invalid-workout")
    assert [error["code"] for error in refused["errors"]] == ["not-a-batch"]


def test_each_fault_is_named_by_a_pointer_with_what_is_allowed(door: Door) -> None:
    response = door.run(duration_s=-5, user_id="ada\n", mood="good")
    body = door.refuses(response, "invalid-workout")
    assert response.status_code == 422
    errors = {error["pointer"]: error for error in body["errors"]}
    assert errors.keys() == {"/duration_s", "/user_id", "/mood"}
    assert errors["/duration_s"] == {
        "pointer": "/duration_s",
        "code": "out-of-range",
        "detail": "duration_s is -5; it must be between 1 and 604800.",
    }


TEXT = json.dumps(RUN)
DIGITS = "9" * 4_000


@pytest.mark.parametrize(
    ("body", "slug"),
    [
        (b"", "malformed-json"),
        (b"{", "malformed-json"),
        (b"null", "invalid-workout"),
        (b"[]", "invalid-workout"),
        (TEXT.replace("1800", "NaN"), "malformed-json"),
        (TEXT.replace("1800", "Infinity"), "malformed-json"),
        (TEXT.replace("1800", "-Infinity"), "malformed-json"),
        (TEXT.replace("1800", "1e999"), "invalid-workout"),
        (TEXT.replace("1800", "-1e999"), "invalid-workout"),
        (TEXT.replace("1800", "1e-999"), "invalid-workout"),
        (TEXT.replace("1800", DIGITS), "invalid-workout"),
        (TEXT.replace("1800", f"-{DIGITS}"), "invalid-workout"),
        (TEXT.replace("1800", f"{DIGITS}.5"), "invalid-workout"),
        (TEXT.replace("1800", f"0.{'0' * 4_000}1"), "invalid-workout"),
        (TEXT.replace("1800", DIGITS * 2), "malformed-json"),
        (TEXT.replace("1800", "[" * 10_000 + "]" * 10_000), "malformed-json"),
        (TEXT.replace("1800", '{"a":' * 10_000 + "1" + "}" * 10_000), "malformed-json"),
        (b"[" * 60_000, "malformed-json"),
        (TEXT.replace('"sport"', '"user_id": "bob", "sport"'), "malformed-json"),
        (TEXT.replace('"sport"', '"user_id": "ada", "sport"'), "malformed-json"),
        (TEXT.encode("utf-16"), "malformed-json"),
        (TEXT.replace("ada", "\xff").encode("latin-1"), "malformed-json"),
        (TEXT.encode().replace(b"ada", b"\xed\xa0\x80"), "malformed-json"),
        (TEXT.replace("ada", "\\ud800"), "invalid-workout"),
        (TEXT.replace('"sport"', '"\\udfff": 1, "sport"'), "invalid-workout"),
        (TEXT.replace('"sport"', '"recording": {"device": "\\ud83d"}, "sport"'), "invalid-workout"),
        (TEXT.replace("ada", "ada\\n"), "invalid-workout"),
        (TEXT.replace("ada", "\\u0000"), "invalid-workout"),
        (TEXT.replace("ada", ".."), "invalid-workout"),
        (TEXT.replace("ada", "../../etc"), "invalid-workout"),
        (TEXT.replace('"ada"', '{"$gt": ""}'), "invalid-workout"),
        (TEXT.replace('"w-1"', '{"$gt": ""}'), "invalid-workout"),
        (TEXT.replace('"w-1"', "1"), "invalid-workout"),
        (TEXT.replace("1800", '"1800"'), "invalid-workout"),
        (TEXT.replace("1800", "true"), "invalid-workout"),
        (TEXT.replace("1800", "null"), "invalid-workout"),
        (TEXT.replace('"sport"', '"athlete": null, "sport"'), "invalid-workout"),
        (TEXT.replace('"sport"', '"athlete": [[]], "sport"'), "invalid-workout"),
        (TEXT.replace('"sport"', '"mood": "good", "sport"'), "invalid-workout"),
        (TEXT.replace("+01:00", ""), "invalid-workout"),
        (TEXT.replace("2026", "9999"), "invalid-workout"),
        (TEXT.replace("2026", "0000"), "invalid-workout"),
        (TEXT.replace("2026-11-24T07:30:00", "9999-12-31T23:59:59"), "invalid-workout"),
    ],
    ids=range(43),
)
def test_hostile_bodies_are_refused_and_nothing_is_kept(
    door: Door, body: bytes | str, slug: str
) -> None:
    door.refuses(door.post(ONE, body), slug)
    text = body if isinstance(body, bytes) else body.encode()
    in_a_batch = door.post(MANY, b'{"items": [' + json.dumps(RUN).encode() + b"," + text + b"]}")
    assert in_a_batch.status_code in (400, 422)
    assert door.ids() == []
    assert door.run().status_code == 202


def test_no_depth_of_nesting_is_worse_than_refused(door: Door) -> None:
    # Somewhere here a value is shallow enough to be parsed, and too deep to be shown in a message.
    for depth in range(700, 1_050, 3):
        for opening, closing in (("[", "]"), ('{"a":', "}")):
            nested = opening * depth + "1" + closing * depth
            response = door.post(ONE, TEXT.replace('"ada"', nested))
            assert response.status_code in (400, 422)
    assert door.ids() == []


@pytest.mark.parametrize(
    "kind",
    ["", "text/plain", "text/json", "application/xml", "application/x-www-form-urlencoded", "json"],
)
@pytest.mark.parametrize("path", [ONE, MANY])
def test_a_body_of_another_type_is_refused(door: Door, path: str, kind: str) -> None:
    door.refuses(door.post(path, TEXT, kind=kind), "unsupported-media-type")


def test_a_charset_beside_the_type_changes_nothing(door: Door) -> None:
    assert door.post(ONE, TEXT, kind="application/json; charset=utf-8").status_code == 202


@pytest.mark.parametrize("size", [10 << 20, (64 << 10) + 1])
def test_a_workout_over_64_kib_is_too_large(door: Door, size: int) -> None:
    door.refuses(door.post(ONE, TEXT.ljust(size)), "too-large")


@pytest.mark.parametrize("size", [10 << 20, (2 << 20) + 1])
def test_a_batch_over_2_mib_is_too_large(door: Door, size: int) -> None:
    door.refuses(door.post(MANY, json.dumps({"items": [RUN]}).ljust(size)), "too-large")


def test_a_body_of_just_the_allowed_size_is_taken(door: Door) -> None:
    assert door.post(ONE, TEXT.ljust(64 << 10)).status_code == 202
    assert door.post(MANY, json.dumps({"items": [RUN]}).ljust(2 << 20)).status_code == 202


def test_a_workout_that_starts_more_than_a_day_from_now_is_refused(door: Door) -> None:
    now = datetime.now(UTC)
    ahead = now + timedelta(days=1, minutes=5)
    body = door.refuses(door.run(started_at=ahead.isoformat()), "invalid-workout")
    assert [error["code"] for error in body["errors"]] == ["in-the-future"]
    assert door.run(started_at=(now + timedelta(hours=23)).isoformat()).status_code == 202


SHARED = settings(suppress_health_check=[HealthCheck.function_scoped_fixture])


@SHARED
@given(body=st.binary(max_size=60), path=st.sampled_from((ONE, MANY)))
def test_no_bytes_bring_the_door_down(door: Door, body: bytes, path: str) -> None:
    assert door.post(path, body).status_code in (400, 422)
    assert door.ids() == []


@SHARED
@given(name=st.sampled_from([*RUN, "athlete", "zone", "recording", "x", "_schema"]), value=JSON)
@example(name="duration_s", value=float("nan"))
def test_anything_in_any_field_is_accepted_or_refused(door: Door, name: str, value: object) -> None:
    before = door.ids()
    status = door.run(**{name: value}).status_code
    assert status in (202, 400, 409, 422)
    assert len(door.ids()) - len(before) in ((0, 1) if status == 202 else (0,))


@SHARED
@given(JSON)
def test_anything_for_a_batch_is_refused(door: Door, value: object) -> None:
    for body in (value, {"items": value}, {"items": [RUN, value]}):
        assert door.post(MANY, json.dumps(body)).status_code in (400, 422)
    assert door.ids() == []


def test_a_client_that_retries_while_the_first_is_in_flight_is_told_it_is_a_duplicate(
    door: Door,
) -> None:
    with ThreadPoolExecutor(8) as clients:
        answers = list(clients.map(lambda _: door.run(), range(40)))
    assert {answer.status_code for answer in answers} == {202}
    assert sorted(answer.get_json()["duplicate"] for answer in answers) == [False] + [True] * 39
    assert door.ids() == [ADA_1]


def refused_for_now(response: TestResponse) -> dict[str, Any]:
    """The problem document of a refusal that asks to come again later."""
    assert int(response.headers["Retry-After"]) > 0
    return problem(response, "cannot-accept")


@pytest.mark.parametrize("path", [ONE, MANY])
def test_while_the_disk_is_low_nothing_new_is_accepted_and_a_duplicate_still_answered(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, path: str
) -> None:
    free = 3 * GIB
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=free))
    monkeypatch.setattr("producer.outbox_room.LOOK_EVERY_S", 0.0)
    door = Door(tmp_path / "outbox.db", bounds=Bounds(free_bytes=GIB))
    door.run()
    free = GIB - 1
    wrapped = {"items": [RUN | {"workout_id": "w-2"}]}
    new = wrapped["items"][0] if path == ONE else wrapped
    response = door.client.post(path, json=new)
    assert "1023 MiB" in refused_for_now(response)["detail"]
    assert door.run().get_json()["duplicate"] is True
    assert door.run(duration_s=1).status_code == 409
    refused_for_now(door.client.get("/readyz"))
    assert door.ids() == [ADA_1]
    free = GIB + 100_000
    assert door.client.post(path, json=new).status_code == 202
    assert door.client.get("/readyz").status_code == 200
    door.outbox.close()


def test_while_too_much_waits_for_the_relay_nothing_new_is_accepted(tmp_path: Path) -> None:
    door = Door(tmp_path / "outbox.db", bounds=Bounds(waiting_bytes=1_000, free_bytes=0))
    statuses = [
        door.client.post(ONE, json=RUN | {"workout_id": f"w{number}"}).status_code
        for number in range(5)
    ]
    accepted = statuses.count(202)
    assert statuses == [202] * accepted + [503] * (5 - accepted)
    assert 1 <= accepted < 5
    assert len(door.ids()) == accepted
    refused_for_now(door.client.post(ONE, json=RUN))
    door.passed = accepted
    door.client.post(ONE, json=RUN)  # the refusal has it look at once how far the relay is
    assert door.run().status_code == 202
    door.outbox.close()


def test_a_full_disk_is_told_as_such_and_never_a_false_202(tmp_path: Path) -> None:
    disk = Disk(1)
    disk.start(tmp_path / "data")
    door = Door(tmp_path / "data" / "outbox.db", vfs=disk.name)
    door.run()
    disk.full = True
    refused_for_now(door.client.post(ONE, json=RUN | {"workout_id": "w-2"}))
    refused_for_now(door.client.post(MANY, json={"items": [RUN | {"workout_id": "w-3"}]}))
    assert door.ids() == [ADA_1]
    disk.full = False
    assert door.run(workout_id="w-2").get_json()["duplicate"] is False
    door.outbox.close()


def test_a_broken_disk_is_told_as_such_and_never_a_false_202(tmp_path: Path) -> None:
    disk = Disk(1)
    disk.start(tmp_path / "data")
    door = Door(tmp_path / "data" / "outbox.db", vfs=disk.name)
    door.run()
    disk.cut()
    refused_for_now(door.client.post(ONE, json=RUN | {"workout_id": "w-2"}))
    door.outbox.close()


def test_an_event_that_is_only_in_the_outbox_is_accepted(door: Door) -> None:
    door.run()
    response = door.client.get(f"/v1/events/{ADA_1}")
    assert response.status_code == 200
    body = response.get_json()
    assert body["state"] == "accepted"
    assert body["consumers"] == {}
    assert body["event"]["id"] == ADA_1
    assert body["event"]["data"]["distance_mm"] == 5_000_125
    accepted_at = datetime.fromisoformat(body["accepted_at"])
    assert abs(accepted_at - datetime.now(UTC)) < timedelta(minutes=5)
    assert not door.forwarded


def test_an_event_that_the_relay_has_carried_on_is_asked_of_the_log(door: Door) -> None:
    door.run()
    door.passed = 1
    response = door.client.get(f"/v1/events/{ADA_1}")
    assert response.get_json() == {"state": "logged"}
    assert len(door.forwarded) == 1
    assert door.asked == door.outbox.source_id


def test_an_id_that_the_outbox_remembers_is_never_unknown(door: Door) -> None:
    door.run()
    door.passed, door.answer = 1, Response("{}", status=404)
    response = door.client.get(f"/v1/events/{ADA_1}")
    assert (response.status_code, response.get_json()["state"]) == (200, "accepted")
    other = workout_event_id("ada", "w-2")
    assert door.client.get(f"/v1/events/{other}").status_code == 404


def test_an_id_whose_payload_is_gone_is_not_unknown_either(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=GIB + GIB // 2))
    monkeypatch.setattr("producer.outbox_room.PRUNE_EVERY_S", 0.0)
    door = Door(tmp_path / "outbox.db", bounds=Bounds(free_bytes=GIB))
    door.passed, door.answer = 1, Response("{}", status=404)
    door.run()
    remembered = door.kept.remembered(ADA_1)
    assert remembered is not None
    assert remembered.body is None
    assert door.client.get(f"/v1/events/{ADA_1}").status_code == 200
    door.outbox.close()


@pytest.mark.parametrize(
    "event_id", ["x", "..", "%00", ADA_1.upper(), f"{ADA_1}%0A", f"{{{ADA_1}}}", "%ff", "%ed%a0%80"]
)
def test_what_is_no_event_id_is_left_to_the_query_process(door: Door, event_id: str) -> None:
    door.run()
    door.answer = Response("{}", status=404)
    assert door.client.get(f"/v1/events/{event_id}").status_code == 404


def test_what_is_not_the_producers_own_is_forwarded(door: Door) -> None:
    for path in ("/", "/v1/users/ada/calories", "/openapi.json"):
        assert door.client.get(path).get_json() == {"state": "logged"}
    assert len(door.forwarded) == 3


@pytest.mark.parametrize("path", [ONE, MANY, "/v1/users/ada/calories"])
@pytest.mark.parametrize("method", ["PUT", "DELETE", "PATCH"])
def test_a_method_that_nobody_takes_is_a_problem_document(
    door: Door, path: str, method: str
) -> None:
    problem(door.client.open(path, method=method), "method-not-allowed")


@pytest.mark.parametrize("slug", PROBLEMS)
def test_the_type_of_every_problem_is_a_page_that_explains_it(door: Door, slug: str) -> None:
    response = door.client.get(f"/problems/{slug}")
    assert response.status_code == 200
    assert response.content_type.startswith("text/html")
    assert PROBLEMS[slug].help in response.text
    assert str(PROBLEMS[slug].status) in response.text


def test_a_problem_that_does_not_exist_is_not_found(door: Door) -> None:
    problem(door.client.get("/problems/nothing"), "not-found")


def test_it_is_healthy_and_ready(door: Door) -> None:
    assert door.client.get("/healthz").get_json() == {"status": "ok"}
    assert door.client.get("/readyz").get_json() == {"status": "ready"}
    assert door.ids() == []


def test_a_fault_of_ours_is_a_problem_document_too(
    door: Door, monkeypatch: pytest.MonkeyPatch, journal: list[Any]
) -> None:
    def broken(events: object) -> None:
        raise apsw.CorruptError("the file is malformed")

    monkeypatch.setattr(door.outbox, "accept", broken)
    problem(door.client.post(ONE, json=RUN), "internal")
    assert [one["action"] for one in journal] == ["request_failed"]


@pytest.mark.parametrize("path", [ONE, MANY])
def test_what_is_only_posted_cannot_be_got(door: Door, path: str) -> None:
    refused = door.client.get(path)
    assert (refused.status_code, refused.headers["Allow"]) == (405, "POST")
    problem(refused, "method-not-allowed")
