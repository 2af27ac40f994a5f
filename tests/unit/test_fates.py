"""The ladder that a failing event climbs, and the strikes of one that ends the process."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from consumers.runtime.fates import Fate, Ladder, State, reason_of, struck
from events.errors import NewerVersion, Undecodable

NOW = 1_764_000_000_000


class Flat(Exception):
    """Something that another try may mend."""


class Hopeless(Exception):
    """Something that no other try mends."""

    permanent = True


def climbed(ladder: Ladder, error: Exception, *, times: int) -> list[Fate]:
    """The fates of an event that fails that often, a second after each time that it was due."""
    fates: list[Fate] = []
    now_ms = NOW
    for _ in range(times):
        before = fates[-1] if fates else None
        now_ms = (before.due_ms or now_ms) + 1_000 if before else NOW
        fates.append(ladder.after_failure(before, error, now_ms=now_ms, version=3))
    return fates


def test_an_event_is_tried_once_more_than_there_are_rungs_and_is_dead_then() -> None:
    fates = climbed(Ladder(), Flat("no"), times=6)
    assert [fate.state for fate in fates] == [State.RETRYING] * 5 + [State.DEAD]
    assert [fate.attempts for fate in fates] == [1, 2, 3, 4, 5, 6]
    assert fates[-1].due_ms is None


@given(
    rungs=st.lists(st.floats(0.001, 86_400), max_size=6).map(tuple),
    jitter=st.floats(0, 1),
    attempts=st.integers(0, 8),
)
def test_a_failed_event_is_due_after_its_rung_and_not_much_later(
    rungs: tuple[float, ...], jitter: float, attempts: int
) -> None:
    before = Fate(state=State.RETRYING, attempts=attempts) if attempts else None
    fate = Ladder(rungs, jitter).after_failure(before, Flat(), now_ms=NOW, version=1)
    if attempts >= len(rungs):
        assert (fate.state, fate.due_ms) == (State.DEAD, None)
    else:
        assert fate.due_ms is not None
        waited_ms = fate.due_ms - NOW
        rung_ms = rungs[attempts] * 1000
        assert rung_ms - 1 <= waited_ms <= rung_ms * (1 + jitter)


def test_events_that_fail_together_do_not_all_come_again_together() -> None:
    due = {
        Ladder((60,)).after_failure(None, Flat(), now_ms=NOW, version=1).due_ms for _ in range(50)
    }
    assert len(due) > 10


@pytest.mark.parametrize("error", [Hopeless("bad"), Undecodable("bytes")])
def test_a_permanent_error_is_dead_at_once(error: Exception) -> None:
    fate = Ladder().after_failure(None, error, now_ms=NOW, version=1)
    assert (fate.state, fate.attempts, fate.due_ms) == (State.DEAD, 1, None)


def test_an_error_that_says_it_is_not_permanent_is_tried_again() -> None:
    error = Flat()
    error.permanent = False  # type: ignore[attr-defined]
    fate = Ladder().after_failure(None, error, now_ms=NOW, version=1)
    assert fate.state is State.RETRYING


def test_an_event_of_a_newer_version_waits_for_it_spends_no_attempt_and_is_never_due() -> None:
    before = Fate(state=State.RETRYING, needs=7, due_ms=NOW - 1)
    for found in (None, before):
        error = NewerVersion("workout.completed", 7, 1)
        fate = Ladder(()).after_failure(found, error, now_ms=NOW, version=1)
        assert (fate.state, fate.needs, fate.attempts) == (State.RETRYING, 7, 0)
        assert fate.due_ms is None
        assert "has version 7; this code knows 1" in fate.reason


def test_a_fate_tells_when_it_first_failed_when_it_last_did_and_in_which_version() -> None:
    fates = climbed(Ladder((10, 10)), Flat("no"), times=3)
    assert {fate.first_ms for fate in fates} == {NOW}
    assert fates[2].last_ms == (fates[1].due_ms or 0) + 1_000
    assert {fate.version for fate in fates} == {3}


def test_a_fate_tells_the_reason_on_one_line_and_the_traceback_whole() -> None:
    shoes: dict[str, int] = {}
    with pytest.raises(KeyError) as raised:
        shoes["shoe"]
    raised.value.add_note("asked for\na shoe")
    fate = Ladder().after_failure(None, raised.value, now_ms=NOW, version=1)
    assert fate.reason == "KeyError: 'shoe'"
    assert 'shoes["shoe"]' in fate.trace
    assert fate.trace.rstrip().endswith("asked for\na shoe")


def test_a_long_error_is_cut_and_keeps_the_end_of_its_traceback() -> None:
    fate = Ladder().after_failure(None, Flat("x\n" * 100_000 + "end"), now_ms=NOW, version=1)
    assert len(fate.reason) == 500
    assert "\n" not in fate.reason
    assert len(fate.trace) <= 8_000
    assert fate.trace.rstrip().endswith("end")


def test_the_reason_of_an_error_can_always_be_written_down() -> None:
    reason_of(Flat("a lone \ud83d")).encode()
    fate = Ladder().after_failure(None, Flat("a lone \ud83d"), now_ms=NOW, version=1)
    assert fate.trace.encode().rstrip().endswith(rb"a lone \ud83d")


def test_the_third_strike_is_dead_and_the_first_two_are_due_at_once() -> None:
    first = struck(None, now_ms=NOW, version=2)
    second = struck(first, now_ms=NOW + 5, version=2)
    third = struck(second, now_ms=NOW + 9, version=2)
    assert [fate.strikes for fate in (first, second, third)] == [1, 2, 3]
    assert [fate.due_ms for fate in (first, second, third)] == [NOW, NOW + 5, None]
    assert [fate.state for fate in (first, second)] == [State.RETRYING] * 2
    assert third.state is State.DEAD
    assert (third.first_ms, third.last_ms, third.version) == (NOW, NOW + 9, 2)
    assert third.reason


def test_a_strike_keeps_what_is_known_of_the_event() -> None:
    known = Fate(state=State.RETRYING, attempts=2, reason="it hung", trace="line 7", first_ms=NOW)
    once = struck(known, now_ms=NOW + 1, version=1)
    assert replace(once, strikes=0, due_ms=None, last_ms=None, version=None) == known
    dead = struck(struck(once, now_ms=NOW, version=1), now_ms=NOW, version=1)
    assert (dead.state, dead.reason, dead.trace) == (State.DEAD, "it hung", "line 7")
