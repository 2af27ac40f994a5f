"""The log in MongoDB: lost replies, killed servers, relays that ended, and logs from old copies."""

import json
import subprocess
import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from threading import Event, Thread
from typing import Any

import pymongo
import pytest

from events.envelope import Sealed
from events.errors import Outage, PacelineError, Refused
from events.log import Appended, Outcome, Selection, stretch_ahead
from events.log.mongo import MongoEventLog
from events.log.mongo_reader import MongoLogReader
from events.mongo import Client, connect, database_name
from tests.contract.test_event_log import ALL, KEYS, everything, ids, sealed
from tests.integration.world import until
from tests.servers.mongod import Mongod

ROOT = Path(__file__).resolve().parents[2]
TRIED_AGAIN_WITHIN = 60


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, mongod: Mongod) -> Iterator[Mongod]:
    """A server of our own, which we may kill and tell to fail."""
    own = Mongod(tmp_path_factory.mktemp("own-mongod"), failpoints=True)
    own.start()
    yield own
    own.kill()


@pytest.fixture
def client(server: Mongod) -> Iterator[Client]:
    with connect(server.url) as client:
        yield client


@pytest.fixture
def database(client: Client) -> Iterator[str]:
    yield "paceline"
    client.drop_database("paceline")


@pytest.fixture
def log(client: Client, database: str) -> MongoEventLog:
    return MongoEventLog(client, database)


@pytest.fixture
def reader(client: Client, database: str) -> MongoLogReader:
    return MongoLogReader(client, database)


@contextmanager
def failing(client: Client, **how: Any) -> Iterator[None]:
    """Let the commands of our clients fail."""
    point = {"configureFailPoint": "failCommand"}
    client.admin.command({**point, "mode": "alwaysOn", "data": {"appName": "paceline", **how}})
    try:
        yield
    finally:
        client.admin.command({**point, "mode": "off"})


def unconfirmed(client: Client) -> Any:
    """Inserts happen, and the reply says that nobody knows whether they are kept."""
    error = {"code": 12345, "errmsg": "waiting for replication timed out"}
    return failing(client, failCommands=["insert"], writeConcernError=error)


def some(first: int, last: int) -> list[Sealed]:
    return [sealed(number) for number in range(first, last)]


def outcomes(answers: Sequence[Appended]) -> list[str]:
    return [answer.outcome.value for answer in answers]


def test_a_duplicate_key_in_an_unconfirmed_reply_is_unknown_and_the_next_append_tells(
    client: Client, log: MongoEventLog, reader: MongoLogReader
) -> None:
    for _ in range(2):  # the second time, each insert meets what the first one has left
        with unconfirmed(client), pytest.raises(Outage, match="replication timed out"):
            log.append(some(0, 3), source="door")
        assert reader.settled() == {}
        assert [row.event_id for row in reader.unsettled(limit=ALL)] == ids(some(0, 3))
    answers = log.append(some(0, 3), source="door")
    assert outcomes(answers) == ["duplicate"] * 3
    assert [answer.body for answer in answers] == [event.body for event in some(0, 3)]
    assert [answer.position for answer in answers] == [row.position for row in everything(reader)]
    last = answers[-1].position
    assert reader.settled() == {last.relay: last.number}
    assert reader.unsettled(limit=ALL) == []


@pytest.mark.parametrize(
    "how",
    [
        {"closeConnection": True},
        {"errorCode": 189},  # PrimarySteppedDown
        {"errorCode": 50},  # MaxTimeMSExpired
    ],
    ids=str,
)
def test_an_insert_that_nobody_answers_is_an_outage_and_is_new_when_it_comes_again(
    client: Client, log: MongoEventLog, how: dict[str, Any]
) -> None:
    with failing(client, failCommands=["insert"], **how), pytest.raises(Outage):
        log.append(some(0, 3), source="door")
    answers = log.append(some(0, 3), source="door")
    assert outcomes(answers) == ["new"] * 3
    assert log.settled() == {answers[-1].position.relay: answers[-1].position.number}


def test_nothing_is_settled_until_all_that_is_in_doubt_was_appended_again(
    client: Client, log: MongoEventLog, reader: MongoLogReader
) -> None:
    log.append(some(0, 2), source="door")
    before = reader.settled()
    with failing(client, failCommands=["insert"], closeConnection=True), pytest.raises(Outage):
        log.append(some(2, 6), source="door")
    for part in (some(10, 12), some(2, 4), some(5, 6)):
        log.append(part, source="door")
        assert reader.settled() == before
        assert stretch_ahead(reader, before, ("#",), limit=ALL) is None
    answers = log.append(some(4, 5), source="door")
    assert list(reader.settled().values()) == [answers[0].position.number]
    assert len(everything(reader)) == 8


def test_how_far_it_is_settled_is_told_by_the_next_append_where_it_could_not_be_written(
    client: Client, log: MongoEventLog, reader: MongoLogReader
) -> None:
    log.append(some(0, 1), source="door")
    before = reader.settled()
    # The first update says that the relay works, the second one how far it has settled.
    point = {"configureFailPoint": "failCommand", "mode": {"skip": 1}}
    how = {"appName": "paceline", "failCommands": ["update"], "closeConnection": True}
    client.admin.command({**point, "data": how})
    assert outcomes(log.append(some(1, 3), source="door")) == ["new"] * 2
    client.admin.command({**point, "mode": "off"})
    assert reader.settled() == before
    assert [row.event_id for row in reader.unsettled(limit=ALL)] == ids(some(1, 3))
    (answer,) = log.append(some(3, 4), source="door")
    assert reader.settled() == {answer.position.relay: answer.position.number}


def test_a_row_that_the_server_refuses_is_refused_and_its_neighbours_are_answered_later(
    client: Client, database: str, log: MongoEventLog, reader: MongoLogReader
) -> None:
    client[database].command("collMod", "events", validator={"user": {"$ne": "eve"}})
    events = [sealed(1), sealed(2, user="eve"), sealed(3)]
    with pytest.raises(Refused, match="failed validation"):
        log.append(events, source="door")
    answers = log.append([events[0], events[2]], source="door")
    assert set(outcomes(answers)) <= {"new", "duplicate"}
    assert {row.event_id for row in everything(reader)} == {events[0].id, events[2].id}
    # What was refused is known, so it keeps nothing from being settled.
    assert reader.settled() == {answers[-1].position.relay: answers[-1].position.number}
    with pytest.raises(Refused):
        log.append(events[1:2], source="door")


def test_an_event_that_is_too_large_is_refused_and_nothing_of_its_call_is_stored(
    log: MongoEventLog,
) -> None:
    told = json.loads(sealed(2).body) | {"subject": "x" * 16_000_000}
    large = Sealed(sealed(2).id, b"", json.dumps(told).encode())
    with pytest.raises(Refused, match=f"{large.id} is too large"):
        log.append([sealed(1), large], source="door")
    assert everything(log) == []


def test_kill_9_of_the_server_amid_appends_loses_nothing_that_was_answered(
    server: Mongod, client: Client, log: MongoEventLog, reader: MongoLogReader
) -> None:
    answered: list[Appended] = []
    trouble: list[BaseException] = []
    outages: list[int] = []
    enough = Event()

    def relay() -> None:
        try:
            for first in count(0, 20):
                while True:
                    try:
                        answered.extend(log.append(some(first, first + 20), source="door"))
                        break
                    except Outage:
                        outages.append(first)
                if enough.is_set():
                    break
        except BaseException as error:  # noqa: BLE001 - raised again by the test
            trouble.append(error)

    relaying = Thread(target=relay)
    relaying.start()
    for times in (1, 2):
        answers = len(answered)
        until(lambda least=answers + 300: len(answered) > least or trouble, what="answers")
        server.kill()
        until(lambda least=times: len(outages) >= least or trouble, what="an outage is met")
        server.start()
    enough.set()
    relaying.join(TRIED_AGAIN_WITHIN)
    assert not trouble
    rows = everything(reader)
    assert sorted(row.event_id for row in rows) == sorted(ids(some(0, len(answered))))
    assert {row.position: row.body for row in rows} == {
        answer.position: answer.body for answer in answered
    }
    (settled,) = reader.settled().values()
    assert settled == max(row.position.number for row in rows)


def test_two_relays_at_once_store_each_event_once_and_keep_each_conflict(
    server: Mongod, database: str, reader: MongoLogReader
) -> None:
    def relay(source: str) -> list[Appended]:
        own = 1000 if source == "a" else 2000
        with connect(server.url) as client:
            log, answers = MongoEventLog(client, database), list[Appended]()
            for first in range(0, 200, 20):
                clash = sealed(5000 + first, duration_ms=own)
                batch = [*some(first, first + 20), *some(own + first, own + first + 5), clash]
                answers += log.append(batch, source=source)
            return answers

    with ThreadPoolExecutor(2) as relays:
        one, other = relays.map(relay, ("a", "b"))
    rows = everything(reader)
    assert len({row.position for row in rows}) == len({row.event_id for row in rows}) == len(rows)
    assert len(rows) == 200 + 2 * 50 + 10
    assert [answer.position for answer in one[:20]] == [answer.position for answer in other[:20]]
    told = [answer.outcome for answer in one + other]
    assert told.count(Outcome.CONFLICT) == len(reader.conflicts()) == 10
    assert told.count(Outcome.DUPLICATE) == 200
    assert len(reader.settled()) == 2
    assert reader.unsettled(limit=ALL) == []


KILLED_BEFORE_IT_SETTLES = """
import os, signal, sys
from events.log.mongo import MongoEventLog
from events.log.mongo_relays import OwnRelay
from events.mongo import connect
from tests.contract.test_event_log import sealed

log = MongoEventLog(connect(sys.argv[1]), sys.argv[2])
for source in sys.argv[3:]:
    log.append([sealed(number) for number in range(2)], source=source)
OwnRelay.settle = lambda *_: os.kill(os.getpid(), signal.SIGKILL)
log.append([sealed(number) for number in range(2, 7)], source=sys.argv[3])
"""


def killed_relay(server: Mongod, database: str, *sources: str) -> None:
    code = [sys.executable, "-c", KILLED_BEFORE_IT_SETTLES]
    ended = subprocess.run([*code, server.url, database, *sources], cwd=ROOT, timeout=60)
    assert ended.returncode == -9


def test_what_a_killed_relay_left_unsettled_is_seen_and_its_follower_settles_it(
    server: Mongod, database: str, log: MongoEventLog, reader: MongoLogReader
) -> None:
    killed_relay(server, database, "door")
    ((former, settled),) = reader.settled().items()
    assert settled == 2
    assert [row.event_id for row in reader.unsettled(limit=ALL)] == ids(some(2, 7))
    assert reader.unsettled(limit=2) == reader.unsettled(limit=ALL)[:2]
    answers = log.append(some(2, 9), source="door")
    assert outcomes(answers) == ["duplicate"] * 5 + ["new"] * 2
    log.settle_former("window")
    assert reader.settled()[former] == 2
    log.settle_former("door")
    mine = answers[-1].position
    assert list(reader.settled().items()) == [(former, 7), (mine.relay, mine.number)]
    assert reader.unsettled(limit=ALL) == []


def test_a_former_relay_of_two_sources_is_settled_after_the_last_of_them(
    server: Mongod, database: str, log: MongoEventLog, reader: MongoLogReader
) -> None:
    killed_relay(server, database, "door", "window")
    log.settle_former("door")
    log.settle_former("door")
    assert list(reader.settled().values()) == [2]
    log.settle_former("window")
    assert list(reader.settled().values()) == [everything(reader)[-1].position.number]


def test_settling_former_relays_leaves_one_that_is_at_work_to_itself(
    client: Client, log: MongoEventLog, reader: MongoLogReader
) -> None:
    with unconfirmed(client), pytest.raises(Outage):
        log.append(some(0, 3), source="door")
    until(lambda: len(reader.unsettled(limit=ALL)) == 3, what="rows that a majority has")
    log.settle_former("door")
    assert reader.settled() == {}


def test_rows_of_a_relay_that_was_silent_for_a_day_are_not_unsettled_any_more(
    server: Mongod, client: Client, database: str, reader: MongoLogReader
) -> None:
    killed_relay(server, database, "door")
    assert len(reader.unsettled(limit=ALL)) == 5
    back = [{"$set": {"touched": {"$subtract": ["$touched", 86_400_000]}}}]
    client[database].relays.update_many({}, back)
    assert reader.unsettled(limit=ALL) == []


def test_a_log_that_was_dropped_reads_as_settled_below_what_was_read_from_it(
    client: Client, database: str, log: MongoEventLog, reader: MongoLogReader
) -> None:
    (first,) = log.append(some(0, 1), source="door")
    watermark = reader.settled()
    client.drop_database(database)
    assert reader.settled() == {}
    assert everything(reader) == reader.unsettled(limit=ALL) == reader.conflicts() == []
    (again,) = log.append(some(0, 1), source="door")
    assert again.outcome is Outcome.NEW
    assert again.position.relay != first.position.relay
    assert reader.settled() == {again.position.relay: again.position.number}
    assert watermark.keys().isdisjoint(reader.settled())
    # Its indexes are there again too.
    assert reader.scan(Selection(user_id="ada", bindings=("#",)), limit=ALL) == everything(reader)


def test_a_relay_that_runs_while_an_old_copy_is_put_back_never_gives_a_position_again(
    client: Client, database: str, log: MongoEventLog, reader: MongoLogReader
) -> None:
    log.append(some(0, 2), source="door")
    copy = {name: list(client[database][name].find()) for name in ("relays", "events", "keys")}
    given = {answer.position for answer in log.append(some(2, 4), source="door")}
    watermark = reader.settled()
    for name, rows in copy.items():
        client[database][name].delete_many({})
        client[database][name].insert_many(rows)
    answers = log.append([sealed(2, key=KEYS[1]), *some(4, 6)], source="door")
    assert outcomes(answers) == ["new"] * 3
    assert given.isdisjoint(answer.position for answer in answers)
    ((relay, settled),) = watermark.items()
    assert reader.settled()[relay] < settled
    assert len(reader.scan(Selection(bindings=("#",)), limit=ALL)) == 5


def test_a_log_of_which_only_the_events_were_put_back_keeps_their_places_to_them(
    client: Client, database: str, log: MongoEventLog, reader: MongoLogReader
) -> None:
    log.append(some(0, 3), source="door")
    before = everything(reader)
    client[database].relays.delete_many({})
    log.append(some(3, 6), source="door")
    assert everything(reader)[:3] == before
    assert len(everything(reader)) == 6


def test_a_log_that_nobody_has_written_yet_is_empty(reader: MongoLogReader) -> None:
    assert everything(reader) == []
    assert reader.count(Selection(kind="workout.completed")) == 0
    assert reader.settled() == {}
    assert reader.get(sealed(1).id) is None


def test_one_reader_serves_many_threads(log: MongoEventLog, reader: MongoLogReader) -> None:
    log.append(some(0, 50), source="door")

    def read(number: int) -> bool:
        row = reader.get(sealed(number % 50).id)
        return row is not None and row.place <= max(of.place for of in everything(reader))

    with ThreadPoolExecutor(8) as threads:
        assert all(threads.map(read, range(200)))


def test_a_server_that_is_away_is_an_outage_for_readers_and_relays(
    server: Mongod, log: MongoEventLog, reader: MongoLogReader
) -> None:
    log.append(some(0, 1), source="door")
    server.kill()
    try:
        with pytest.raises(Outage):
            reader.settled()
        with pytest.raises(Outage):
            log.append(some(1, 2), source="door")
    finally:
        server.start()
    assert outcomes(log.append(some(0, 2), source="door")) == ["duplicate", "new"]


def test_a_standalone_is_refused_with_a_line_that_says_what_to_do(tmp_path: Path) -> None:
    alone = Mongod(tmp_path, replica_set=None)
    alone.start()
    try:
        for url in (f"mongodb://127.0.0.1:{alone.port}", alone.url):
            with pytest.raises(PacelineError, match="standalone") as refused:
                connect(url)
            assert "mongod --replSet rs0" in str(refused.value)
            assert "rs.initiate()" in str(refused.value)
        with pytest.raises(PacelineError, match=r"not in the replica set.*rs\.initiate"):
            connect(f"mongodb://127.0.0.1:{alone.port}/?replicaSet=rs0")
    finally:
        alone.kill()


@pytest.mark.parametrize(
    "url",
    ["mongodb://ada:se/cret@here", "mongodb://ada:se@cret@here", "http://ada:secret@here", ""],
)
def test_a_wrong_url_is_told_without_the_password(url: str) -> None:
    with pytest.raises(PacelineError, match="percent-encoded") as refused:
        connect(url)
    assert "cret" not in str(refused.value)
    assert refused.value.__suppress_context__


def test_a_wrong_password_is_told_and_not_shown(server: Mongod) -> None:
    with pytest.raises(PacelineError, match="Check the user") as refused:
        connect(f"mongodb://ada:secret@127.0.0.1:{server.port}/?replicaSet=rs0")
    assert not isinstance(refused.value, Outage)
    assert "secret" not in str(refused.value)


def test_where_nobody_listens_is_an_outage(tmp_path: Path) -> None:
    with pytest.raises(Outage, match="Connection refused"):
        connect(f"mongodb://127.0.0.1:{Mongod(tmp_path).port}")


def test_databases_are_named_after_the_consumer_and_the_urls_own_database() -> None:
    def name(url: str, consumer: str | None = None) -> str:
        with pymongo.MongoClient[dict[str, Any]](url, connect=False) as client:
            return database_name(client, consumer)

    assert name("mongodb://here") == "paceline"
    assert name("mongodb://here", "calories") == "paceline-calories"
    assert name("mongodb://here/staging") == "staging"
    assert name("mongodb://here/staging", "calories") == "staging-calories"
    with pytest.raises(PacelineError, match="authSource=admin"):
        name("mongodb://here/admin")
    with pytest.raises(PacelineError, match="63 bytes"):
        name("mongodb://here", "x" * 60)
