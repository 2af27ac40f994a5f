"""The composition root: the only place that wires parts together, and the `paceline` command."""

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from importlib.metadata import version
from threading import Thread

import click

from consumers.runtime.asking import Check, worker_for
from consumers.runtime.assembling import assemble
from consumers.runtime.audit import Accepting
from consumers.runtime.control import Control
from consumers.runtime.places import hold, is_served, written
from consumers.runtime.registry import find
from consumers.runtime.removing import remove
from consumers.runtime.runner import Runner
from consumers.runtime.sending import ToQueue, to_queue
from consumers.runtime.status import Installation
from consumers.runtime.supervisor import Supervisor
from consumers.runtime.ways import fact_sources, open_control
from events.commands import PacelineGroup
from events.errors import PacelineError
from events.greeting import check_port, greet
from events.journal import keep_journal
from events.lock import FileLock
from events.log import LogReader
from events.patience import Patience
from events.process import die_with_supervisor, on_stop, supervised, takeover_s
from events.relay import Relay
from events.settings import Settings, read_settings
from events.sqlite_spool import LoadedSources
from events.ways import bookmark, open_log, publisher, read_log, stuck_rows
from producer.outbox_reader import OutboxReader

# Imported when they are asked for: each process, and each command, loads what it needs itself.
_APPS = {
    "producer": "producer.process:producer_app",
    "query": "consumers.runtime.query.app:query_app",
}
_ELSEWHERE = {
    "import": "producer.commands:import_",
    "config": "events.commands:config",
    "events": "events.commands:events",
    "consumers": "consumers.commands:consumers",
    "audit": "consumers.commands:audit",
    "doctor": "consumers.commands:doctor",
    "dead-letters": "consumers.dead_letter_commands:dead_letters",
    "explain": "consumers.explain_commands:explain",
    "operations": "consumers.operation_commands:operations",
    "replay": "consumers.operation_commands:replay",
    "rebuild": "consumers.rebuild_commands:rebuild",
    "what-if": "consumers.what_if_commands:what_if",
}


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


@click.group(cls=PacelineGroup, elsewhere=_ELSEWHERE)
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
@click.argument("part", type=click.Choice([*_APPS]))
@click.pass_obj
def serve_part(platform: Platform, part: str) -> None:
    """Serve one part alone: the producer accepts, the query process answers reads.

    \b
    Example:
      paceline serve producer
    """
    from events.serving import serve  # brings the server, which no other process needs

    settings = platform.settings
    producing = part == "producer"
    port = settings.port if producing else settings.query_port
    if not supervised():
        check_port(settings.host, port, "PACELINE_PORT" if producing else "PACELINE_QUERY_PORT")
        if producing:
            FileLock(settings.outbox_file, wait_s=takeover_s()).release()
    serve(_APPS[part], host=settings.host, port=port)


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


if __name__ == "__main__":
    main()
