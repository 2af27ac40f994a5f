"""The store in MongoDB among several workers, of which some die, and with a server that dies."""

import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path
from random import Random
from threading import Barrier, Event, Thread
from typing import Any

import pytest
from pymongo import MongoClient
from pymongo.monitoring import (
    CommandFailedEvent,
    CommandListener,
    CommandStartedEvent,
    CommandSucceededEvent,
)

from consumers.runtime.fates import APPLIED, Fate, State
from consumers.runtime.store import Change, Commit, Generation, Lead, Stored, Written
from consumers.runtime.store.mongo import MongoStore
from consumers.runtime.store.mongo_commit import CommitWriter
from consumers.runtime.store.mongo_reader import MongoStoreReader
from consumers.runtime.store.mongo_transactions import transaction
from events.errors import Outage, Overtaken, Refused
from events.log import Position
from events.mongo import Client, connect
from tests.integration.world import until
from tests.servers.databases import Databases, databases
from tests.servers.mongod import Mongod

ROOT = Path(__file__).resolve().parents[2]
DEAD = Fate(state=State.DEAD, attempts=6, reason="odd")
DISCARDED = Fate(state=State.DISCARDED, attempts=6, reason="odd")
MIB = 1 << 20
NEVER_LATE = datetime(2100, 1, 1, tzinfo=UTC)
Open = Callable[[str], MongoStore]

# What a worker that is killed in the middle of a commit has done by then.
DYING = """
import sys, time
from consumers.runtime.store import Commit, Written
from consumers.runtime.store.mongo import MongoStore
from consumers.runtime.store.mongo_commit import CommitWriter
from consumers.runtime.store.mongo_transactions import transaction
from events.mongo import Client, connect

url, name, inside = sys.argv[1:]
store = MongoStore(connect(url), name, "dying")
print(store.lead(), flush=True)
if inside == "inside":
    live = store.live().number
    with transaction(store._own, "store"):
        writer = CommitWriter(store._db, "store", store._own, generation=live, small={})
        writer.write(Commit(documents=[Written("a", 1, b'{"n":9}')]), shard=0)
        print("inside", flush=True)
        time.sleep(600)
time.sleep(600)
"""


@pytest.fixture(scope="module")
def mongo(mongod: Mongod) -> Iterator[Databases]:
    with databases(mongod) as made:
        yield made


@pytest.fixture
def name(mongo: Databases) -> Iterator[str]:
    yield mongo.new_name()
    mongo.drop()


@pytest.fixture
def opened(mongo: Databases, name: str) -> Iterator[Open]:
    """Opens the store of one consumer as a worker does."""
    stores = []

    def made(worker: str) -> MongoStore:
        stores.append(MongoStore(mongo.client, name, worker))
        return stores[-1]

    yield made
    for store in stores:
        store.close()


@pytest.fixture
def one(opened: Open) -> MongoStore:
    return opened("one")


@pytest.fixture
def other(opened: Open) -> MongoStore:
    return opened("other")


@pytest.fixture
def dying(mongod: Mongod, name: str) -> Iterator[Callable[[str], "subprocess.Popen[str]"]]:
    """Starts a worker in a process of its own; it says `taken`, and `inside` when it is so far."""
    started: list[subprocess.Popen[str]] = []

    def start(inside: str) -> "subprocess.Popen[str]":
        started.append(
            subprocess.Popen(
                [sys.executable, "-c", DYING, mongod.url, name, inside],
                stdout=subprocess.PIPE,
                text=True,
                cwd=ROOT,
            )
        )
        return started[-1]

    yield start
    for process in started:
        process.kill()
        process.communicate()


def begun(store: MongoStore, version: int = 1) -> Generation:
    return store.begin(version=version, code="", bindings=("#",), indexes={})


def body(**fields: Any) -> bytes:
    return json.dumps(fields).encode()


def next_line(process: "subprocess.Popen[str]") -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()


# Who leads


def test_one_of_two_leads_and_the_other_one_after_it_has_left(
    one: MongoStore, other: MongoStore
) -> None:
    assert one.lead() is Lead.TAKEN
    assert [other.lead(), one.lead(), other.lead()] == [Lead.NONE, Lead.HELD, Lead.NONE]
    one.leave()
    assert other.running()
    assert [other.lead(), one.lead()] == [Lead.TAKEN, Lead.NONE]


def test_of_many_who_want_to_lead_at_once_one_does(opened: Open) -> None:
    stores = [opened(f"worker {number}") for number in range(8)]
    barrier = Barrier(8)

    def lead(store: MongoStore) -> Lead:
        barrier.wait()
        return store.lead()

    with ThreadPoolExecutor(8) as threads:
        told = list(threads.map(lead, stores))
    assert sorted(told) == [Lead.NONE] * 7 + [Lead.TAKEN]


def test_the_lead_of_a_process_that_was_killed_is_inherited_at_once(
    one: MongoStore, dying: Callable[[str], "subprocess.Popen[str]"]
) -> None:
    process = dying("")
    assert next_line(process) == Lead.TAKEN
    assert one.lead() is Lead.NONE
    process.kill()
    process.wait()
    assert [one.lead(), one.lead()] == [Lead.INHERITED, Lead.HELD]


def test_a_process_that_is_killed_in_a_commit_leaves_its_documents_free_at_once(
    one: MongoStore, dying: Callable[[str], "subprocess.Popen[str]"]
) -> None:
    live = begun(one).number
    one.commit(live, Commit(documents=[Written("a", 0, body(n=1))]))
    process = dying("inside")
    assert [next_line(process), next_line(process)] == [Lead.TAKEN, "inside"]
    change = Commit(documents=[Written("a", 1, body(n=2))])
    assert one.lead() is Lead.NONE
    with pytest.raises(Overtaken):
        one.commit(live, change)
    process.kill()
    process.wait()
    killed = time.monotonic()
    with pytest.raises(Overtaken):  # the server does not know that it is gone
        one.commit(live, change)
    assert one.lead() is Lead.INHERITED
    one.commit(live, change)
    assert time.monotonic() - killed < 2
    assert one.load(live, ["a"]) == {"a": Stored(2, body(n=2))}


def test_a_worker_that_is_stuck_is_inherited_when_its_time_is_over_and_its_commit_ended(
    mongo: Databases, name: str, one: MongoStore, other: MongoStore
) -> None:
    live, database = begun(one).number, mongo.client[name]
    one.lead()
    elsewhere(database, "one")
    assert [other.lead(), other.running()] == [Lead.NONE, True]
    theirs = Commit(documents=[Written("a", 0, body(n=2))], applied=[Position("r", 2)])

    def meanwhile() -> None:
        with pytest.raises(Overtaken):
            other.commit(live, theirs)
        database.lead.update_one({}, [{"$set": {"expires": "$$NOW"}}])
        assert other.lead() is Lead.INHERITED
        other.commit(live, theirs)

    with pytest.raises(Outage):
        commit_slowly(one, live, Commit(documents=[Written("a", 0, body(n=1))]), meanwhile)
    assert one.lead() is Lead.NONE
    one.commit(live, Commit(documents=[Written("a", 1, body(n=3))]))
    assert other.load(live, ["a"]) == {"a": Stored(2, body(n=3))}


def test_a_worker_that_was_not_seen_for_long_is_taken_away_with_what_it_left_open(
    mongo: Databases, name: str, one: MongoStore, other: MongoStore
) -> None:
    live, database = begun(one).number, mongo.client[name]
    assert [other.lead(), one.lead()] == [Lead.TAKEN, Lead.NONE]
    elsewhere(database, "one")

    def meanwhile() -> None:
        long_ago = {"$subtract": ["$$NOW", 15_001]}
        database.workers.update_one({"_id": "one"}, [{"$set": {"seen": long_ago}}])
        assert other.lead() is Lead.HELD
        assert [row["_id"] for row in database.workers.find()] == ["other"]
        other.commit(live, Commit(documents=[Written("a", 0, body(n=2))]))

    with pytest.raises(Outage):
        commit_slowly(one, live, Commit(documents=[Written("a", 0, body(n=1))]), meanwhile)
    assert one.lead() is Lead.NONE
    assert database.workers.count_documents({}) == 2


def test_nobody_runs_once_nobody_was_seen_for_long(
    mongo: Databases, name: str, one: MongoStore
) -> None:
    one.lead()
    assert MongoStoreReader(mongo.client, name).running()
    workers = mongo.client[name].workers
    workers.update_one({}, [{"$set": {"seen": {"$subtract": ["$$NOW", 15_001]}}}])
    assert not MongoStoreReader(mongo.client, name).running()


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({}, Lead.NONE),
        ({"started": 1}, Lead.INHERITED),  # its number was given to another process
        ({"started": 1, "host": "elsewhere"}, Lead.NONE),
        ({"pid": (1 << 22) + 1}, Lead.INHERITED),  # more than there can be
        ({"pid": (1 << 22) + 1, "host": "elsewhere"}, Lead.NONE),
    ],
)
def test_a_process_is_known_by_its_host_its_number_and_its_start(
    mongo: Databases,
    name: str,
    one: MongoStore,
    other: MongoStore,
    change: dict[str, Any],
    told: Lead,
) -> None:
    one.lead()
    mongo.client[name].workers.update_one({"_id": "one"}, {"$set": {"seen": NEVER_LATE} | change})
    assert other.lead() is told


# Generations


def test_of_many_who_begin_the_first_generation_all_get_the_same(opened: Open) -> None:
    stores = [opened(f"worker {number}") for number in range(6)]
    barrier = Barrier(6)

    def begin(store: MongoStore) -> Generation:
        barrier.wait()
        return begun(store)

    with ThreadPoolExecutor(6) as threads:
        made = list(threads.map(begin, stores))
    assert stores[0].generations() == [made[0]] == [*{one.number: one for one in made}.values()]
    stores[1].commit(made[0].number, Commit(applied=[Position("r", 1)]))
    assert stores[2].counts(made[0].number)[State.APPLIED] == 1
    names = stores[0]._db.list_collection_names()
    assert [one for one in names if one.startswith("fates_")] == [f"fates_{made[0].number}"]


def test_a_swap_takes_over_what_is_just_being_discarded(one: MongoStore, other: MongoStore) -> None:
    live = begun(one).number
    positions = [Position("r", number) for number in range(1, 61)]
    one.commit(live, Commit(changes=[Change(at, None, DEAD) for at in positions]))
    built = begun(one, 2).number
    swapped, discarded = Event(), []

    def discard() -> None:
        for at in positions:
            while not swapped.is_set():
                try:
                    other.commit(live, Commit(changes=[Change(at, DEAD, DISCARDED)]))
                except Overtaken:
                    continue
                discarded.append(at)
                break

    def swap() -> None:
        until(lambda: len(discarded) > 20, what="some are discarded")
        one.swap(built, expected=live)
        at_swap.update(one.fates(built, positions))
        swapped.set()

    at_swap: dict[Position, Fate] = {}
    with ThreadPoolExecutor(2) as threads:
        for done in [threads.submit(discard), threads.submit(swap)]:
            done.result()
    kept = [at for at in positions if at in at_swap]
    assert kept == positions[: len(kept)]
    assert len(kept) > 20
    assert set(at_swap.values()) == {DISCARDED}


def test_a_commit_that_discards_and_a_swap_do_not_miss_each_other(
    mongo: Databases, one: MongoStore, other: MongoStore
) -> None:
    live, at = begun(one).number, Position("r", 1)
    one.commit(live, Commit(changes=[Change(at, None, DEAD)]))
    built = begun(one, 2).number
    with ThreadPoolExecutor(1) as threads:
        swaps = []

        def meanwhile() -> None:
            before = aborted(mongo)
            swaps.append(threads.submit(one.swap, built, expected=live))
            until(lambda: aborted(mongo) > before, what="the swap meets the commit")

        commit_slowly(other, live, Commit(changes=[Change(at, DEAD, DISCARDED)]), meanwhile)
        swaps[0].result()
    assert one.fates(built, [at]) == {at: DISCARDED}


def test_what_an_ended_generation_left_is_dropped_with_the_next_swap(one: MongoStore) -> None:
    live, built = begun(one).number, begun(one, 2).number
    one._db["fates_0"].insert_one({"_id": 1})
    one.swap(built, expected=live)
    third = begun(one, 3).number
    one.swap(third, expected=built)
    names = {name for name in one._db.list_collection_names() if name[-1].isdecimal()}
    numbers = {built, third}
    assert names == {
        f"{kind}_{number}" for kind in ("fates", "facts", "documents") for number in numbers
    }


# Commits


def test_a_batch_of_a_thousand_is_one_commit(one: MongoStore) -> None:
    live = begun(one).number
    keys = [f"user {number}" for number in range(1_000)]
    for revision in range(3):
        one.commit(
            live,
            Commit(
                documents=[
                    Written(key, revision, body(n=revision, text="x" * 2_000)) for key in keys
                ],
                applied=[Position("r", revision * 1_000 + n) for n in range(1, 1_001)],
                through={"r": (revision + 1) * 1_000},
            ),
        )
    assert {stored.revision for stored in one.load(live, keys).values()} == {3}
    assert one.counts(live)[State.APPLIED] == 3_000


def test_a_commit_with_more_than_a_small_cache_holds_is_refused(
    one: MongoStore,
) -> None:
    live = begun(one).number
    documents = [Written(f"d{number}", 0, b" " * MIB) for number in range(17)]
    applied = [Position("r", 1), Position("r", 2)]
    with pytest.raises(Refused, match="at most"):
        one.commit(live, Commit(documents=documents, applied=applied))
    assert one.counts(live)[State.APPLIED] == 0
    for revision in range(3):
        some = [Written(key, revision, text) for key, _, text in documents[:16]]
        one.commit(live, Commit(documents=some, applied=[Position("r", revision)]))
    assert one.counts(live)[State.APPLIED] == 3


def test_a_large_commit_that_comes_upon_another_is_halved_and_a_small_one_folded_again(
    one: MongoStore, other: MongoStore
) -> None:
    # Because a server whose cache is full tells of it as if another commit had come between.
    live = begun(one).number
    large = [Written(f"d{number}", 0, b" " * MIB) for number in range(5)]
    one.commit(live, Commit(applied=[Position("r", 1)]))
    for numbers, error in (((1, 2), Refused), ((1,), Overtaken)):
        applied = [Position("r", number) for number in numbers]
        with pytest.raises(error):
            other.commit(live, Commit(documents=large, applied=applied))
        with pytest.raises(Overtaken):
            other.commit(live, Commit(documents=large[:3], applied=applied))


class Hold(CommandListener):
    """Holds the next commit until something has happened."""

    def __init__(self, until: Callable[[], object]) -> None:
        self._until, self.next = until, False

    def started(self, event: CommandStartedEvent) -> None:
        if self.next and event.command_name == "commitTransaction":
            self.next = False
            self._until()

    def succeeded(self, event: CommandSucceededEvent) -> None:
        pass

    def failed(self, event: CommandFailedEvent) -> None:
        pass


def test_a_commit_that_lasts_too_long_for_the_server_is_refused_and_can_be_halved(
    mongod: Mongod, mongo: Databases, name: str
) -> None:
    before = aborted(mongo)
    hold = Hold(lambda: until(lambda: aborted(mongo) > before, what="the server ends it"))
    with held_client(mongod, hold) as client:
        store = MongoStore(client, name, "slow")
        live = begun(store).number
        two = Commit(applied=[Position("r", 1), Position("r", 2)])
        hold.next = True
        with pytest.raises(Refused, match="in time"):
            store.commit(live, two)
        assert store.counts(live)[State.APPLIED] == 0
        store.commit(live, two)
        store.close()


def test_an_event_alone_whose_commit_the_server_ends_is_not_at_fault(
    mongod: Mongod, mongo: Databases, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("consumers.runtime.store.mongo._LONG_S", 0.0)
    stores: list[MongoStore] = []

    def end() -> None:
        session = stores[0]._own.session_id
        mongo.client.admin.command("killSessions", [{"id": session["id"]}])

    hold = Hold(end)
    with held_client(mongod, hold) as client:
        stores.append(MongoStore(client, name, "slow"))
        live = begun(stores[0]).number
        for numbers, error in (((1, 2), Refused), ((1,), Outage)):
            hold.next = True
            with pytest.raises(error):
                stores[0].commit(
                    live, Commit(applied=[Position("r", number) for number in numbers])
                )
        stores[0].commit(live, Commit(applied=[Position("r", 1)]))
        stores[0].close()


def held_client(server: Mongod, hold: Hold) -> Client:
    return MongoClient(server.url, event_listeners=[hold], retryWrites=False, tz_aware=True)


def test_workers_that_count_in_the_same_row_get_out_of_each_others_way(
    one: MongoStore, other: MongoStore
) -> None:
    live = begun(one).number
    other._shard = one._shard

    def commits() -> bool:
        try:
            other.commit(live, Commit(applied=[Position("r", 2)]))
        except Overtaken:
            return False
        return True

    def meanwhile() -> None:
        until(commits, what="another row to count in")

    commit_slowly(one, live, Commit(applied=[Position("r", 1)]), meanwhile)
    assert one.counts(live)[State.APPLIED] == 2


def test_a_server_that_is_killed_in_a_commit_has_all_of_it_or_nothing(tmp_path: Path) -> None:
    server, random, kept = Mongod(tmp_path), Random(1), 0
    server.start()
    try:
        with connect(server.url) as client:
            for _ in range(5):
                before = kept
                kept = committed_until_killed(server, client, kept, random.uniform(0.05, 0.3))
                kept = whole(client, at_least=kept)
                assert kept > before
    finally:
        server.kill()


def committed_until_killed(server: Mongod, client: Client, start: int, after_s: float) -> int:
    """Commit one after the other; the server dies and comes back; return how many are certain."""
    store = MongoStore(client, "killed", "worker")
    live = (store.live() or begun(store)).number
    first, back = Event(), Event()

    def kill() -> None:
        first.wait()
        time.sleep(after_s)  # wherever the commit is by then
        server.kill()
        server.start()
        back.set()

    killer, done = Thread(target=kill), start
    killer.start()
    try:
        while not back.is_set():
            store.commit(live, numbered(store, live, done + 1))
            done += 1
            first.set()
    except (Outage, Refused):  # it took too long while the server was away: halve it, then
        pass
    finally:
        first.set()
        killer.join()
    return done


def numbered(store: MongoStore, live: int, number: int) -> Commit:
    """A commit of two documents, twenty fates and a watermark, all with this number in them."""
    keys = ["a", "b"]
    have = store.load(live, keys)
    return Commit(
        documents=[
            Written(key, have[key].revision if key in have else 0, body(n=number)) for key in keys
        ],
        applied=[Position("r", number * 20 + place) for place in range(20)],
        through={"r": number},
    )


def whole(client: Client, *, at_least: int) -> int:
    """Check that all parts of a store tell of the same commits, none lost; return how many."""
    store = MongoStoreReader(client, "killed")
    live = store.live()
    assert live is not None
    number = store.watermarks(live.number).get("r", 0)
    assert number in (at_least, at_least + 1)
    told = store.documents(live.number).range("", "z")
    assert told == ([("a", {"n": number}), ("b", {"n": number})] if number else [])
    assert store.counts(live.number)[State.APPLIED] == number * 20
    rows = store.rows(live.number, "r", 0, None)
    assert sorted(rows) == [*range(20, number * 20 + 20)]
    return number


# Reads


def test_the_mark_of_another_worker_is_seen_soon_and_the_own_at_once(
    one: MongoStore, other: MongoStore
) -> None:
    assert [one.mark("paused"), other.mark("paused")] == [None, None]
    one.set_mark("paused", "1")
    assert one.mark("paused") == "1"
    until(lambda: other.mark("paused") == "1", what="the mark", within_s=2)


def test_a_moment_is_one_threads_own(mongo: Databases, name: str, one: MongoStore) -> None:
    live, reader = begun(one).number, MongoStoreReader(mongo.client, name)
    with ThreadPoolExecutor(1) as threads, reader.moment():
        assert reader.documents(live).get("a") is None
        one.commit(live, Commit(documents=[Written("a", 0, body(n=1))]))
        assert reader.documents(live).get("a") is None
        assert threads.submit(lambda: reader.documents(live).get("a")).result() == {"n": 1}
    assert reader.documents(live).get("a") == {"n": 1}


def test_the_counts_are_those_of_one_moment(
    mongo: Databases, name: str, one: MongoStore, other: MongoStore
) -> None:
    live, at = begun(one).number, [Position("r", number) for number in range(1, 41)]
    one.commit(live, Commit(changes=[Change(position, None, DEAD) for position in at]))
    reader, ended = MongoStoreReader(mongo.client, name), Event()

    def apply() -> None:
        for position in at:
            other.commit(live, Commit(changes=[Change(position, DEAD, APPLIED)]))
        ended.set()

    sums = set()
    with ThreadPoolExecutor(1) as threads:
        applying = threads.submit(apply)
        while not ended.is_set() and not applying.done():
            sums.add(sum(reader.counts(live).values()))
        applying.result()
    assert sums == {40}


def test_the_rate_is_that_of_all_workers(one: MongoStore, other: MongoStore) -> None:
    live = begun(one).number
    one._shard, other._shard = 1, 2
    one.commit(live, Commit(applied=[Position("r", 1)], rate=10.5))
    other.commit(live, Commit(applied=[Position("r", 2)], rate=20.0))
    (told,) = one.generations()
    assert (told.applied, told.rate) == (2, 30.5)
    long_ago = {"$subtract": ["$$NOW", 10_001]}
    one._db.counts.update_one({"_id.shard": 1}, [{"$set": {"committed": long_ago}}])
    (told,) = one.generations()
    assert (told.applied, told.rate) == (2, 20.0)


def test_a_database_that_no_worker_has_made_reads_as_empty(mongo: Databases, name: str) -> None:
    reader = MongoStoreReader(mongo.client, name)
    assert (reader.generations(), reader.live(), reader.running()) == ([], None, False)
    assert (reader.mark("paused"), reader.counts(1)[State.DEAD]) == (None, 0)
    assert reader.open_fates(1, State.DEAD) == []
    with reader.moment():
        assert reader.live() is None


def elsewhere(database: Any, worker: str) -> None:
    """Let a worker be one of a host whose processes nobody here can see."""
    database.workers.update_one({"_id": worker}, {"$set": {"host": "elsewhere"}})


def commit_slowly(
    store: MongoStore, generation: int, commit: Commit, meanwhile: Callable[[], object]
) -> None:
    """Commit, with something that happens when all is written and nothing is sure."""
    store._number(commit)
    with transaction(store._own, "store"):
        CommitWriter(
            store._db, "store", store._own, generation=generation, small=store._small
        ).write(commit, shard=store._shard)
        meanwhile()


def aborted(mongo: Databases) -> int:
    """How many transactions the server has ended so far."""
    told = mongo.client.admin.command("serverStatus")
    return int(told["transactions"]["totalAborted"])
