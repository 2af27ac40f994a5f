"""What every control must do: requests are asked, joined, carried on, ended, cancelled."""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from consumers.runtime.control import Control, RequestState
from consumers.runtime.control.mongo import MongoControl
from consumers.runtime.control.sqlite import SqliteControl
from tests.servers.databases import Databases, databases
from tests.servers.mongod import Mongod


class ControlContract:
    """The tests; a backend gives `opened`, which opens the same place at each call."""

    @pytest.fixture
    def opened(self) -> Callable[[], Control]:
        raise NotImplementedError

    @pytest.fixture
    def control(self, opened: Callable[[], Control]) -> Iterator[Control]:
        control = opened()
        yield control
        control.close()

    def test_a_request_waits_with_its_arguments_until_its_owner_reports(
        self, control: Control
    ) -> None:
        asked = control.ask("calories", "replay", {"user": "ada", "ids": ["a", "b"]})
        assert (asked.consumer, asked.verb) == ("calories", "replay")
        assert asked.arguments == {"user": "ada", "ids": ["a", "b"]}
        assert (asked.state, asked.done, asked.total, asked.ended) == ("waiting", 0, 0, False)
        assert control.report(asked.id, done=3, total=9, memory={"after": 7})
        found = control.get(asked.id)
        assert (found.state, found.done, found.total, found.memory) == (
            "running",
            3,
            9,
            {"after": 7},
        )
        assert not found.ended

    def test_the_same_request_is_joined_as_long_as_it_is_open(self, control: Control) -> None:
        first = control.ask("calories", "replay", {"user": "ada", "type": "t"})
        assert control.ask("calories", "replay", {"type": "t", "user": "ada"}).id == first.id
        control.report(first.id, done=1, total=2)
        assert control.ask("calories", "replay", {"type": "t", "user": "ada"}).id == first.id
        control.finish(first.id, answer={})
        assert control.ask("calories", "replay", {"type": "t", "user": "ada"}).id != first.id

    def test_another_request_is_another_operation(self, control: Control) -> None:
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

    def test_many_who_ask_at_once_for_the_same_get_one_operation(
        self,
        opened: Callable[[], Control],
    ) -> None:
        def ask(_: int) -> int:
            control = opened()
            try:
                return control.ask("calories", "rebuild", {}).id
            finally:
                control.close()

        with ThreadPoolExecutor(8) as askers:
            ids = list(askers.map(ask, range(8)))
        assert len(set(ids)) == 1

    def test_a_worker_sees_what_is_open_for_its_own_consumer_oldest_first(
        self, control: Control
    ) -> None:
        replay = control.ask("calories", "replay", {})
        rebuild = control.ask("calories", "rebuild", {})
        control.ask("recovery", "rebuild", {})
        ended = control.ask("calories", "pause", {})
        control.finish(ended.id, answer={})
        control.report(replay.id, done=1, total=2)
        assert [one.id for one in control.open("calories")] == [replay.id, rebuild.id]
        assert [one.state for one in control.open("calories")] == ["running", "waiting"]
        assert control.open("nobody") == []

    def test_an_end_is_kept_with_its_answer(self, control: Control) -> None:
        good, bad = control.ask("c", "replay", {}), control.ask("c", "rebuild", {})
        control.finish(good.id, answer={"applied": 3})
        control.finish(bad.id, answer={"error": "no"}, failed=True)
        assert (control.get(good.id).state, control.get(good.id).answer) == ("done", {"applied": 3})
        assert (control.get(bad.id).state, control.get(bad.id).answer) == (
            "failed",
            {"error": "no"},
        )
        assert control.get(good.id).ended
        assert control.get(bad.id).ended

    def test_whoever_carries_on_what_was_cancelled_is_told_and_changes_nothing(
        self,
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

    def test_what_has_ended_can_not_be_cancelled_or_ended_again(self, control: Control) -> None:
        asked = control.ask("c", "replay", {})
        control.finish(asked.id, answer={"applied": 3})
        assert not control.cancel(asked.id)
        control.finish(asked.id, answer={"applied": 4}, failed=True)
        assert (control.get(asked.id).state, control.get(asked.id).answer) == (
            "done",
            {"applied": 3},
        )
        assert not control.cancel(404)

    def test_operations_are_listed_newest_first(self, control: Control) -> None:
        ids = [control.ask("c", "replay", {"user": str(number)}).id for number in range(5)]
        assert [one.id for one in control.listed()] == ids[::-1]
        assert [one.id for one in control.listed(limit=2)] == ids[:2:-1]

    def test_an_operation_that_was_never_asked_for_is_a_lookup_error(
        self, control: Control
    ) -> None:
        with pytest.raises(LookupError, match="no operation 7"):
            control.get(7)

    def test_requests_outlive_the_processes_that_wrote_them(
        self, opened: Callable[[], Control]
    ) -> None:
        first = opened()
        asked = first.ask("c", "rebuild", {})
        first.report(asked.id, done=1, total=2, memory={"generation": 4})
        first.close()
        second = opened()
        assert second.open("c")[0].memory == {"generation": 4}
        assert second.get(asked.id) == second.open("c")[0]
        second.close()

    def test_what_was_asked_and_answered_may_hold_any_text(self, control: Control) -> None:
        odd = {"$user": "$state", "a.b": "ü€\U0001f3c3\n", "": ["\0"]}
        asked = control.ask("c", "replay", odd)
        control.report(asked.id, done=1, total=2, memory=odd)
        control.finish(asked.id, answer=odd)
        found = control.get(asked.id)
        assert (found.arguments, found.memory, found.answer) == (odd, odd, odd)

    def test_requests_are_numbered_in_the_order_in_which_they_were_asked(
        self, control: Control
    ) -> None:
        assert [control.ask("c", "replay", {"n": n}).id for n in range(3)] == [1, 2, 3]

    def test_what_ended_well_is_all_done_and_what_failed_as_far_as_it_came(
        self, control: Control
    ) -> None:
        ends = []
        for verb, failed in (("replay", False), ("rebuild", True)):
            asked = control.ask("c", verb, {})
            control.report(asked.id, done=3, total=9)
            control.finish(asked.id, answer={}, failed=failed)
            ends.append((control.get(asked.id).done, control.get(asked.id).total))
        assert ends == [(9, 9), (3, 9)]


class TestSqliteControl(ControlContract):
    """The control of the embedded way."""

    @pytest.fixture
    def opened(self, tmp_path: Path) -> Callable[[], Control]:
        return lambda: SqliteControl(tmp_path / "control.db")


@pytest.fixture(scope="module")
def mongo(mongod: Mongod) -> Iterator[Databases]:
    with databases(mongod) as made:
        yield made


class TestMongoControl(ControlContract):
    """The control of the distributed way."""

    @pytest.fixture
    def opened(self, mongo: Databases) -> Iterator[Callable[[], Control]]:
        name = mongo.new_name()
        yield lambda: MongoControl(mongo.client, name)
        mongo.drop()
