"""The consumer contract, and nothing else: what a team writes, and what the platform hands it.

It is structural: a consumer imports nothing of this. The docstrings are the contract.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any, Protocol

from events.envelope import Event

Document = dict[str, Any]


class Projection(Protocol):
    """Folds events into documents.

    `name` is a-z, 0-9 and `-`, and the stem of its file; `bindings` are topic patterns; `version`
    is raised when the fold changes, and the platform rebuilds. `keys` and `fold` are pure: no
    clock, no I/O, no randomness, and the documents do not depend on the order of arrival. A
    document is JSON of whole numbers, text, lists and objects, and under 1 MiB.

    Optional: `indexes`, index name -> top-level fields of a document, `-field` for descending;
    `reads`, URI template -> `(documents, query) -> JSON`, where LookupError is a 404 and ValueError
    a 422; `since`, "now" or a time with an offset: what was accepted before is not for it; and
    `react(event, before, after)`, pure too, which yields `(key, fact)` for what newly holds, given
    the documents of `keys` before and after the fold. A fact is a mapping with its `type`, such as
    achievement.unlocked; under one key of one person the first one stands, and later ones are not
    published.
    """

    @property
    def name(self) -> str:
        """The name: the stem of its file."""

    @property
    def bindings(self) -> Sequence[str]:
        """The topic patterns of the events it takes."""

    @property
    def version(self) -> int:
        """The version of its fold."""

    def keys(self, event: Event) -> Iterable[str]:
        """Return the keys of the documents that this event touches."""

    def fold(self, event: Event, documents: dict[str, Document]) -> None:
        """Fold one event into its documents, in place; one that is new is an empty object."""


class Handler(Protocol):
    """Talks to the outside world: `handle` is called at least once for each event.

    `event.id` is the key by which the other end knows that it comes again. An exception is a
    failure: with a true attribute `permanent` for good, with `retry_after_s` not tried again
    sooner, and with a true `pause` the whole consumer stands still, and this event is not to blame.
    What was accepted before it arrived is not for it. It has one state for ever: a raised version
    sends nothing again, and other bindings need another name.

    Optional: `concurrency`, how many calls at once (1), from that many threads; `deadline_s`, how
    long one may take (10); `ladder_s`, the waits between attempts; and a true `history`, where it
    is called for facts of history too, which notify nobody.
    """

    @property
    def name(self) -> str:
        """The name: the stem of its file."""

    @property
    def bindings(self) -> Sequence[str]:
        """The topic patterns of the events it takes."""

    @property
    def version(self) -> int:
        """The version of its code."""

    def handle(self, event: Event) -> None:
        """Do what is to be done for one event; returning says that it is done."""


class Documents(Protocol):
    """What a read sees of its consumer's documents: one moment of them."""

    def get(self, key: str) -> Document | None:
        """Return the document of a key, or None."""

    def range(
        self, first: str, last: str, *, limit: int | None = None
    ) -> list[tuple[str, Document]]:
        """Return keys and documents with first <= key <= last, in the order of the keys' bytes."""

    def listed(
        self,
        index: str,
        equals: Sequence[Any] = (),
        *,
        limit: int,
        after: str | None = None,
        skip: int = 0,
    ) -> tuple[list[tuple[str, Document]], str | None]:
        """Return a page of an index, and the cursor of the next page or None.

        `equals` are the values of the index's leading fields, `skip` how many entries are passed
        over. Documents that lack a field of the index are not in it. Raises ValueError for a cursor
        that is not of this index.
        """

    def before(self, index: str, equals: Sequence[Any], values: Sequence[Any]) -> int:
        """Count the entries with these leading fields that sort before `values` of the next."""


class Query(Protocol):
    """The parameters of a read, from the path and the query string; `now` is aware and UTC."""

    now: datetime

    def __getitem__(self, name: str) -> str:
        """Return a parameter; raises KeyError where it was not given."""

    def get(self, name: str, default: Any = None) -> Any:
        """Return a parameter, or the default."""


Read = Callable[[Documents, Query], Any]
Reads = Mapping[str, Read]
