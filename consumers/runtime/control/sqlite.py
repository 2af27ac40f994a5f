"""The requests in the one SQLite file that all processes of an installation write."""

import json
import time
from pathlib import Path
from typing import Any

from consumers.runtime.control import Request, RequestState
from events.sqlite import connect, fetch, fetch_one, make, writing

_SCHEMA = """
CREATE TABLE IF NOT EXISTS requests (
    id INTEGER PRIMARY KEY AUTOINCREMENT, consumer TEXT NOT NULL, verb TEXT NOT NULL,
    arguments TEXT NOT NULL, state TEXT NOT NULL, done INTEGER NOT NULL, total INTEGER NOT NULL,
    memory TEXT NOT NULL, answer TEXT NOT NULL, asked_at REAL NOT NULL, ended_at REAL);
CREATE INDEX IF NOT EXISTS requests_open ON requests (consumer, state);
"""
_COLUMNS = "id, consumer, verb, arguments, state, done, total, memory, answer, asked_at"


class SqliteControl:
    """The requests of one installation."""

    def __init__(self, path: Path) -> None:
        """Open or make the file; many processes may."""
        self._db = connect(path)
        self._what = f"control file {path}"
        make(self._db, _SCHEMA, self._what)

    def ask(self, consumer: str, verb: str, arguments: dict[str, Any]) -> Request:
        """Write a request; one that is the same and still open is joined instead."""
        text = json.dumps(arguments, sort_keys=True)
        with writing(self._db, self._what):
            same = fetch_one(
                self._db,
                "SELECT id FROM requests WHERE consumer = ? AND verb = ? AND arguments = ?"
                " AND state IN ('waiting', 'running')",
                (consumer, verb, text),
            )
            if same is None:
                row = (consumer, verb, text, RequestState.WAITING, 0, 0, "{}", "{}", time.time())
                sql = f"INSERT INTO requests ({_COLUMNS[4:]}) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)"
                self._db.execute(sql, row)
                same = self._db.last_insert_rowid()
        return self.get(int(same))

    def get(self, request_id: int) -> Request:
        """Return a request; raises LookupError where there is none."""
        rows = fetch(self._db, f"SELECT {_COLUMNS} FROM requests WHERE id = ?", (request_id,))
        if not rows:
            raise LookupError(f"There is no operation {request_id}.")
        return _request(*rows[0])

    def listed(self, *, limit: int = 100) -> list[Request]:
        """Return the newest requests, newest first."""
        sql = f"SELECT {_COLUMNS} FROM requests ORDER BY id DESC LIMIT ?"
        return [_request(*row) for row in fetch(self._db, sql, (limit,))]

    def open(self, consumer: str) -> list[Request]:
        """Return what a consumer's worker has to do, oldest first."""
        sql = (
            f"SELECT {_COLUMNS} FROM requests WHERE consumer = ?"
            " AND state IN ('waiting', 'running') ORDER BY id"
        )
        return [_request(*row) for row in fetch(self._db, sql, (consumer,))]

    def report(
        self, request_id: int, *, done: int, total: int, memory: dict[str, Any] | None = None
    ) -> bool:
        """Write progress; return False where the request was cancelled meanwhile."""
        with writing(self._db, self._what):
            self._db.execute(
                "UPDATE requests SET state = 'running', done = ?, total = ?, memory = ?"
                " WHERE id = ? AND state IN ('waiting', 'running')",
                (done, total, json.dumps(memory or {}), request_id),
            )
            return bool(self._db.changes())

    def finish(self, request_id: int, *, answer: dict[str, Any], failed: bool = False) -> None:
        """Write how it ended, unless it was cancelled before; what ended well is all done."""
        state = RequestState.FAILED if failed else RequestState.DONE
        done = "done" if failed else "total"
        with writing(self._db, self._what):
            self._db.execute(
                f"UPDATE requests SET state = ?, answer = ?, ended_at = ?, done = {done}"
                " WHERE id = ? AND state IN ('waiting', 'running')",
                (state, json.dumps(answer), time.time(), request_id),
            )

    def cancel(self, request_id: int) -> bool:
        """End a request that is still open; its owner stops at its next step."""
        with writing(self._db, self._what):
            self._db.execute(
                "UPDATE requests SET state = 'cancelled', ended_at = ?"
                " WHERE id = ? AND state IN ('waiting', 'running')",
                (time.time(), request_id),
            )
            return bool(self._db.changes())

    def close(self) -> None:
        """Let the file go."""
        self._db.close()


def _request(number: int, consumer: str, verb: str, arguments: str, *rest: Any) -> Request:
    state, done, total, memory, answer, asked_at = rest
    return Request(
        number,
        consumer,
        verb,
        json.loads(arguments),
        RequestState(state),
        done,
        total,
        json.loads(memory),
        json.loads(answer),
        asked_at,
    )
