"""A platform in memory, for tests: it routes, folds and tells as the real one, without a server."""

import json
from collections.abc import Iterator, Mapping
from datetime import datetime
from hashlib import sha256
from typing import Any

from consumers import Document
from consumers.answering import answered
from consumers.generated import event as workout_event
from consumers.memory_bus import MemoryBus
from consumers.memory_consumer import MemoryConsumer
from consumers.runtime.shape import problems
from consumers.trying import NotConforming
from events.envelope import Event, Sealed, enclose, encode_fact, from_bytes, seal
from events.log import Appended, Outcome, Position
from events.workouts import WorkoutCompleted

_RELAY = "memory"


class MemoryPlatform:
    """Consumers and the events that they were sent; each call returns when all is quiet.

    What a consumer raises comes through once all others have had their turn; the event stays
    without a fate for that one consumer, and `replay` brings it again.
    """

    def __init__(self) -> None:
        self._bus = MemoryBus()
        self._members: dict[str, MemoryConsumer] = {}
        self._log: dict[str, tuple[bytes, Appended]] = {}
        self._told: list[str] = []
        self._acting = False

    def add(self, consumer: Any) -> None:
        """Let a consumer join; a projection has the whole past at once, a handler what comes.

        One that is there already is replaced by one with a higher version: a projection is filled
        anew, a handler goes on. Raises NotConforming for a wrong shape.
        """
        name = str(getattr(consumer, "name", ""))
        if wrong := "; ".join(problems(name, consumer)):
            raise NotConforming(f"{name}: {wrong}.")
        former = self._members.get(name)
        if former and former.consumer.version >= consumer.version:
            version = former.consumer.version
            raise NotConforming(f"{name} is there in version {version}; raise its version.")
        queue = self._bus.subscribe(name, consumer.bindings)
        member = MemoryConsumer(
            consumer, queue, arrived=former.arrived if former else len(self._log)
        )
        self._members[name] = member
        if member.handles:
            member.had = former.had if former else set()
        else:
            self._bus.send(name, self._logged())
        self._carry()

    def post(self, *, accepted_at: datetime | None = None, **posted: Any) -> Event:
        """Post a workout and return its event; fields are named as on HTTP.

        What is not said is of a run of half an hour by ada, each with an id of its own. Raises
        InvalidWorkout, as the door would.
        """
        posted.setdefault("workout_id", f"w-{len(self._log) + 1}")
        return self.send(workout_event(accepted_at, **posted))

    def send(self, event: Event) -> Event:
        """Send an event; one that was sent before changes nothing.

        Raises ValueError where its id was sent with another fact: the door answers that with 409.
        """
        sealed = _sealed(event)
        if sealed.id in self._log and self._log[sealed.id][0] != sealed.digest:
            raise ValueError(
                f"Event {sealed.id} was sent before with another fact; give it another workout_id."
            )
        self._append(sealed)
        self._carry()
        return event

    def _append(self, sealed: Sealed) -> None:
        """Log what is new, and publish the log's own bytes, for what is not new too."""
        if sealed.id not in self._log:
            key = from_bytes(sealed.body).routing_key
            at = Position(_RELAY, len(self._log) + 1)
            logged = Appended(Outcome.NEW, at, key, sealed.body)
            self._log[sealed.id] = (sealed.digest, logged)
        self._bus.publish([self._log[sealed.id][1]])

    def _logged(self) -> list[Appended]:
        return [logged for _, logged in self._log.values()]

    def _carry(self) -> None:
        """Let every consumer take what its queue has, and what follows, until all is quiet."""
        failed: list[Exception] = []
        went_on = True
        while went_on:
            taken = [self._take(member, failed) for member in self._members.values()]
            went_on = any(taken)
        if len(failed) == 1:
            raise failed[0]
        if failed:
            raise ExceptionGroup(f"{len(failed)} events failed", failed)

    def _take(self, member: MemoryConsumer, failed: list[Exception]) -> bool:
        batch = next(member.queue.batches())
        for delivery in batch.deliveries:
            try:
                for fact in member.take(delivery, act=self._acting):
                    if fact.id not in self._log:
                        self._told.append(fact.id)
                    self._append(fact)
            except Exception as error:  # noqa: BLE001  # raised again, after the others' turn
                event_id = from_bytes(delivery.body).id
                error.add_note(f"{member.consumer.name} had event {event_id}.")
                failed.append(error)
        member.queue.ack(batch)
        return bool(batch.deliveries)

    @property
    def facts(self) -> list[Event]:
        """The facts that consumers told, in their order, as other consumers get them."""
        return [from_bytes(self._log[event_id][1].body) for event_id in self._told]

    def documents(self, name: str) -> dict[str, Document]:
        """Return the documents of a consumer by key."""
        return self._member(name).documents()

    def _member(self, name: str) -> MemoryConsumer:
        if name not in self._members:
            known = ", ".join(self._members) or "none"
            raise LookupError(f"There is no consumer {name!r} here; there are: {known}.")
        return self._members[name]

    def assert_documents(self, name: str, expected: Mapping[str, Document]) -> None:
        """Raise AssertionError that names each document and field that is not as expected."""
        __tracebackhide__ = True
        lines = list(_differences(self.documents(name), expected))
        if lines:
            raise AssertionError("\n  ".join([f"{name} has other documents:", *lines]))

    def read(self, path: str, *, now: datetime | None = None) -> Any:
        """Return what a client gets for a path such as "/users/ada/rest?from=2026-11-01".

        LookupError (404, also where no consumer has such a read) and ValueError (422) come through.
        """
        for member in self._members.values():
            found = answered(member.consumer, path, member.documents(), now=now)
            if found is not None:
                return found[0]
        raise LookupError(f"No consumer here has a read for {path!r}.")

    def replay(self, name: str | None = None, *, act: bool = False) -> None:
        """Bring everything again, to one or to all; what a consumer has had it does not get.

        With `act`, handlers also get what was sent before they came.
        """
        for one in [name] if name else list(self._members):
            self._member(one)
            self._bus.send(one, self._logged())
        self._acting = act
        try:
            self._carry()
        finally:
            self._acting = False

    def rebuild(self, name: str) -> None:
        """Fold the whole past of a projection anew, into documents that are empty at first."""
        member = self._member(name)
        if member.handles:
            raise ValueError(f"{name} is a handler; it keeps no documents to rebuild.")
        member.stored, member.had = {}, set()
        self.replay(name)


def _sealed(event: Event) -> Sealed:
    if isinstance(event.data, WorkoutCompleted):
        return seal(event.data, accepted_at=event.accepted_at)
    body = enclose(
        encode_fact(event.data),
        event_id=event.id,
        kind=event.type,
        user_id=event.user_id,
        time=event.time,
        accepted_at=event.accepted_at,
        routing_key=event.routing_key,
        hops=event.hops,
    )
    return Sealed(event.id, sha256(event.id.encode()).digest(), body)


def _differences(found: Mapping[str, Document], expected: Mapping[str, Document]) -> Iterator[str]:
    for key in sorted(found.keys() | expected.keys()):
        if key not in found:
            yield f"{key!r} is missing: {json.dumps(expected[key])}"
        elif key not in expected:
            yield f"{key!r} is not expected: {json.dumps(found[key])}"
        else:
            for field in sorted(found[key].keys() | expected[key].keys()):
                is_, be = (one[key].get(field) for one in (found, expected))
                if is_ != be:
                    yield f"{key!r}: {field} is {json.dumps(is_)}, not {json.dumps(be)}"
