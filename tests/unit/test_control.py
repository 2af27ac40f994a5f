"""Requests to the process that owns the work: asked, joined, carried on, ended, cancelled."""

from collections.abc import Iterator
from pathlib import Path
from threading import Thread

import pytest

from consumers.runtime.control import Control, RequestState


@pytest.fixture
def control(tmp_path: Path) -> Iterator[Control]:
    control = Control(tmp_path / "control.db")
    yield control
    control.close()


def test_a_request_waits_with_its_arguments_until_its_owner_reports(control: Control) -> None:
    asked = control.ask("calories", "replay", {"user": "ada", "ids": ["a", "b"]})
    assert (asked.consumer, asked.verb) == ("calories", "replay")
    assert asked.arguments == {"user": "ada", "ids": ["a", "b"]}
    assert (asked.state, asked.done, asked.total, asked.ended) == ("waiting", 0, 0, False)
    assert control.report(asked.id, done=3, total=9, memory={"after": 7})
    found = control.get(asked.id)
    assert (found.state, found.done, found.total, found.memory) == ("running", 3, 9, {"after": 7})
    assert not found.ended


def test_the_same_request_is_joined_as_long_as_it_is_open(control: Control) -> None:
    first = control.ask("calories", "replay", {"user": "ada", "type": "t"})
    assert control.ask("calories", "replay", {"type": "t", "user": "ada"}).id == first.id
    control.report(first.id, done=1, total=2)
    assert control.ask("calories", "replay", {"type": "t", "user": "ada"}).id == first.id
    control.finish(first.id, answer={})
    assert control.ask("calories", "replay", {"type": "t", "user": "ada"}).id != first.id


def test_another_request_is_another_operation(control: Control) -> None:
    ids = {
        control.ask(consumer, verb, arguments).id
        for consumer, verb, arguments in [
            ("calories", "replay", {}),
            ("calories", "replay", {"user": "ada"}),
            ("calories", "rebuild", {}),
            ("recovery", "replay", {}),
        ]
    }
    assert len(ids) == 4


def test_many_who_ask_at_once_for_the_same_get_one_operation(tmp_path: Path) -> None:
    ids: list[int] = []

    def ask() -> None:
        control = Control(tmp_path / "control.db")
        ids.append(control.ask("calories", "rebuild", {}).id)
        control.close()

    threads = [Thread(target=ask) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(ids) == 8
    assert len(set(ids)) == 1


def test_a_worker_sees_what_is_open_for_its_own_consumer_oldest_first(control: Control) -> None:
    replay = control.ask("calories", "replay", {})
    rebuild = control.ask("calories", "rebuild", {})
    control.ask("recovery", "rebuild", {})
    ended = control.ask("calories", "pause", {})
    control.finish(ended.id, answer={})
    control.report(replay.id, done=1, total=2)
    assert [one.id for one in control.open("calories")] == [replay.id, rebuild.id]
    assert [one.state for one in control.open("calories")] == ["running", "waiting"]
    assert control.open("nobody") == []


def test_an_end_is_kept_with_its_answer(control: Control) -> None:
    good, bad = control.ask("c", "replay", {}), control.ask("c", "rebuild", {})
    control.finish(good.id, answer={"applied": 3})
    control.finish(bad.id, answer={"error": "no"}, failed=True)
    assert (control.get(good.id).state, control.get(good.id).answer) == ("done", {"applied": 3})
    assert (control.get(bad.id).state, control.get(bad.id).answer) == ("failed", {"error": "no"})
    assert control.get(good.id).ended
    assert control.get(bad.id).ended


def test_whoever_carries_on_what_was_cancelled_is_told_and_changes_nothing(
    control: Control,
) -> None:
    asked = control.ask("c", "replay", {})
    control.report(asked.id, done=1, total=9, memory={"after": 1})
    assert control.cancel(asked.id)
    assert not control.report(asked.id, done=2, total=9, memory={"after": 2})
    control.finish(asked.id, answer={"applied": 9})
    found = control.get(asked.id)
    assert (found.state, found.done, found.answer) == (RequestState.CANCELLED, 1, {})
    assert found.ended


def test_what_has_ended_can_not_be_cancelled_or_ended_again(control: Control) -> None:
    asked = control.ask("c", "replay", {})
    control.finish(asked.id, answer={"applied": 3})
    assert not control.cancel(asked.id)
    control.finish(asked.id, answer={"applied": 4}, failed=True)
    assert (control.get(asked.id).state, control.get(asked.id).answer) == ("done", {"applied": 3})
    assert not control.cancel(404)


def test_operations_are_listed_newest_first(control: Control) -> None:
    ids = [control.ask("c", "replay", {"user": str(number)}).id for number in range(5)]
    assert [one.id for one in control.listed()] == ids[::-1]
    assert [one.id for one in control.listed(limit=2)] == ids[:2:-1]


def test_an_operation_that_was_never_asked_for_is_a_lookup_error(control: Control) -> None:
    with pytest.raises(LookupError, match="no operation 7"):
        control.get(7)


def test_requests_outlive_the_processes_that_wrote_them(tmp_path: Path) -> None:
    first = Control(tmp_path / "control.db")
    asked = first.ask("c", "rebuild", {})
    first.report(asked.id, done=1, total=2, memory={"generation": 4})
    first.close()
    second = Control(tmp_path / "control.db")
    assert second.open("c")[0].memory == {"generation": 4}
    assert second.get(asked.id) == second.open("c")[0]
    second.close()
