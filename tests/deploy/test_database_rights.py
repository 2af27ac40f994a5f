"""What each user of the database may do, and what it refuses: no more than its work needs."""

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pymongo
import pytest
from pymongo.errors import OperationFailure, ServerSelectionTimeoutError

from consumers.runtime.control.mongo import MongoControl
from consumers.runtime.mongo_readers import drop
from consumers.runtime.store import Commit, Lead, Store, Written
from consumers.runtime.store.mongo import MongoStore
from consumers.runtime.store.mongo_reader import MongoStoreReader
from events.envelope import Sealed, seal
from events.errors import PacelineError
from events.log.mongo import MongoEventLog
from events.log.mongo_reader import MongoLogReader
from events.mongo import Client, connect, database_name
from tests.deploy.place import CONSUMERS, prepare
from tests.deploy.servers import Database
from tests.factories import event, workout
from tests.integration.world import ACCEPTED_AT

EVERY_CONSUMER = (*CONSUMERS, "recovery")
UNAUTHORIZED = 13
Act = Callable[[Client], object]


@contextmanager
def client_of(database: Database, user: str) -> Iterator[Client]:
    client = connect(database.url_for(user))
    try:
        yield client
    finally:
        client.close()


def refused(database: Database, user: str, act: Act) -> bool:
    """Whether the database says that a user may not; anything else that goes wrong is an error."""
    with client_of(database, user) as client:
        try:
            act(client)
        except OperationFailure as error:
            if error.code != UNAUTHORIZED:
                raise
            return True
        return False


@contextmanager
def store_of(client: Client, consumer: str) -> Iterator[Store]:
    store = MongoStore(client, database_name(client, consumer), f"host:1:{consumer}")
    try:
        yield store
    finally:
        store.leave()
        store.close()


def work(client: Client, consumer: str) -> None:
    """What a worker does: it leads, makes a generation, commits, and swaps it."""
    with store_of(client, consumer) as store:
        assert store.lead() is not Lead.NONE
        for _ in range(2):
            made = store.begin(version=1, code="c", bindings=("#",), indexes={"board": ("rank",)})
            store.commit(made.number, Commit(documents=[Written("ada", 0, b'{"rank":1}')]))
            live = store.live()
            assert live is not None
            if live.number != made.number:
                store.swap(made.number, expected=live.number)


@pytest.mark.parametrize("consumer", EVERY_CONSUMER)
def test_a_consumer_keeps_its_state_and_is_asked(database: Database, consumer: str) -> None:
    with client_of(database, consumer) as client:
        work(client, consumer)
        control = MongoControl(client, database_name(client))
        request = control.ask(consumer, "pause", {})
        assert control.report(request.id, done=1, total=1)
        control.finish(request.id, answer={})
        assert control.get(request.id).ended


def test_the_relay_fills_the_log_and_everybody_reads_it(database: Database) -> None:
    with client_of(database, "relay") as client:
        log = MongoEventLog(client, database_name(client))
        log.append([sealed()], source="outbox")
        log.settle_former("outbox")
    for user in (*EVERY_CONSUMER, "query", "operator"):
        with client_of(database, user) as client:
            reader = MongoLogReader(client, database_name(client))
            assert reader.settled()
            assert reader.get(event().id) is not None


def sealed() -> Sealed:
    return seal(workout(), accepted_at=ACCEPTED_AT)


@pytest.mark.parametrize("consumer", EVERY_CONSUMER)
def test_the_query_process_reads_every_consumer(database: Database, consumer: str) -> None:
    with client_of(database, consumer) as client:
        work(client, consumer)
    with client_of(database, "query") as client:
        reader = MongoStoreReader(client, database_name(client, consumer))
        live = reader.live()
        assert live is not None
        with reader.moment():
            assert reader.documents(live.number).get("ada") == {"rank": 1}


def test_the_operator_asks_and_works_where_no_worker_runs(database: Database) -> None:
    with client_of(database, "operator") as client:
        work(client, "leaderboard")
        assert MongoControl(client, database_name(client)).ask("leaderboard", "resume", {})


def test_the_operator_takes_a_consumers_state_away(database: Database) -> None:
    with client_of(database, "recovery") as client:
        work(client, "recovery")
    with client_of(database, "operator") as client:
        assert drop(client, database_name(client, "recovery"))
        assert not drop(client, database_name(client, "recovery"))


def test_a_worker_ends_what_another_one_of_its_consumer_has_begun(database: Database) -> None:
    with client_of(database, "calories") as dead, client_of(database, "calories") as taker:
        mine = dead["paceline-calories"]
        mine.marks.update_one({"_id": "held"}, {"$set": {"value": "0"}}, upsert=True)
        with dead.start_session() as session:
            session.start_transaction()
            mine.marks.update_one({"_id": "held"}, {"$set": {"value": "1"}}, session=session)
            taker.admin.command("killSessions", [session.session_id])
            held = {"_id": "held", "value": "0"}
            found = taker["paceline-calories"].marks.find_one_and_delete(held)
            assert found == held


def insert(database_of: str, collection: str) -> Act:
    return lambda client: client[database_of][collection].insert_one({"forged": True})


def read(database_of: str, collection: str) -> Act:
    return lambda client: client[database_of][collection].find_one()


REFUSED: list[tuple[str, str, Act]] = [
    ("relay", "read a consumer's state", read("paceline-calories", "generations")),
    ("relay", "write a consumer's state", insert("paceline-calories", "marks")),
    ("relay", "drop the log's database", lambda client: client.drop_database("paceline")),
    ("calories", "write the log", insert("paceline", "events")),
    ("calories", "settle the log", insert("paceline", "relays")),
    ("calories", "drop the log", lambda client: client.paceline.events.drop()),
    ("calories", "read another's state", read("paceline-leaderboard", "generations")),
    ("calories", "write another's state", insert("paceline-leaderboard", "marks")),
    ("calories", "forget requests", lambda client: client.paceline.requests.delete_many({})),
    ("calories", "see the users", lambda client: client.admin.command("usersInfo", 1)),
    ("query", "write a consumer's state", insert("paceline-calories", "marks")),
    ("query", "write the log", insert("paceline", "events")),
    ("query", "ask for anything", insert("paceline", "requests")),
    ("operator", "write the log", insert("paceline", "events")),
    ("operator", "make users", lambda client: client.admin.command("createUser", "x", roles=[])),
]


@pytest.mark.parametrize(("user", "what", "act"), REFUSED, ids=[f"{u}: {w}" for u, w, _ in REFUSED])
def test_a_user_may_not(database: Database, user: str, what: str, act: Act) -> None:
    assert refused(database, user, act), f"{user} may {what}"


def test_nobody_without_a_password_may_do_anything(database: Database) -> None:
    with pymongo.MongoClient[dict[str, Any]](database.door) as client:
        with pytest.raises(OperationFailure):
            client.paceline.events.find_one()
        with pytest.raises(OperationFailure):
            client.admin.command("createUser", "mallory", pwd="x", roles=["root"])


def test_a_wrong_password_is_told_in_one_line(database: Database) -> None:
    right = database.url_for("relay")
    wrong = right.replace(right.partition("://")[2].partition("@")[0], "relay:wrong")
    with pytest.raises(PacelineError, match="Check the user, the password"):
        connect(wrong)


def test_it_is_set_up_again_without_harm_and_with_new_passwords(
    database: Database, prepared: Path
) -> None:
    users = prepared / "mongodb.json"
    before = users.read_text()
    changed = json.loads(before)
    (query,) = (user for user in changed["users"] if user["user"] == "query")
    query["pwd"] = "another"
    try:
        users.write_text(json.dumps(changed))
        database.set_up()
        with pytest.raises(PacelineError):
            connect(database.url_for("query"))
    finally:
        users.write_text(before)
        database.set_up()
    connect(database.url_for("query")).close()


@pytest.mark.parametrize("option", ["", "tls=true", "tls=true&tlsCAFile={other}/ca.crt"])
def test_a_server_whose_certificate_is_not_checked_is_not_spoken_to(
    database: Database, tmp_path: Path, option: str
) -> None:
    other = prepare(tmp_path / "secrets")
    url = f"mongodb://localhost:{database.port}/?{option.format(other=other)}"
    client = pymongo.MongoClient[dict[str, Any]](
        url, serverSelectionTimeoutMS=700, connectTimeoutMS=700
    )
    with client, pytest.raises(ServerSelectionTimeoutError):
        client.admin.command("ping")
