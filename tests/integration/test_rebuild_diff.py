"""A rebuild that is compared with what is live before it is: shown, decided, bounded."""

import json
import os
import pty
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from consumers.memory import MemoryDocuments
from consumers.runtime.comparing import DROP, SWAP, compare_in_steps, decide, holds, waits
from consumers.runtime.control import Request, RequestState
from consumers.runtime.differences import EXAMPLES, Figures, bound, compare, is_beyond, stretch
from consumers.runtime.store import Commit, Phase
from consumers.runtime.store.mongo import MongoStore
from events.envelope import Event
from events.lock import FileLock
from tests.integration import shell
from tests.integration.doubles import Killed
from tests.integration.place import ROOT, Place
from tests.integration.shell import installed, printed, run, working
from tests.integration.world import Tally, World, append, facts, tallied, until
from tests.servers.databases import databases
from tests.servers.mongod import Mongod

DONE, FAILED = RequestState.DONE, RequestState.FAILED


class Changed(Tally):
    """Tally, but bob's document is gone, ada's has one field more, and there is one for all."""

    def keys(self, event: Event) -> list[str]:
        return [event.user_id, "all"] if event.user_id != "bob" else ["all"]

    def fold(self, event: Event, documents: dict[str, Any]) -> None:
        super().fold(event, documents)
        if event.user_id == "ada":
            documents["ada"]["double"] = 2 * documents["ada"]["count"]


def changed(count: int) -> dict[str, dict[str, int]]:
    """What Changed's documents must be, from what Tally's are."""
    plain = tallied(facts(count))
    both = {name: sum(one[name] for one in plain.values()) for name in ("count", "ms")}
    ada = plain["ada"] | {"double": 2 * plain["ada"]["count"]}
    return {"ada": ada, "all": both, "cyd": plain["cyd"]}


def differing(count: int) -> list[dict[str, Any]]:
    """The difference from Tally's documents to Changed's, written by hand."""
    before, after = tallied(facts(count)), changed(count)
    return [
        {"key": "ada", "what": "changed", "fields": {"double": {"after": after["ada"]["double"]}}},
        {"key": "all", "what": "added", "fields": each("after", after["all"])},
        {"key": "bob", "what": "gone", "fields": each("before", before["bob"])},
    ]


def each(side: str, document: dict[str, Any]) -> dict[str, Any]:
    return {name: {side: value} for name, value in document.items()}


def figures_of(count: int) -> dict[str, Any]:
    counts = {"before": 3, "after": 3, "added": 1, "gone": 1, "changed": 1, "through": None}
    return counts | {"examples": differing(count), "failing_before": 0, "failing": 0}


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    """Tally has applied 25 events; the code is Changed now, under the same version."""
    world = World(tmp_path, Tally(), batch=10)
    world.post(facts(25))
    world.run()
    world.consumer = Changed()
    yield world
    world.close()


def asked(world: World, then: str, **arguments: Any) -> Request:
    """Ask, run until it has ended or waits for somebody, and return the request."""
    request = world.control.ask("tally", "rebuild", {"then": then, **arguments})
    world.run(lambda: is_still(world.control.get(request.id)))
    return world.control.get(request.id)


def is_still(request: Request) -> bool:
    return request.ended or waits(request)


def goes_on(world: World, request: Request) -> Request:
    """Run until it has ended."""
    world.run(lambda: world.control.get(request.id).ended)
    return world.control.get(request.id)


def phases(world: World) -> list[tuple[int, Phase]]:
    return [(one.number, one.phase) for one in world.store.generations()]


def test_what_is_thrown_away_was_compared_and_changes_nothing(world: World) -> None:
    request = asked(world, "drop")
    assert request.state is DONE
    assert request.answer == {
        "generation": 1,
        "applied": 25,
        "swapped": False,
        "difference": figures_of(25),
    }
    assert phases(world) == [(1, Phase.LIVE)]
    assert world.documents() == tallied(facts(25))


def test_what_was_said_yes_to_before_is_compared_and_then_live(world: World) -> None:
    request = asked(world, "swap")
    assert request.state is DONE
    assert request.answer == {
        "generation": 2,
        "applied": 25,
        "swapped": True,
        "difference": figures_of(25),
    }
    assert world.documents() == changed(25)


def test_a_generation_waits_until_somebody_says_yes_and_has_then_all_that_came_meanwhile(
    world: World,
) -> None:
    request = asked(world, "ask")
    assert waits(request)
    assert request.memory["difference"] == figures_of(25)
    world.post(facts(15, first=25))
    world.run()  # idle again: it has waited, whatever came
    assert world.live.number == 1
    assert set(world.documents()) == {"ada", "bob", "cyd", "all"}  # as the new code folds now
    assert decide(world.control, world.control.get(request.id), SWAP)
    request = goes_on(world, request)
    assert (request.state, request.answer["swapped"]) == (DONE, True)
    assert world.documents() == changed(40)


def test_what_somebody_says_no_to_is_thrown_away(world: World) -> None:
    request = asked(world, "ask")
    decide(world.control, request, DROP)
    request = goes_on(world, request)
    assert (request.state, request.answer["swapped"]) == (DONE, False)
    assert phases(world) == [(1, Phase.LIVE)]


def test_what_is_cancelled_while_it_waits_is_thrown_away_too(world: World) -> None:
    request = asked(world, "ask")
    world.control.cancel(request.id)
    world.run()
    assert phases(world) == [(1, Phase.LIVE)]
    assert world.documents() == tallied(facts(25))


@pytest.mark.parametrize("bound", ["2", "0", "99%", "99.999%"])
def test_beyond_a_bound_it_fails_with_the_figures_and_the_live_one_stays(
    world: World, bound: str
) -> None:
    request = asked(world, "swap", max_change=bound)
    assert request.state is FAILED
    assert request.answer["error"] == (
        f"tally was not changed, because --max-change allows {bound}: 3 of 3 documents differ: "
        "1 added, 1 gone, 1 changed. Look at them with `paceline rebuild tally --diff`, or allow "
        "more."
    )
    assert request.answer["difference"] == figures_of(25)
    assert phases(world) == [(1, Phase.LIVE)]
    assert world.documents() == tallied(facts(25))


@pytest.mark.parametrize("bound", ["3", "100%", "250%"])
def test_within_a_bound_it_goes_live(world: World, bound: str) -> None:
    request = asked(world, "swap", max_change=bound)
    assert (request.state, request.answer["swapped"]) == (DONE, True)
    assert world.documents() == changed(25)


def test_beyond_a_bound_nobody_is_asked(world: World) -> None:
    request = asked(world, "ask", max_change="1")
    assert request.state is FAILED


def test_what_waits_survives_the_worker_and_is_not_compared_again(world: World) -> None:
    request = asked(world, "ask")
    folded = len(world.consumer.folded)
    world.consumer = Changed()
    memory = world.control.get(request.id).memory
    world.run(lambda: waits(world.control.get(request.id)))
    assert world.control.get(request.id).memory == memory
    assert (folded, world.consumer.folded) == (25, [])
    decide(world.control, request, SWAP)
    assert goes_on(world, request).answer["generation"] == 2
    assert world.documents() == changed(25)


@pytest.mark.parametrize("said", [SWAP, DROP])
@pytest.mark.parametrize("method", ["swap", "abandon", "finish"])
def test_a_worker_that_is_killed_over_a_decision_leaves_it_to_the_next_one(
    world: World, monkeypatch: pytest.MonkeyPatch, said: str, method: str
) -> None:
    request = asked(world, "ask")
    decide(world.control, request, said)
    owner = world.control if method == "finish" else world.store
    with monkeypatch.context() as patch:
        patch.setattr(owner, method, killed)
        if (said, method) not in ((SWAP, "abandon"), (DROP, "swap")):
            with pytest.raises(Killed):
                goes_on(world, request)
    request = goes_on(world, request)
    assert request.answer["swapped"] == (said == SWAP)
    assert request.answer["difference"] == figures_of(25)
    assert world.documents() == (changed(25) if said == SWAP else tallied(facts(25)))
    assert (2, Phase.BUILDING) not in phases(world)


def killed(*_: Any, **__: Any) -> None:
    raise Killed


def test_a_worker_that_is_killed_in_the_middle_of_it_goes_on_and_counts_nothing_twice(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("consumers.runtime.comparing._REPORT_EVERY_S", 0.0)
    monkeypatch.setattr("consumers.runtime.comparing.stretch", by_ones)
    request = world.control.ask("tally", "rebuild", {"then": "drop"})
    report = world.control.report
    reports = 0

    def reported(*args: Any, memory: dict[str, Any], **kwargs: Any) -> bool:
        nonlocal reports
        told = report(*args, memory=memory, **kwargs)
        reports += "comparing" in memory
        if reports == 2:
            raise Killed
        return told

    monkeypatch.setattr(world.control, "report", reported)
    with pytest.raises(Killed):
        goes_on(world, request)
    assert world.control.get(request.id).memory["comparing"]["through"] == "all"
    reports = 10
    request = goes_on(world, request)
    assert request.answer["difference"] == figures_of(25)


def by_ones(before: Any, after: Any, *, past: str) -> Any:
    return stretch(before, after, past=past, limit=1)


def test_code_that_is_changed_while_it_waits_is_built_and_shown_anew(world: World) -> None:
    request = asked(world, "ask")
    world.consumer = Tally()
    again = replace(world.loaded(), code="another")
    world.loaded = lambda: again  # type: ignore[method-assign]
    assert decide(world.control, request, SWAP)  # said of what nobody has built any more
    world.run(lambda: waits(world.control.get(request.id)))
    request = world.control.get(request.id)
    assert world.live.number == 1
    assert request.memory["generation"] == 3
    assert request.memory["difference"]["examples"] == []
    said = request._replace(memory={"generation": 2, "decision": SWAP})
    assert (holds(said, 2), holds(said, 3)) == (False, True)


def test_what_is_said_while_the_next_worker_catches_up_is_not_forgotten(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("consumers.runtime.building._REPORT_EVERY_S", 0.0)
    request = asked(world, "ask")
    world.post(facts(50, first=25))
    commits = iter(range(3))

    def say(commit: Commit) -> None:
        if next(commits, None) == 2:
            decide(world.control, world.control.get(request.id), SWAP)

    world.store.after = say
    assert goes_on(world, request).answer["swapped"]
    assert world.documents() == changed(75)


def test_whoever_asks_otherwise_meanwhile_is_told_who_rebuilds_and_waits_for_a_person(
    world: World,
) -> None:
    waiting = asked(world, "ask")
    assert waits(waiting)
    plain = goes_on(world, world.control.ask("tally", "rebuild", {}))
    assert plain.state is FAILED
    assert plain.answer["error"] == (
        f"Operation {waiting.id} rebuilds tally already. If it waits for a yes or no, the command "
        f"that asked for it shows it again, and `paceline operations cancel {waiting.id}` throws "
        "it away."
    )
    decide(world.control, waiting, SWAP)
    assert goes_on(world, waiting).answer["swapped"]
    assert goes_on(world, world.control.ask("tally", "rebuild", {})).state is DONE


def test_what_is_only_on_its_way_is_no_difference(world: World) -> None:
    """One generation has the last events already, the other one gets them at the next turn."""
    world.consumer = Tally()
    world.fresh()
    live = world.live
    world.worker(live).apply(world.deliveries())
    built = world.store.begin(version=1, code="c", bindings=("#",), indexes={})
    behind = world.worker(built)
    behind.apply(world.deliveries()[:-2])
    remembered: list[dict[str, Any]] = []
    request = world.control.ask("tally", "rebuild", {"then": "drop"})
    steps = compare_in_steps(request, world.store, live, built, remembered.append)
    next(steps)
    behind.apply(world.deliveries())
    assert not list(filter(None, steps))
    assert remembered[-1]["difference"] == vars_of(Figures(before=3, after=3, through=None))


def vars_of(figures: Figures) -> dict[str, Any]:
    return {name: getattr(figures, name) for name in figures.__slots__}


def test_what_a_raised_version_makes_can_be_refused_and_is_not_built_again_by_itself(
    world: World,
) -> None:
    world.consumer = Changed(version=2)
    request = asked(world, "swap", max_change="1%")
    assert request.state is FAILED
    for _ in range(2):
        world.consumer = Changed(version=2)
        world.run()
        assert world.consumer.folded == []
        assert phases(world) == [(1, Phase.LIVE)]
        assert world.documents() == tallied(facts(25))
    assert world.store.mark("problem") == (
        "What version 2 of its code makes was thrown away. Put the old code back, or let it go "
        "live: `paceline rebuild tally`."
    )
    plain = world.control.ask("tally", "rebuild", {})
    assert goes_on(world, plain).state is DONE
    assert world.live.version == 2
    assert world.documents() == changed(25)
    assert world.store.mark("problem") is None
    world.consumer = Tally(version=3)
    world.run(lambda: world.live.version == 3)
    assert world.documents() == tallied(facts(25))


def test_the_old_code_goes_on_after_what_the_new_one_makes_was_refused(world: World) -> None:
    world.consumer = Changed(version=2)
    assert asked(world, "drop").state is DONE
    world.consumer = Tally()
    world.post(facts(5, first=25))
    world.run()
    assert world.documents() == tallied(facts(30))
    assert world.store.mark("problem") is None


class SharedStore(MongoStore):
    """A store in MongoDB, for a world that counts on one that sees commits."""

    before: Callable[[Commit], object]
    after: Callable[[Commit], object]

    def as_in_a_new_process(self) -> None:
        """Nothing is forgotten here."""


def test_it_is_the_same_on_mongodb(mongod: Mongod, tmp_path: Path) -> None:
    with databases(mongod) as made:
        world: Any = World(tmp_path, Tally(), batch=10)
        world.store.close()
        world.store = SharedStore(made.client, made.new_name(), "one")
        world.post(facts(25))
        world.run()
        world.consumer = Changed()
        refused = asked(world, "swap", max_change="2")
        assert (refused.state, refused.answer["difference"]) == (FAILED, figures_of(25))
        assert [one.phase for one in world.store.generations()] == [Phase.LIVE]
        assert world.documents() == tallied(facts(25))
        request = asked(world, "ask")
        assert request.memory["difference"] == figures_of(25)
        decide(world.control, request, SWAP)
        assert goes_on(world, request).answer["swapped"]
        assert world.documents() == changed(25)
        world.close()


# The difference itself, against one that is written down another way.

VALUES = st.one_of(st.none(), st.booleans(), st.integers(-1, 2), st.sampled_from(["", "1", "a"]))
DOCUMENTS = st.dictionaries(
    st.sampled_from(["a", "a/b", "b", "ä", "\U0001f6b4", "z"]),
    st.dictionaries(st.sampled_from(["m", "n"]), VALUES | st.lists(VALUES, max_size=2), min_size=1),
)


@given(DOCUMENTS, DOCUMENTS, st.integers(1, 4))
def test_every_difference_is_found_once_whatever_the_pages(
    before: dict[str, Any], after: dict[str, Any], limit: int
) -> None:
    expected = {}
    for key in sorted({*before, *after}, key=str.encode):
        ours, theirs = before.get(key), after.get(key)
        if json.dumps(ours, sort_keys=True) != json.dumps(theirs, sort_keys=True):
            expected[key] = "added" if ours is None else "gone" if theirs is None else "changed"
    found, past = [], [""]
    while past:
        page = stretch(
            MemoryDocuments(before), MemoryDocuments(after), past=past.pop(), limit=limit
        )
        found += list(page.differences())
        past += [] if page.through is None else [page.through]
    assert [(one.key, str(one.what)) for one in found] == list(expected.items())
    for one in found:
        rebuilt = dict(before.get(one.key, {}))
        for name, sides in one.fields.items():
            assert sides.get("before", "-") == before.get(one.key, {}).get(name, "-")
            rebuilt.pop(name, None)
            rebuilt |= {name: sides["after"]} if "after" in sides else {}
        assert json.dumps(rebuilt, sort_keys=True) == json.dumps(
            after.get(one.key, {}), sort_keys=True
        )


def test_as_many_examples_are_kept_as_fit_and_the_counts_are_of_all() -> None:
    before = {
        f"k-{n:05}": {"text": "x" * 10_000, **{f"f{i}": n for i in range(30)}} for n in range(250)
    }
    after = {key: {"text": "y" * 10_000} for key in before}
    figures = Figures()
    assert len(list(compare(MemoryDocuments(before), MemoryDocuments(after), figures))) == 250
    assert (figures.changed, len(figures.examples)) == (250, EXAMPLES)
    assert len(json.dumps(figures.told())) < 1_000_000
    assert figures.examples[0]["more_fields"] == 11


@pytest.mark.parametrize(
    ("text", "before", "most"),
    [("5%", 40, 2), ("5%", 39, 1), ("0.5%", 200, 1), ("0%", 9, 0), ("7", 1, 7), ("5%", 0, 0)],
)
def test_a_bound_is_exact(text: str, before: int, most: int) -> None:
    assert not is_beyond(Figures(before=before, changed=most), text)
    assert is_beyond(Figures(before=before, changed=most + 1), text)


@pytest.mark.parametrize("text", ["", "5 %", "%", "-1", "1.5", "1/2%", "5%%", "٣", "5\n", "nan"])
def test_what_is_no_bound_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="is no bound; write a share such as 5%, or a count"):
        bound(text)


# The command.

DOUBLED = shell.PLUGIN.replace("pass", 'documents[event.user_id]["seen"] = 1')


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    yield from installed(tmp_path, monkeypatch)


def test_the_command_shows_what_would_change_and_changes_nothing_without_a_terminal(
    place: World,
) -> None:
    before = place.documents()
    with working(place, Changed()):
        told = run("rebuild", "tally", "--diff").stdout
        (row,) = printed("rebuild", "tally", "--diff")
    lines = told.splitlines()
    assert lines[0].split() == ["what", "key", "fields"]
    assert lines[1].split()[:2] == ["changed", "ada"]
    assert "double: -> 14" in lines[1]
    assert lines[-2] == "3 of 3 documents differ: 1 added, 1 gone, 1 changed."
    assert lines[-1] == "tally: nothing was changed."
    assert (row["consumer"], row["swapped"], row["difference"]["changed"]) == ("tally", False, 1)
    assert place.documents() == before


def test_the_command_asks_and_does_what_it_is_told(
    place: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("consumers.rebuild_commands._can_ask", lambda as_json: not as_json)
    with working(place, Changed()):
        no = run("rebuild", "tally", "--diff", answers="n\n")
        assert no.stdout.endswith("tally: nothing was changed.\n")
        assert "let it go live? [y/N]:" in no.stderr
        assert place.live.number == 1
        yes = run("rebuild", "tally", "--diff", answers="y\n")
        number = place.live.number
        assert yes.stdout.endswith(f"tally: generation {number} is live now.\n")
    assert number > 1
    assert place.documents() == changed(20)


def test_ctrl_c_at_the_question_leaves_it_open_and_the_same_command_asks_again(
    place: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("consumers.rebuild_commands._can_ask", lambda as_json: True)
    with working(place, Changed()):
        stopped = run("rebuild", "tally", "--diff", code=1)  # nobody answers: as Ctrl-C does
        assert stopped.stderr.splitlines()[-1] == (
            "paceline: Not waited for. Operation 1 stays open: the same command joins it, "
            "`paceline operations cancel 1` throws away what it has built."
        )
        run("rebuild", "tally", "--diff", answers="y\n")
    assert [one["id"] for one in printed("operations", "list")] == [1]
    assert place.documents() == changed(20)


@pytest.mark.parametrize(("says", "live"), [(b"y\n", 2), (b"n\n", 1)])
def test_on_a_real_terminal_somebody_is_asked(tmp_path: Path, says: bytes, live: int) -> None:
    here = Place(tmp_path / "place")
    here.plug_in(misdeed="documents[event.user_id]['seen'] = 1")
    append(here.log, facts(9))
    worker = here.start("consume", "tally")
    until(lambda: len(here.fates()) == 9, what="they are applied")
    here.stop(worker)
    here.plug_in()
    terminal, end = pty.openpty()
    asking = subprocess.Popen(
        [sys.executable, "-m", "cli", "rebuild", "tally", "--diff"],
        cwd=ROOT,
        env=here.environment,
        stdin=end,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    )
    os.write(terminal, says)
    told = asking.communicate(timeout=60)[0].decode()
    os.close(terminal)
    os.close(end)
    assert asking.returncode == 0
    assert "3 of 3 documents differ: 0 added, 0 gone, 3 changed." in told
    assert [one.number for one in here.generations() if one.phase is Phase.LIVE] == [live]
    assert all(("seen" in one) == (live == 1) for one in here.documents().values())
    here.close()


def test_the_command_lets_it_go_live_where_yes_was_said_before(place: World) -> None:
    with working(place, Changed()):
        told = run("rebuild", "tally", "--diff", "--yes").stdout
    assert "3 of 3 documents differ" in told
    assert place.documents() == changed(20)


def test_the_command_refuses_beyond_a_bound_in_one_line_and_exits_with_1(place: World) -> None:
    with working(place, Changed()):
        refused = run("rebuild", "tally", "--max-change", "5%", code=1)
        line = refused.stderr.splitlines()[-1]
        assert line.startswith("paceline: tally was not changed, because --max-change allows 5%:")
        assert refused.stdout == ""
        (row,) = printed("rebuild", "tally", "--max-change", "3")
    assert (row["swapped"], row["difference"]["gone"]) == (True, 1)
    assert place.documents() == changed(20)


def test_wrong_usage_is_said_before_anything_is_asked(place: World) -> None:
    assert (
        "--max-change: 'x' is no bound"
        in run("rebuild", "tally", "--max-change", "x", code=2).stderr
    )
    assert "--yes answers --diff" in run("rebuild", "tally", "--yes", code=2).stderr
    assert printed("operations", "list") == []


def test_one_that_is_cancelled_by_somebody_else_is_told(
    place: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("consumers.rebuild_commands._can_ask", lambda as_json: True)

    def cancelled(difference: dict[str, Any]) -> bool:
        place.control.cancel(1)
        until(lambda: len(place.store.generations()) == 1, what="it is thrown away")
        return True

    monkeypatch.setattr("consumers.rebuild_commands._chosen", cancelled)
    with working(place, Changed()):
        told = run("rebuild", "tally", "--diff", code=1)
    assert told.stderr.endswith("paceline: Operation 1 was cancelled.\n")
    FileLock(place.folder / "consumers" / "tally.db").release()
