"""Lag: what a consumer wants and has no fate for yet."""

from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime

from consumers.runtime.fates import State
from consumers.runtime.store import Generation, StoreReader
from events.envelope import read_envelope
from events.log import Logged, LogReader, Selection, Watermarks

_LOOK_AT = 500


def lag_of(
    log: LogReader, store: StoreReader, live: Generation, now: datetime
) -> tuple[int, float | None]:
    """Return how many wanted events have no fate, and how long ago the first was accepted.

    Past a watermark most have none; but what a queue brings has its fate before a sweep was there.
    """
    watermarks = store.watermarks(live.number)
    count, firsts = 0, []
    for selection in _ahead(log, watermarks, live):
        having = _having(store, live, selection)
        count += max(0, log.count(selection) - len(having))
        firsts += _first_without(log, selection, having)
    accepted = [read_envelope(first.body).acceptedat for first in firsts]
    return count, round((now - min(accepted)).total_seconds(), 3) if accepted else None


def _having(store: StoreReader, live: Generation, ahead: Selection) -> dict[int, State]:
    if ahead.relay is None:
        return {}
    return store.rows(live.number, ahead.relay, ahead.after, ahead.through)


def _first_without(log: LogReader, ahead: Selection, having: dict[int, State]) -> list[Logged]:
    while rows := log.scan(ahead, limit=_LOOK_AT):
        for row in rows:
            if row.position.number not in having:
                return [row]
        ahead = replace(ahead, after=rows[-1].position.number)
    return []


def _ahead(log: LogReader, watermarks: Watermarks, live: Generation) -> Iterator[Selection]:
    bindings = live.bindings
    if not watermarks and not live.applied:
        # Counted in an index, however many relays there were.
        yield Selection(bindings=bindings, accepted_from=live.since)
        return
    for relay, settled in log.settled().items():
        after = watermarks.get(relay, 0)
        if after < settled:
            yield Selection(
                bindings=bindings,
                accepted_from=live.since,
                relay=relay,
                after=after,
                through=settled,
            )
