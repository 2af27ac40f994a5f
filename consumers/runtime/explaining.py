"""Explaining: which events made a document, and whether they still make the same one."""

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from typing import Any

from consumers import Document, Projection
from consumers.runtime.differences import difference
from consumers.runtime.fates import State, reason_of
from consumers.runtime.registry import Loaded
from consumers.runtime.selecting import not_before
from consumers.runtime.store import Generation, StoreReader
from consumers.runtime.what_if import Failure, Trial, pages
from events.envelope import from_bytes
from events.errors import NewerVersion, PacelineError, Undecodable
from events.log import Logged, LogReader, Position, Selection

_AT_ONCE = 1_000
Looked = Callable[[int], object]


@dataclass(slots=True)
class Explanation:
    """A document and what is behind it.

    `events` are applied and name the document, in the order of the log; `others` name it too and
    are not in it, counted by their fates. `document` is what the events make, `live` what is read.
    `failures` are events for which the code could not say whether they name it, or that it could
    not fold now.
    """

    key: str
    live: Document | None = None
    document: Document | None = None
    events: list[Logged] = field(default_factory=list)
    others: dict[str, int] = field(default_factory=dict)
    failures: list[Failure] = field(default_factory=list)

    @property
    def fields(self) -> dict[str, dict[str, Any]]:
        """The fields that differ: live (before) and made again (after)."""
        found = difference(self.key, self.live, self.document)
        return {} if found is None else found.fields


def explain(
    loaded: Loaded,
    key: str,
    log: LogReader,
    store: StoreReader,
    live: Generation,
    *,
    user: str | None = None,
    looked: Looked = lambda count: None,
) -> Explanation:
    """Look through the log, and fold again what made a document; exact while events come in.

    The code cannot say whose document a key is, so without `user` the whole log is looked through;
    `looked` is told of how many events so far. Raises PacelineError where it was rebuilt meanwhile.
    """
    explanation = Explanation(key)
    selection = not_before(Selection(bindings=live.bindings, user_id=user), live.since)
    marks = log.settled()
    naming = _Naming(loaded.consumer, key, explanation.failures)
    count = 0
    for rows in pages(log, selection):
        naming.look(rows)
        count += len(rows)
        looked(count)
    with store.moment():
        now = store.live()
        if now is None or now.number != live.number:
            raise PacelineError(f"{loaded.name} was rebuilt while it was explained; ask again.")
        # All that is applied at this moment is logged: what came in since then may be of it too.
        for rows in _since(log, selection, marks):
            naming.look(rows)
        explanation.live = store.documents(live.number).get(key)
        _sort_by_fate(naming.rows(), explanation, store, live)
    _fold(loaded, explanation)
    return explanation


class _Naming:
    """The rows for which a consumer's `keys` name one document, each once."""

    def __init__(self, consumer: Projection, key: str, failures: list[Failure]) -> None:
        self._consumer, self._key, self._failures = consumer, key, failures
        self._seen: dict[Position, Logged] = {}
        self._failed: set[Position] = set()

    def look(self, rows: list[Logged]) -> None:
        for row in rows:
            try:
                named = self._key in list(self._consumer.keys(from_bytes(row.body)))
            except (Exception, SystemExit) as error:  # noqa: BLE001  # it is shown, by its event
                self._fail(row, error)
            else:
                if named:
                    self._seen[row.position] = row

    def _fail(self, row: Logged, error: BaseException) -> None:
        if row.position in self._failed:
            return
        self._failed.add(row.position)
        ours = isinstance(error, Undecodable | NewerVersion)
        reason = str(error) if ours else reason_of(error)
        self._failures.append(Failure(row.event_id, reason))

    def rows(self) -> list[Logged]:
        return sorted(self._seen.values(), key=lambda row: row.place)


def _since(log: LogReader, selection: Selection, marks: dict[str, int]) -> Iterator[list[Logged]]:
    for relay in log.settled():
        ahead = replace(selection, relay=relay, after=marks.get(relay, 0))
        while rows := log.scan(ahead, limit=_AT_ONCE):
            yield rows
            ahead = replace(ahead, after=rows[-1].position.number)


def _sort_by_fate(
    rows: list[Logged], explanation: Explanation, store: StoreReader, live: Generation
) -> None:
    others: Counter[str] = Counter()
    for start in range(0, len(rows), _AT_ONCE):
        some = rows[start : start + _AT_ONCE]
        fates = store.fates(live.number, [row.position for row in some])
        for row in some:
            fate = fates.get(row.position)
            if fate is not None and fate.state is State.APPLIED:
                explanation.events.append(row)
            else:
                others["pending" if fate is None else str(fate.state)] += 1
    explanation.others = dict(others)


def _fold(loaded: Loaded, explanation: Explanation) -> None:
    trial = Trial(loaded)
    for start in range(0, len(explanation.events), _AT_ONCE):
        trial.take(explanation.events[start : start + _AT_ONCE])
    explanation.document = trial.get(explanation.key)
    explanation.failures += trial.failures
