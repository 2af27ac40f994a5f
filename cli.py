"""The composition root: the only place that wires parts together, and the `paceline` command."""

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, suppress
from dataclasses import replace
from functools import cache
from importlib.metadata import version
from threading import Thread
from typing import Any

import click
from flask import Flask

from consumers.commands import audit, consumers, doctor
from consumers.dead_letter_commands import dead_letters
from consumers.operation_commands import operations, rebuild, replay
from consumers.runtime.asking import Check, worker_for
from consumers.runtime.audit import Accepting
from consumers.runtime.control import Control
from consumers.runtime.fates import Ladder
from consumers.runtime.guard import Guard
from consumers.runtime.parts import Parts
from consumers.runtime.query.app import create_query_app
from consumers.runtime.registry import Loaded, Unfit, find, is_replaced, load
from consumers.runtime.runner import Runner
from consumers.runtime.status import Installation
from consumers.runtime.store.sqlite import SqliteStore
from consumers.runtime.supervisor import Supervisor
from consumers.runtime.worker import Limits
from events.bus.embedded import EmbeddedPublisher, EmbeddedSubscription
from events.commands import PacelineGroup, config, events
from events.errors import Outage, PacelineError
from events.greeting import check_port, greet
from events.journal import keep_journal
from events.lock import FileLock
from events.log import LogReader, Watermarks
from events.log.sqlite import SqliteEventLog
from events.log.sqlite_reader import SqliteLogReader, bookmark_in
from events.patience import Patience
from events.process import die_with_supervisor, on_stop, supervised, takeover_s
from events.relay import Relay
from events.serving import THREADS, serve
from events.settings import Settings, read_settings
from producer.app import create_app
from producer.commands import import_
from producer.forwarding import Forwarding
from producer.outbox import Outbox
from producer.outbox_reader import OutboxReader
from producer.outbox_room import Bounds


class Platform:
    """What the commands work with: this machine's installation, embedded."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.installation = Installation(settings)

    def log(self) -> LogReader:
        """Return the event log, for reading; raises Outage where there is none yet."""
        return SqliteLogReader.open(self.settings.log_file)

    def control(self) -> Control:
        """Return the requests."""
        return Control(self.settings.control_file)

    def accepting(self) -> list[Accepting]:
        """Return what each accepting host of this installation remembers."""
        if not self.settings.outbox_file.exists():
            return []
        outbox = OutboxReader(self.settings.outbox_file)
        log = SqliteLogReader.open(self.settings.log_file)
        passed = outbox.passed(log.load(outbox.source_id))
        stuck = frozenset(row.row for row in log.stuck(outbox.source_id))
        return [Accepting(outbox.source_id, passed, stuck, outbox.ids())]

    def worker_for(self, consumer: str) -> AbstractContextManager[Check]:
        """Have somebody do what is asked of a consumer: its worker, or one just for now."""
        return worker_for(self.settings.store_file(consumer), consumer)


def producer_app() -> Flask:
    """Make the producer's application; granian calls it inside the one process that accepts."""
    die_with_supervisor()
    settings = read_settings()
    keep_journal("producer")
    # Made at its first use, because the outbox makes the file, and asks how far the relay is.
    reader = cache(lambda: OutboxReader(settings.outbox_file))

    def passed(source: str) -> int | None:
        with suppress(Outage):
            return reader().passed(bookmark_in(settings.log_file, source))
        return None

    outbox = Outbox(
        settings.outbox_file,
        passed=passed,
        bounds=Bounds(settings.outbox_max_mib << 20, settings.disk_reserve_mib << 20),
        wait_s=takeover_s(),
    )
    forwarding = Forwarding(settings.query_url, seats=THREADS - 4)
    return create_app(
        outbox, reader(), passed=passed, forward=forwarding.forward, host=settings.host
    )


def query_app() -> Flask:
    """Make the query process's application."""
    die_with_supervisor()
    keep_journal("query")
    return create_query_app(read_settings())


def run_relay(settings: Settings, *, again: int | None) -> None:
    """Carry the outbox into the log until stopped."""
    patience = Patience()
    on_stop(patience.stop)
    with FileLock(settings.log_file, wait_s=takeover_s()):
        log = SqliteEventLog(settings.log_file)
        outbox = patience.until_made(lambda: OutboxReader(settings.outbox_file))
        if outbox is None:
            return
        relay = Relay([outbox], log, EmbeddedPublisher(), log, patience=patience)
        if again is not None:
            relay.again(again)
        relay.run()


def run_consumer(settings: Settings, name: str) -> None:
    """Be the worker of one consumer until stopped."""
    found = find(settings.plugins)
    if name not in found:
        known = ", ".join(found)
        raise PacelineError(f"There is no consumer {name!r}; there are: {known}.")
    patience = Patience()
    file = settings.store_file(name)
    with FileLock(file, wait_s=takeover_s()):
        guard = Guard(file.with_suffix(".traceback"), memory_bytes=settings.memory_mib << 20)
        log = patience.until_made(lambda: SqliteLogReader.open(settings.log_file))
        store = SqliteStore(file)
        if store.mark("loading"):
            place, traces = found[name].place, file.with_suffix(".traceback")
            store.set_mark("problem", f"{place} ends or hangs when it is loaded; see {traces}.")
        store.set_mark("loading", "1")
        try:
            with guard.deadline(settings.fold_batch_s):
                loaded = load(found[name])
        except Unfit as unfit:
            store.set_mark("problem", str(unfit))
            raise
        finally:
            store.set_mark("loading", None)
        on_stop(patience.stop)
        if log is not None:
            parts = _parts(settings, loaded, store, log, guard, patience)

            def replaced() -> bool:
                return is_replaced(found[name], loaded) or log.replaced()

            Runner(replace(parts, replaced=replaced)).run()


def _parts(
    settings: Settings,
    loaded: Loaded,
    store: SqliteStore,
    log: LogReader,
    guard: Guard,
    patience: Patience,
) -> Parts:
    def subscribe(bindings: tuple[str, ...], start: Watermarks, suspects: int) -> Any:
        return EmbeddedSubscription(
            log, bindings, start=start, size=settings.batch, suspects=suspects
        )

    return Parts(
        loaded=loaded,
        store=store,
        log=log,
        control=Control(settings.control_file),
        subscribe=subscribe,
        guard=guard,
        limits=Limits(settings.fold_batch_s, settings.fold_alone_s, Ladder(settings.ladder_s)),
        batch=settings.batch,
        patience=patience,
    )


@click.group(cls=PacelineGroup)
@click.version_option(version("paceline"))
@click.pass_context
def main(ctx: click.Context) -> None:
    """Paceline: a posted workout is kept, and every consumer gets it, once.

    \b
    Example:
      paceline run
    """
    die_with_supervisor()
    ctx.obj = Platform(read_settings())


@main.command()
@click.pass_obj
def run(platform: Platform) -> None:
    """Run the whole platform on this machine: producer, relay, consumers, query.

    \b
    Example:
      PACELINE_PORT=9000 paceline run
    """
    settings = platform.settings
    keep_journal("supervisor")
    patience = Patience(least_s=0.05, most_s=0.2)
    on_stop(patience.stop)
    with FileLock(settings.data_dir / "paceline"):
        check_port(settings.host, settings.port, "PACELINE_PORT")
        check_port(settings.host, settings.query_port, "PACELINE_QUERY_PORT")
        settings.plugins.mkdir(parents=True, exist_ok=True)
        Thread(target=greet, args=(settings, patience), daemon=True).start()
        Supervisor(lambda: wanted(settings), patience=patience).run()
    click.echo("Stopped. What was accepted is kept.", err=True)


def wanted(settings: Settings) -> Mapping[str, Sequence[str]]:
    """Return the processes that make the platform, in the order in which they are started."""
    consuming = {f"consume {name}": ("consume", name) for name in find(settings.plugins)}
    return {
        "producer": ("serve", "producer"),
        "relay": ("relay",),
        **consuming,
        "query": ("serve", "query"),
    }


@main.command("serve")
@click.argument("part", type=click.Choice(["producer", "query"]))
@click.pass_obj
def serve_part(platform: Platform, part: str) -> None:
    """Serve one part alone: the producer accepts, the query process answers reads.

    \b
    Example:
      paceline serve producer
    """
    settings = platform.settings
    producing = part == "producer"
    port = settings.port if producing else settings.query_port
    if not supervised():
        check_port(settings.host, port, "PACELINE_PORT" if producing else "PACELINE_QUERY_PORT")
        if producing:
            FileLock(settings.outbox_file, wait_s=takeover_s()).release()
    serve(f"cli:{part}_app", host=settings.host, port=port)


@main.command("relay")
@click.option("--again", type=int, metavar="FROM", help="Read the outbox again from this row on.")
@click.pass_obj
def relay_(platform: Platform, again: int | None) -> None:
    """Carry what was accepted into the event log and on to the exchange.

    \b
    Example, after the log was restored from an old copy:
      paceline relay --again 1
    """
    keep_journal("relay")
    run_relay(platform.settings, again=again)


@main.command()
@click.argument("name")
@click.pass_obj
def consume(platform: Platform, name: str) -> None:
    """Be the worker of one consumer.

    \b
    Example:
      paceline consume calories
    """
    keep_journal(name)
    run_consumer(platform.settings, name)


for command in (import_, events, consumers, replay, rebuild, dead_letters, operations, audit):
    main.add_command(command)
main.add_command(config)
main.add_command(doctor)

if __name__ == "__main__":
    main()
