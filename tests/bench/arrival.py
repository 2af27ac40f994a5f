"""What others feel while a new consumer folds a long history, and whether it then has all of it.

A stretch of posts without an arrival and one in the middle of an arrival are a pair. Each arrival
is a file that is dropped in under a new name, and taken away when it was looked at.
"""

import json
import os
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from itertools import count
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import quote

from consumers.runtime.fates import State
from consumers.runtime.ways import readers
from events.errors import Outage
from events.log.sqlite_reader import SqliteLogReader
from events.settings import Settings, read_settings
from tests.acceptance.platform import BUILT_IN, Platform, until
from tests.bench.delay import READERS, WARM_S
from tests.bench.figures import Figure, Say, Void
from tests.bench.newcomer import NEWCOMER, Accepted
from tests.bench.real.servers import servers
from tests.bench.running import temporary_folder
from tests.bench.scale import Scale
from tests.bench.watched import Seen, Watched

AT_MOST = 1.3
_WITHIN_S = 900.0
_PAGE, _MEANWHILE = 200, 1_000


class Pair(NamedTuple):
    """What people saw without and during an arrival, how long that took, and what it has wrong."""

    without: Seen
    during: Seen
    took_s: float
    wrong: int


class Arrivals:
    """A platform that runs, what it has accepted, and newcomers to it, one after the other."""

    def __init__(
        self, platform: Platform, settings: Settings, accepted: Accepted, say: Say
    ) -> None:
        self.platform, self.accepted, self._say = platform, accepted, say
        self._stores = readers(settings)
        self._numbers, self._labels = count(1), count(1)

    def stretch(self, seconds: float) -> Seen:
        """Post for so long; return what was seen of it."""
        with ThreadPoolExecutor(READERS) as threads:
            load = Watched(self.platform, f"live{next(self._labels)}", threads)
            with load:
                load.go_on(seconds)
            seen = load.seen()
        self.accepted.add(load.posts)
        return seen

    def drop_in(self) -> str:
        """Bring a new file, and return its name when it is in the middle of its arrival."""
        name = f"newcomer-{next(self._numbers)}"
        file, new = self._file(name), self.platform.folder / "new"
        new.write_text(NEWCOMER.replace("NAME", name))
        new.rename(file)
        self.until_applied(name, 1)
        return name

    def until_applied(self, name: str, least: int) -> None:
        """Return when a consumer has applied so many events."""
        until(
            lambda: self._applied(name) >= least,
            what=f"{name} has applied {least:,} events",
            within_s=_WITHIN_S,
            every_s=0.1,
        )

    def _applied(self, name: str) -> int:
        """Ask its store, because asking the query process would be what is measured."""
        try:
            store = self._stores.store(name)
            live = store.live() if store else None
            return int(store.counts(live.number)[State.APPLIED]) if store and live else 0
        except Outage:
            return 0  # it is just being made

    def check_arriving(self, name: str) -> None:
        """Raise Void unless a part of the history is still ahead."""
        if self._applied(name) >= self.accepted.count:
            raise Void(f"{name} had arrived before all was measured; take a longer history.")

    def kill(self, name: str) -> None:
        """End its worker in the middle of its arrival, without any goodbye."""
        self.until_applied(name, self.accepted.count // 4)
        self.platform.kill(name)
        self.check_arriving(name)

    def wrong(self, name: str) -> int:
        """Return how many documents or fates of one that has arrived are not what they must be."""
        (audit,) = json.loads(self.platform.command("audit", "--consumer", name, "--json"))
        row = audit["audited"][-1]
        others = sum(row[fate] for fate in ("pending", "retrying", "dead", "discarded"))
        found, expected = self._documents(name), self.accepted.documents
        differ = [key for key in found.keys() | expected if found.get(key) != expected.get(key)]
        wrong: int = len(differ) + abs(row["applied"] - self.accepted.count) + others
        if wrong:
            self._say(f"arrival: {name} is WRONG: {row}; {len(differ)} documents, {differ[:3]}")
        return wrong

    def _documents(self, name: str) -> dict[str, Any]:
        found, cursor = dict[str, Any](), ""
        while True:
            path = f"/v1/consumers/{name}/documents?limit={_PAGE}{cursor}"
            page = self.platform.read(path)
            found |= {item["key"]: item["document"] for item in page["items"]}
            if page["next"] is None:
                return found
            cursor = f"&cursor={quote(page['next'])}"

    def take_away(self, name: str) -> None:
        """Take its file away, and return when its worker has ended."""
        self._file(name).unlink()
        until(lambda: name not in self.platform.processes(), what=f"{name} has ended")

    def _file(self, name: str) -> Path:
        return self.platform.plugins / f"{name}.py"


@contextmanager
def _running(folder: Path, accepted: Accepted, say: Say, **urls: Any) -> Iterator[Arrivals]:
    """A platform, when it accepts; `running` would make a folder of its own, without history."""
    platform = Platform(folder, parent_pid=os.getpid(), **urls)
    try:
        platform.launch("run")
        platform.wait_until_accepting()
        settings = replace(read_settings(), data_dir=folder, plugins=platform.plugins, **urls)
        yield Arrivals(platform, settings, accepted, say)
        platform.stop()
    finally:
        platform.close()


def measure(scale: Scale, say: Say) -> list[Figure]:
    """Measure pairs on files; kill one that arrives there, and one that does on servers."""
    try:
        with temporary_folder() as folder:
            return [*_on_files(folder / "files", scale, say), *_on_servers(folder, scale, say)]
    except AssertionError as error:
        raise Void(f"It did not come as far as to be measured: {error}") from error


def _on_files(folder: Path, scale: Scale, say: Say) -> list[Figure]:
    accepted = Accepted()
    accepted.log(folder / "log.db", scale.arrival_events)
    with _running(folder, accepted, say) as arrivals:
        _until_quiet(arrivals, folder / "log.db", scale)
        arrivals.stretch(WARM_S)
        pairs = [_pair(arrivals, scale, say) for _ in range(scale.pairs)]
        killed = _killed(arrivals, say)
    return [
        *_figures(pairs),
        _none_wrong("wrong documents or fates after them", sum(pair.wrong for pair in pairs)),
        _none_wrong("the same, killed on its way", killed),
    ]


def _on_servers(folder: Path, scale: Scale, say: Say) -> list[Figure]:
    accepted = Accepted()
    with servers(folder / "servers") as running:
        urls = {"broker_url": running.rabbitmq.new_vhost(), "store_url": running.new_store_url()}
        with _running(folder / "distributed", accepted, say, **urls) as arrivals:
            accepted.post(arrivals.platform, "past", scale.arrival_posted)
            arrivals.until_applied(BUILT_IN[0], scale.arrival_posted)  # so all is logged
            return [_none_wrong("the same, killed, on servers", _killed(arrivals, say))]


def _until_quiet(arrivals: Arrivals, log: Path, scale: Scale) -> None:
    """Return when the built-in consumers have arrived, and what follows from history is logged."""
    for name in BUILT_IN:
        arrivals.until_applied(name, scale.arrival_events)
    reader = SqliteLogReader.open(log)

    def is_quiet() -> bool:
        before = reader.settled()
        time.sleep(scale.settle_s)
        return before == reader.settled()

    until(is_quiet, what="nothing more is logged", within_s=_WITHIN_S)
    reader.close()


def _pair(arrivals: Arrivals, scale: Scale, say: Say) -> Pair:
    without = arrivals.stretch(scale.paced_s)
    dropped_at = time.monotonic()
    name = arrivals.drop_in()
    during = arrivals.stretch(scale.paced_s)
    arrivals.check_arriving(name)
    arrivals.until_applied(name, arrivals.accepted.count)
    pair = Pair(without, during, time.monotonic() - dropped_at, arrivals.wrong(name))
    arrivals.take_away(name)
    say(f"arrival: {name} took {pair.took_s:.0f} s; without {without}, during {during}")
    return pair


def _killed(arrivals: Arrivals, say: Say) -> int:
    name = arrivals.drop_in()
    arrivals.kill(name)
    arrivals.accepted.post(arrivals.platform, name, _MEANWHILE)
    arrivals.until_applied(name, arrivals.accepted.count)
    wrong = arrivals.wrong(name)
    arrivals.take_away(name)
    say(f"arrival: {name} was killed on its way; {wrong} documents or fates are wrong")
    return wrong


def _figures(pairs: Sequence[Pair]) -> list[Figure]:
    def figure(what: str, of: Callable[[Seen], float], at_most: float | None = None) -> Figure:
        return Figure(
            part="arrival",
            what=what,
            unit="ms",
            values=[of(pair.during) for pair in pairs],
            against="without",
            bare=[of(pair.without) for pair in pairs],
            at_most=at_most,
        )

    return [
        figure("readable during an arrival, p99", lambda seen: seen.p99_ms, AT_MOST),
        figure("the same, p50", lambda seen: seen.p50_ms),
        figure("posts sent too late, p99", lambda seen: seen.late_ms),
        Figure(
            part="arrival",
            what="an arrival, from its file on",
            unit="s",
            values=[pair.took_s for pair in pairs],
        ),
    ]


def _none_wrong(what: str, count: int) -> Figure:
    return Figure(part="arrival", what=what, unit="", values=[count], at_most=0)
