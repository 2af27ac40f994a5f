"""Settings: every PACELINE_* variable, what it means, and where the files lie."""

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from ipaddress import IPv4Address
from pathlib import Path
from typing import NamedTuple

from environs import Env, EnvValidationError, ValidationError, validate

from events.errors import PacelineError


class Setting(NamedTuple):
    """One variable as `paceline config` shows it."""

    name: str
    value: str
    origin: str
    meaning: str


LONGEST_RUNG_S = 604_800
SYNCED, REPLICATED = "synced", "replicated"


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """What is in force."""

    data_dir: Path
    plugins: Path
    host: str
    port: int
    query_port: int
    outbox_max_mib: int
    disk_reserve_mib: int
    batch: int
    fold_batch_s: float
    fold_alone_s: float
    ladder_s: tuple[float, ...]
    memory_mib: int
    broker_url: str = ""
    store_url: str = ""
    accept: str = SYNCED
    detach_at: int = 1_000_000

    @property
    def outbox_file(self) -> Path:
        """The producer's own file."""
        return self.data_dir / "outbox.db"

    @property
    def log_file(self) -> Path:
        """The relay's file."""
        return self.data_dir / "log.db"

    @property
    def bookmark_file(self) -> Path:
        """Where the relay writes how far it is: the log's file, if there is one."""
        return self.data_dir / "relay.db" if self.store_url else self.log_file

    @property
    def control_file(self) -> Path:
        """The one file that every process may write."""
        return self.data_dir / "control.db"

    def store_file(self, consumer: str) -> Path:
        """The file of a consumer's worker."""
        return self.data_dir / "consumers" / f"{consumer}.db"

    @property
    def url(self) -> str:
        """Where the producer listens."""
        return f"http://{self.host}:{self.port}"

    @property
    def query_url(self) -> str:
        """Where the query process listens."""
        return f"http://{self.host}:{self.query_port}"


_MEANINGS = {
    "data_dir": "where everything is kept",
    "plugins": "the folder of consumers that are single files",
    "host": "the address to listen on; loopback, as long as there are no keys",
    "port": "the port of the producer, and of everything in `paceline run`",
    "query_port": "the query process's own port; by default the next one",
    "outbox_max_mib": "how much may wait for the relay before 503",
    "disk_reserve_mib": "free disk that is kept to finish what was accepted",
    "batch": "how many events a worker folds and commits at once, at most",
    "fold_batch_s": "how long a consumer's code may take for a batch",
    "fold_alone_s": "how long it may take for a suspect alone",
    "ladder_s": "the waits between attempts; after the last the event is dead",
    "memory_mib": "how much a worker may grow by after its start",
    "broker_url": "RabbitMQ, amqp(s)://…; without it a subscription reads the log itself",
    "store_url": "MongoDB, mongodb://…, for the log and all state; without it they are files",
    "detach_at": "how many messages may wait for a paused consumer before its queue is let go",
    "accept": "what 202 means: synced on this disk, or replicated in MongoDB and confirmed",
}


def read_settings() -> Settings:
    """Return the settings of the environment; raises PacelineError that names each fault."""
    env = Env(eager=False)
    above = validate.Range(min=1)
    with env.prefixed("PACELINE_"):
        data_dir = env.path("DATA_DIR", Path("paceline-data"), validate=_is_named)
        plugins = env.path("PLUGINS", None)
        host = env.str("HOST", "127.0.0.1")
        port = env.int("PORT", 8000, validate=validate.Range(min=1, max=65535))
        query_port = env.int("QUERY_PORT", None, validate=validate.Range(min=1, max=65535))
        outbox_max_mib = env.int("OUTBOX_MAX_MIB", 1024, validate=above)
        disk_reserve_mib = env.int("DISK_RESERVE_MIB", 256, validate=above)
        batch = env.int("BATCH", 8000, validate=validate.Range(min=1, max=10_000))
        fold_batch_s = env.float("FOLD_BATCH_S", 30.0, validate=validate.Range(min=0.1))
        fold_alone_s = env.float("FOLD_ALONE_S", 5.0, validate=validate.Range(min=0.1))
        ladder_s = env.list(
            "LADDER_S", [1.0, 10.0, 60.0, 600.0, 3600.0], subcast=float, validate=_all_wait
        )
        memory_mib = env.int("MEMORY_MIB", 256, validate=validate.Range(min=32))
        broker_url = env.str("BROKER_URL", "", validate=_is_url("amqp", "amqps"))
        store_url = env.str("STORE_URL", "", validate=_is_url("mongodb", "mongodb+srv"))
        detach_at = env.int("DETACH_AT", 1_000_000, validate=above)
        accept = env.str("ACCEPT", SYNCED, validate=validate.OneOf([SYNCED, REPLICATED]))
    try:
        env.seal()
    except EnvValidationError as error:
        raise PacelineError(_faults(error)) from error
    _check_loopback(host)
    query_port = query_port or (port + 1 if port < _LAST_PORT else port - 1)
    if query_port == port:
        raise PacelineError(f"PACELINE_QUERY_PORT is {port}, and so is PACELINE_PORT; use two.")
    _check_way(broker_url, store_url, accept)
    return Settings(
        data_dir=data_dir.absolute(),
        plugins=(plugins or data_dir / "plugins").absolute(),
        host=host,
        port=port,
        query_port=query_port,
        outbox_max_mib=outbox_max_mib,
        disk_reserve_mib=disk_reserve_mib,
        batch=batch,
        fold_batch_s=fold_batch_s,
        fold_alone_s=fold_alone_s,
        ladder_s=tuple(ladder_s),
        memory_mib=memory_mib,
        broker_url=broker_url,
        store_url=store_url,
        accept=accept,
        detach_at=detach_at,
    )


def _is_named(path: Path) -> None:
    # An empty variable would be the present folder, and fill it with files.
    if path == Path():
        raise ValidationError("it must be a folder")


def _all_wait(rungs_s: list[float]) -> None:
    if not rungs_s or not all(0 < rung_s <= LONGEST_RUNG_S for rung_s in rungs_s):
        raise ValidationError(
            f"it must be seconds above 0, at most {LONGEST_RUNG_S}, with commas between: 1,10,60"
        )


def _is_url(*schemes: str) -> Callable[[str], None]:
    def check(text: str) -> None:
        if text and not text.startswith(tuple(f"{scheme}://" for scheme in schemes)):
            raise ValidationError(
                "it must begin with " + " or ".join(f"{scheme}://" for scheme in schemes)
            )

    return check


def _check_way(broker_url: str, store_url: str, accept: str) -> None:
    if store_url and not broker_url:
        raise PacelineError(
            "PACELINE_STORE_URL is set and PACELINE_BROKER_URL is not: state on a server needs "
            "queues on one. Set both, or neither."
        )
    if accept == REPLICATED and not store_url:
        raise PacelineError(
            "PACELINE_ACCEPT is replicated, and the log is a file of this machine; set "
            "PACELINE_BROKER_URL and PACELINE_STORE_URL, or leave it out."
        )


def _faults(error: EnvValidationError) -> str:
    faults = error.error_messages
    told = faults.items() if isinstance(faults, Mapping) else [("Settings", faults)]
    return "; ".join(f"{name} is {_given(name)!r:.80}: {_text(reasons)}" for name, reasons in told)


def _given(name: str) -> str | None:
    value = os.environ.get(name)
    return redacted(value) if value and name.endswith("_URL") else value


def _text(reasons: object) -> str:
    return " ".join(map(str, reasons)) if isinstance(reasons, list | tuple) else str(reasons)


_LAST_PORT = 65535


def _check_loopback(host: str) -> None:
    try:
        loopback = IPv4Address(host).is_loopback
    except ValueError:
        loopback = host == "localhost"
    if not loopback:
        raise PacelineError(
            f"PACELINE_HOST is {host}; without keys only 127.0.0.1, others of 127.x, and localhost "
            "are served. Put a server that checks keys in front."
        )


def redacted(url: str) -> str:
    """Return a URL in which the password cannot be read, however wrongly it is written."""
    who, at, where = url.rpartition("@")
    scheme, is_one, credentials = who.rpartition("://")
    user, has_password, _ = credentials.partition(":")
    if is_one and not has_password:
        return url
    return f"{scheme}{is_one}{user if is_one else ''}:***@{where}" if at else url


def described(settings: Settings, *, environment: Mapping[str, str] | None = None) -> list[Setting]:
    """Return each setting with where its value came from."""
    given = os.environ if environment is None else environment
    described = []
    for field in fields(settings):
        name = f"PACELINE_{field.name.upper()}"
        value = getattr(settings, field.name)
        text = ",".join(f"{part:g}" for part in value) if isinstance(value, tuple) else str(value)
        text = redacted(text) if name.endswith("_URL") else text
        origin = "environment" if name in given else "default"
        described.append(Setting(name, text, origin, _MEANINGS[field.name]))
    return described
