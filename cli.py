"""The composition root: the only place that wires parts together, and the `paceline` command."""

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, suppress
from functools import cache
from importlib.metadata import version
from threading import Thread

import click
from flask import Flask

from consumers.commands import audit, consumers, doctor
from consumers.dead_letter_commands import dead_letters
from consumers.explain_commands import explain
from consumers.operation_commands import operations, replay
from consumers.rebuild_commands import rebuild
from consumers.runtime.asking import Check, worker_for
from consumers.runtime.assembling import assemble
from consumers.runtime.audit import Accepting
from consumers.runtime.control import Control
from consumers.runtime.places import hold, is_served, written
from consumers.runtime.query.app import create_query_app
from consumers.runtime.registry import find
from consumers.runtime.removing import remove
from consumers.runtime.runner import Runner
from consumers.runtime.sending import ToQueue, to_queue
from consumers.runtime.status import Installation
from consumers.runtime.supervisor import Supervisor
from consumers.runtime.ways import (
    fact_sources,
    open_control,
)
from consumers.what_if_commands import what_if
from events.commands import PacelineGroup, config, events
from events.errors import Outage, PacelineError
from events.export_commands import export_events, load_events
from events.greeting import check_port, greet
from events.journal import keep_journal
from events.lock import FileLock
from events.log import LogReader
from events.patience import Patience
from events.process import die_with_supervisor, on_stop, supervised, takeover_s
from events.relay import Relay
from events.serving import THREADS, serve
from events.settings import REPLICATED, Settings, read_settings
from events.sqlite_spool import LoadedSources
from events.ways import bookmark, open_log, publisher, read_log, stuck_rows
from producer.app import create_app
from producer.commands import import_
from producer.forwarding import Forwarding
from producer.outbox import Outbox
from producer.outbox_reader import OutboxReader
from producer.outbox_room import Bounds
from producer.replication import Replication


class Platform:
    """What the commands work with: this installation, as the settings say."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.installation = Installation(settings)

    def log(self) -> LogReader:
        """Return the event log, for reading; raises Outage where there is none yet."""
        return read_log(self.settings)

    def control(self) -> Control:
        """Return the requests."""
        return open_control(self.settings)

    def accepting(self) -> list[Accepting]:
        """Return what each accepting host remembers whose outbox is here."""
        if not self.settings.outbox_file.exists():
            return []
        outbox = OutboxReader(self.settings.outbox_file)
        passed = outbox.passed(bookmark(self.settings, outbox.source_id))
        stuck = stuck_rows(self.settings, outbox.source_id)
        return [Accepting(outbox.source_id, passed, stuck, outbox.ids())]

    def worker_for(self, consumer: str) -> AbstractContextManager[Check]:
        """Have somebody do what is asked of a consumer: its worker, or one just for now."""
        return worker_for(lambda: is_served(self.settings, consumer), consumer)

    def remove(self, consumer: str) -> list[str]:
        """Take a consumer's queue and state away, and return what there was."""
        return remove(self.settings, consumer)

    def to_queue(self, queue: str) -> ToQueue:
        """Return what sends to one queue; raises PacelineError where there is none."""
        return to_queue(self.settings, queue)


def producer_app() -> Flask:
    """Make the producer's application; granian calls it inside the one process that accepts."""
    die_with_supervisor()
    settings = read_settings()
    keep_journal("producer")
    # Made at its first use, because the outbox makes the file, and asks how far the relay is.
    reader = cache(lambda: OutboxReader(settings.outbox_file))

    def passed(source: str) -> int | None:
        with suppress(Outage):
            return reader().passed(bookmark(settings, source))
        return None

    outbox = Outbox(
        settings.outbox_file,
        passed=passed,
        bounds=Bounds(settings.outbox_max_mib << 20, settings.disk_reserve_mib << 20),
        wait_s=takeover_s(),
    )
    replicated = Replication(reader(), passed) if settings.accept == REPLICATED else None
    return create_app(
        outbox,
        reader(),
        passed=passed,
        forward=Forwarding(settings.query_url, seats=THREADS - 4).forward,
        host=settings.host,
        kept=replicated.wait if replicated else None,
    )


def query_app() -> Flask:
    """Make the query process's application."""
    die_with_supervisor()
    keep_journal("query")
    return create_query_app(read_settings())


def run_relay(settings: Settings, *, again: int | None) -> None:
    """Carry the outbox into the log and on to the exchange until stopped."""
    patience = Patience()
    on_stop(patience.stop)
    with FileLock(settings.bookmark_file, wait_s=takeover_s()):
        opened = patience.until_made(lambda: open_log(settings))
        outbox = patience.until_made(lambda: OutboxReader(settings.outbox_file))
        if opened is None or outbox is None:
            return
        log, bookmarks = opened
        out = publisher(settings)
        facts, loaded = fact_sources(settings), LoadedSources(settings)
        relay = Relay(
            [outbox], log, out, bookmarks, patience=patience, further=lambda: [*facts(), *loaded()]
        )
        if again is not None:
            relay.again(again)
        relay.run()
        out.close()


def run_consumer(settings: Settings, name: str) -> None:
    """Be one worker of one consumer until stopped."""
    found = find(settings.plugins)
    if name not in found:
        known = ", ".join(found)
        raise PacelineError(f"There is no consumer {name!r}; there are: {known}.")
    patience = Patience()
    on_stop(patience.stop)
    with hold(settings, name, wait_s=takeover_s()) as place:
        parts = assemble(settings, found[name], place, patience)
        if parts is None:
            return
        runner = patience.until_made(lambda: Runner(parts))
        if runner is not None:
            runner.run()


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
    keep_journal("command")
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
        Supervisor(
            lambda: wanted(settings), patience=patience, code=lambda name: written(settings, name)
        ).run()
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
@click.option("--workers", type=click.IntRange(1, 256), default=1, help="So many processes.")
@click.pass_obj
def consume(platform: Platform, name: str, workers: int) -> None:
    """Be a worker of one consumer, or several: with state on MongoDB, any number on any hosts.

    \b
    Example:
      paceline consume calories --workers 4
    """
    keep_journal(name)
    if workers == 1:
        run_consumer(platform.settings, name)
        return
    if not platform.settings.store_url:
        raise PacelineError(
            f"{name} keeps its state in a file, which has one writer; for more workers set "
            "PACELINE_STORE_URL."
        )
    patience = Patience(least_s=0.05, most_s=0.2)
    on_stop(patience.stop)
    several = {f"consume {name} {number}": ("consume", name) for number in range(workers)}
    Supervisor(lambda: several, patience=patience).run()


for command in (
    import_,
    events,
    consumers,
    what_if,
    explain,
    replay,
    rebuild,
    dead_letters,
    operations,
    audit,
):
    main.add_command(command)
main.add_command(config)
events.add_command(export_events)
events.add_command(load_events)
main.add_command(doctor)

if __name__ == "__main__":
    main()
