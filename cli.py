"""The composition root: the only place that wires parts together, and the `paceline` command."""

import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from importlib.metadata import version
from threading import Thread
from typing import Any

import click
import structlog
import urllib3
from flask import Flask

from consumers.commands import audit, consumers
from consumers.runtime.audit import Accepting
from consumers.runtime.commands import dead_letters, operations, rebuild, replay
from consumers.runtime.control import Control
from consumers.runtime.doctor import findings
from consumers.runtime.fates import Ladder
from consumers.runtime.guard import Guard
from consumers.runtime.query import create_query_app
from consumers.runtime.registry import Loaded, find, load
from consumers.runtime.runner import Parts, Runner
from consumers.runtime.status import Installation
from consumers.runtime.store.sqlite import SqliteStore
from consumers.runtime.supervisor import Supervisor
from consumers.runtime.worker import Limits
from events.bus.embedded import EmbeddedPublisher, EmbeddedSubscription
from events.commands import events
from events.errors import Held, Outage, PacelineError
from events.journal import keep_journal
from events.lock import FileLock
from events.log import EventLog, Watermarks
from events.log.sqlite import SqliteEventLog, SqliteLogReader
from events.patience import Patience
from events.process import PARENT, die_with_parent, die_with_supervisor, on_stop
from events.relay import Relay
from events.serving import THREADS, serve
from events.settings import Settings, described, read_settings
from producer.app import create_app
from producer.commands import import_
from producer.forwarding import Forwarding
from producer.outbox import Outbox
from producer.outbox_reader import OutboxReader
from producer.outbox_room import Bounds

logger = structlog.get_logger(__name__)
TAKEOVER_S = 15.0


class Platform:
    """What the commands work with: this machine's installation, embedded."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.installation = Installation(settings)

    def log(self) -> EventLog:
        """Return the event log, for reading; raises Outage where there is none yet."""
        return SqliteLogReader.open(self.settings.log_file)  # type: ignore[return-value]

    def control(self) -> Control:
        """Return the requests."""
        return Control(self.settings.control_file)

    def accepting(self) -> list[Accepting]:
        """Return what each accepting host of this installation remembers."""
        if not self.settings.outbox_file.exists():
            return []
        outbox = OutboxReader(self.settings.outbox_file)
        log = SqliteLogReader.open(self.settings.log_file)
        mark = log.load(outbox.source_id)
        stuck = frozenset(row.row for row in log.stuck(outbox.source_id))
        passed = mark.row if mark else 0
        return [Accepting(outbox.source_id, passed, stuck, outbox.ids())]

    @contextmanager
    def worker_for(self, consumer: str) -> Iterator[None]:
        """Have somebody do what is asked of a consumer: its worker, or one just for now."""
        try:
            FileLock(self.settings.store_file(consumer)).release()
        except Held:
            yield
            return
        arguments = [sys.executable, "-m", "cli", "consume", consumer]
        process = subprocess.Popen(arguments, env={**os.environ, PARENT: str(os.getpid())})
        try:
            yield
        finally:
            process.terminate()
            process.wait()


def passed_by(settings: Settings, source: str) -> int:
    """Return up to which row the relay has carried a source on, by its bookmark."""
    with suppress(Outage):
        log = SqliteLogReader.open(settings.log_file)
        try:
            mark = log.load(source)
            return mark.row if mark else 0
        finally:
            log.close()
    return 0


def producer_app() -> Flask:
    """Make the producer's application; granian calls it inside the one process that accepts."""
    die_with_parent(os.getppid())
    settings = read_settings()
    keep_journal("producer")
    outbox = Outbox(
        settings.outbox_file,
        passed=lambda source: passed_by(settings, source),
        bounds=Bounds(settings.outbox_max_mib << 20, settings.disk_reserve_mib << 20),
        wait_s=TAKEOVER_S,
    )
    forwarding = Forwarding(settings.query_url, seats=THREADS - 4)
    return create_app(
        outbox,
        OutboxReader(settings.outbox_file),
        passed=lambda source: passed_by(settings, source),
        forward=forwarding.forward,
    )


def query_app() -> Flask:
    """Make the query process's application."""
    die_with_parent(os.getppid())
    keep_journal("query")
    return create_query_app(read_settings())


def run_relay(settings: Settings, *, again: int | None) -> None:
    """Carry the outbox into the log until stopped."""
    patience = Patience()
    on_stop(patience.stop)
    with FileLock(settings.log_file, wait_s=TAKEOVER_S):
        log = SqliteEventLog(settings.log_file)
        while not settings.outbox_file.exists() and not patience.stopped:
            patience.wait()
        if patience.stopped:
            return
        sources = [OutboxReader(settings.outbox_file)]
        relay = Relay(sources, log, EmbeddedPublisher(), log, patience=patience)
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
    on_stop(patience.stop)
    file = settings.store_file(name)
    with FileLock(file, wait_s=TAKEOVER_S):
        guard = Guard(file.with_suffix(".traceback"), memory_bytes=settings.memory_mib << 20)
        log = _log_when_there(settings, patience)
        if log is not None:
            Runner(_parts(settings, load(found[name]), log, guard, patience)).run()


def _log_when_there(settings: Settings, patience: Patience) -> EventLog | None:
    while not patience.stopped:
        with suppress(Outage):
            log = SqliteLogReader.open(settings.log_file)
            log.settled()
            return log  # type: ignore[return-value]  # a worker only reads it
        patience.wait()
    return None


def _parts(
    settings: Settings, loaded: Loaded, log: EventLog, guard: Guard, patience: Patience
) -> Parts:
    def subscribe(bindings: tuple[str, ...], start: Watermarks, suspects: int) -> Any:
        return EmbeddedSubscription(
            log, bindings, start=start, size=settings.batch, suspects=suspects
        )

    return Parts(
        loaded=loaded,
        store=SqliteStore(settings.store_file(loaded.name)),
        log=log,
        control=Control(settings.control_file),
        subscribe=subscribe,
        guard=guard,
        limits=Limits(
            batch_s=settings.fold_batch_s,
            alone_s=settings.fold_alone_s,
            ladder=Ladder(rungs_s=settings.ladder_s),
        ),
        batch=settings.batch,
        patience=patience,
    )


class PacelineGroup(click.Group):
    """Commands whose errors are one line, and whose exit codes mean something."""

    def invoke(self, ctx: click.Context) -> Any:
        """Run a command; 1 is a failure that the line explains, 3 is nobody there."""
        try:
            return super().invoke(ctx)
        except PacelineError as error:
            click.echo(f"paceline: {error}", err=True)
            ctx.exit(getattr(error, "exit_code", 1))


@click.group(cls=PacelineGroup, context_settings={"help_option_names": ["-h", "--help"]})
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
        _check_ports(settings)
        Thread(target=_greet, args=(settings, patience), daemon=True).start()
        Supervisor(lambda: _wanted(settings), patience=patience).run()
    click.echo("Stopped. What was accepted is kept.", err=True)


def _wanted(settings: Settings) -> Mapping[str, Sequence[str]]:
    consuming = {name: ("consume", name) for name in find(settings.plugins)}
    return {
        "producer": ("serve", "producer"),
        "relay": ("relay",),
        **consuming,
        "query": ("serve", "query"),
    }


def _check_ports(settings: Settings) -> None:
    for name, port in (
        ("PACELINE_PORT", settings.port),
        ("PACELINE_QUERY_PORT", settings.query_port),
    ):
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((settings.host, port))
            except OSError as error:
                raise PacelineError(
                    f"Port {port} of {settings.host} cannot be used: {error.strerror}. "
                    f"Set {name} to another one."
                ) from error


def _greet(settings: Settings, patience: Patience) -> None:
    pool = urllib3.PoolManager(retries=False, timeout=1.0)
    while not patience.stopped:
        with suppress(urllib3.exceptions.HTTPError):
            if pool.request("GET", f"{settings.url}/v1/consumers").status == 200:
                break
        patience.wait()
    else:
        return
    workout = {
        "workout_id": "first",
        "user_id": "ada",
        "sport": "running",
        "started_at": "2026-11-01T07:30:00+01:00",
        "duration_s": 1800,
        "distance_m": 5000,
    }
    click.echo(
        f"""Paceline listens at {settings.url} (query process: {settings.query_url})
The data lies in {settings.data_dir}
Try:
  curl -i {settings.url}/v1/workouts -H 'Content-Type: application/json' -d '{json.dumps(workout)}'
  curl {settings.url}/v1/users/ada/achievements
  .venv/bin/paceline consumers list
Ctrl-C stops it.""",
        err=True,
    )


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
    port = settings.port if part == "producer" else settings.query_port
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


@main.command()
@click.option("--json", "as_json", is_flag=True, help="For machines.")
@click.pass_obj
def config(platform: Platform, as_json: bool) -> None:
    """Show what is in force, and where it came from.

    \b
    Example:
      paceline config --json
    """
    rows = described(platform.settings)
    if as_json:
        click.echo(json.dumps([row._asdict() for row in rows]))
        return
    for row in rows:
        click.echo(f"{row.name}={row.value}  ({row.origin}: {row.meaning})")


@main.command()
@click.option("--json", "as_json", is_flag=True, help="For machines.")
@click.pass_obj
def doctor(platform: Platform, as_json: bool) -> None:
    """Look for what would go wrong on this machine; exit code 1 where something would.

    \b
    Example:
      paceline doctor
    """
    found = findings(platform.settings)
    if as_json:
        click.echo(json.dumps([one._asdict() for one in found]))
    else:
        for one in found:
            click.echo(f"{'ok  ' if one.ok else 'BAD '} {one.what}: {one.detail}")
    if not all(one.ok for one in found):
        raise SystemExit(1)


for command in (events, import_, consumers, audit, replay, rebuild, dead_letters, operations):
    main.add_command(command)

if __name__ == "__main__":
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)
    main()
