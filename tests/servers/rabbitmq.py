"""Real RabbitMQ nodes in a folder of their own, alone or as a cluster of three, on loopback."""

import json
import logging
import os
import secrets
import shutil
import signal
import socket
import subprocess
import time
from collections import deque
from collections.abc import Iterable
from pathlib import Path

import pika
from pika.exceptions import AMQPError

from tests.servers.ports import free_port

_PROGRAMS = Path("/usr/lib/rabbitmq/bin")
_UP_WITHIN_S = 120.0
_VHOSTS = 16  # are made at once: asking the node takes seconds, making one takes none
_SETTINGS = """
log.file.level = warning
disk_free_limit.absolute = 50MB
raft.wal_max_size_bytes = 67108864
"""

# It reports each step of each failed attempt, and a node that starts is tried often.
logging.getLogger("pika").setLevel(logging.CRITICAL)


class Home:
    """What the nodes of one machine share: the cookie, and the epmd that knows their ports."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.port = folder, free_port()
        self._epmd: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start the epmd; nothing happens where it runs."""
        if self._epmd is not None:
            return
        self.folder.mkdir(parents=True, exist_ok=True)
        cookie = self.folder / ".erlang.cookie"
        if not cookie.exists():
            cookie.write_text(secrets.token_hex(16))
            cookie.chmod(0o400)
        self._epmd = subprocess.Popen(
            [rabbitmq_program("epmd"), "-address", "127.0.0.1", "-port", str(self.port)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        _until_listening(self.port, within_s=10)

    def kill(self) -> None:
        """End the epmd."""
        if self._epmd is not None:
            self._epmd.kill()
            self._epmd.wait()
            self._epmd = None


class RabbitMQ:
    """One node; it can be killed, and comes back on its ports with its data."""

    def __init__(self, folder: Path, *, name: str = "n1", home: Home | None = None) -> None:
        self.folder, self.node = folder, f"{name}@localhost"
        self.port, self._dist_port = free_port(), free_port()
        self._home, self._owns_home = home or Home(folder / "home"), home is None
        self._process: subprocess.Popen[bytes] | None = None
        self._vhosts: deque[str] = deque()
        self._count = 0

    @property
    def running(self) -> bool:
        """Whether it was started and not ended since."""
        return self._process is not None

    @property
    def url(self) -> str:
        """The address of the default vhost for clients."""
        return self.url_of("%2F")

    def url_of(self, vhost: str) -> str:
        """The address of a vhost for clients."""
        return f"amqp://guest:guest@127.0.0.1:{self.port}/{vhost}"

    def start(self) -> None:
        """Start it and wait until clients may connect; raises LookupError where none is."""
        program = rabbitmq_program("rabbitmq-server")
        self._home.start()
        self.folder.mkdir(parents=True, exist_ok=True)
        (self.folder / "rabbitmq.conf").write_text(_SETTINGS)
        (self.folder / "enabled_plugins").write_text("[].\n")
        with (self.folder / "said.log").open("ab") as said:
            self._process = subprocess.Popen(
                [program],
                env=self._environment(),
                cwd=self.folder,
                stdin=subprocess.DEVNULL,
                stdout=said,
                stderr=said,
                start_new_session=True,
            )
        self._wait()

    def _environment(self) -> dict[str, str]:
        folder = self.folder
        return {
            "PATH": os.environ["PATH"],
            "LANG": "C.UTF-8",
            "HOME": str(self._home.folder),
            "ERL_EPMD_PORT": str(self._home.port),
            "ERL_EPMD_ADDRESS": "127.0.0.1",
            "ERL_AFLAGS": "-kernel inet_dist_use_interface {127,0,0,1} +sbwt none +sbwtdcpu none",
            "RABBITMQ_NODENAME": self.node,
            "RABBITMQ_NODE_IP_ADDRESS": "127.0.0.1",
            "RABBITMQ_NODE_PORT": str(self.port),
            "RABBITMQ_DIST_PORT": str(self._dist_port),
            "RABBITMQ_CONFIG_FILE": str(folder / "rabbitmq.conf"),
            "RABBITMQ_CONF_ENV_FILE": "/dev/null",
            "RABBITMQ_ENABLED_PLUGINS_FILE": str(folder / "enabled_plugins"),
            "RABBITMQ_LOG_BASE": str(folder / "log"),
            "RABBITMQ_MNESIA_BASE": str(folder / "mnesia"),
            "RABBITMQ_PID_FILE": str(folder / "node.pid"),
            # The script then becomes the server, so that a signal meets it and not a shell.
            "RUNNING_UNDER_SYSTEMD": "true",
        }

    def _wait(self) -> None:
        deadline = time.monotonic() + _UP_WITHIN_S
        while not self._answers():
            assert self._process is not None
            assert self._process.poll() is None, f"rabbitmq ended: {self.said()[-2000:]}"
            assert time.monotonic() < deadline, f"no rabbitmq: {self.said()[-2000:]}"
            time.sleep(0.1)

    def _answers(self) -> bool:
        try:
            pika.BlockingConnection(pika.URLParameters(self.url)).close()
        except (AMQPError, OSError):
            return False
        return True

    def ctl(self, *arguments: str, program: str = "rabbitmqctl") -> str:
        """Run a command of rabbitmqctl, or of one of its sisters, and return what it says."""
        done = subprocess.run(
            [rabbitmq_program(program), "-q", *arguments],
            env=self._environment(),
            cwd=self.folder,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
            timeout=120,
        )
        assert done.returncode == 0, f"{arguments}: {done.stdout}{done.stderr}"
        return done.stdout

    def new_vhost(self) -> str:
        """Return the address of a vhost that nobody has used: no exchange, no queue of ours."""
        if not self._vhosts:
            names = [f"v{self._count + number}" for number in range(_VHOSTS)]
            self._count += _VHOSTS
            made = ", ".join(f'<<"{name}">>' for name in names)
            self.ctl("eval", _NEW_VHOSTS % made)
            self._vhosts.extend(names)
        return self.url_of(self._vhosts.popleft())

    def remembers(self, vhost: str, queues: Iterable[str]) -> bool:
        """Whether it would still lead these quorum queues after a kill.

        It writes their names within a second; a queue whose name it has lost has no leader, ever.
        """
        kept = b"".join(path.read_bytes() for path in self.folder.glob("mnesia/**/names.dets"))
        return all(f"{vhost}_{queue}".encode() in kept for queue in queues)

    def stop(self) -> None:
        """End it as an operator does, and wait."""
        self._end(signal.SIGTERM)

    def kill(self) -> None:
        """End it without any goodbye; its data stay."""
        self._end(signal.SIGKILL)

    def restart(self) -> None:
        """Kill it, and start it on its ports with its data."""
        self.kill()
        self.start()

    def _end(self, number: signal.Signals) -> None:
        if self._process is not None:
            self.freeze(frozen=False)
            self._process.send_signal(number)
            self._process.wait(60)
            self._process = None

    def freeze(self, *, frozen: bool) -> None:
        """Let it hang, as a host that is away does, or go on."""
        if self._process is not None:
            self._process.send_signal(signal.SIGSTOP if frozen else signal.SIGCONT)

    def end(self) -> None:
        """Leave nothing of it running."""
        self.kill()
        if self._owns_home:
            self._home.kill()

    def said(self) -> str:
        """What it said when it started, and its log."""
        files = [self.folder / "said.log", *sorted((self.folder / "log").glob("*.log"))]
        return "\n".join(path.read_text(errors="replace") for path in files if path.exists())


class Cluster:
    """Three nodes that are one broker: a quorum queue outlives any one of them."""

    def __init__(self, folder: Path) -> None:
        self._home = Home(folder / "home")
        self.nodes = [
            RabbitMQ(folder / name, name=name, home=self._home) for name in ("n1", "n2", "n3")
        ]

    def start(self) -> None:
        """Start the nodes and join them."""
        for node in self.nodes:
            node.start()
        first, *others = self.nodes
        for node in others:
            for command in (("stop_app",), ("join_cluster", first.node), ("start_app",)):
                node.ctl(*command)

    def new_vhost(self) -> str:
        """Return the name of a vhost that nobody has used; see `RabbitMQ.url_of`."""
        return self.nodes[0].new_vhost().rpartition("/")[2]

    def url_of(self, vhost: str) -> str:
        """The URL of a vhost that names every node, the first one first."""
        first, *others = [node.url_of(vhost) for node in self.nodes]
        more = "".join(f",{url.partition('@')[2].partition('/')[0]}" for url in others)
        return first.replace(f"/{vhost}", f"{more}/{vhost}")

    def leader(self, queue: str, *, vhost: str = "/") -> RabbitMQ:
        """The node that leads a quorum queue."""
        asked = next(node for node in self.nodes if node.running)
        which = ("quorum_status", "--vhost", vhost, queue, "--formatter", "json")
        members = json.loads(asked.ctl(*which, program="rabbitmq-queues"))
        leads = next(one["Node Name"] for one in members if one["Raft State"] == "leader")
        return next(node for node in self.nodes if node.node == leads)

    def end(self) -> None:
        """Leave nothing of it running."""
        for node in self.nodes:
            node.kill()
        self._home.kill()


_NEW_VHOSTS = """
lists:foreach(fun(Name) ->
    ok = rabbit_vhost:add(Name, <<"tests">>),
    ok = rabbit_auth_backend_internal:set_permissions(
        <<"guest">>, Name, <<".*">>, <<".*">>, <<".*">>, <<"tests">>)
end, [%s]).
"""


def rabbitmq_program(name: str) -> str:
    """Where a program of RabbitMQ is; raises LookupError that says how to get it."""
    # Debian's scripts on the path change the user and lose the environment; these do not.
    found = _PROGRAMS / name
    if found.exists():
        return str(found)
    elsewhere = shutil.which(name)
    if elsewhere is None:
        raise LookupError(f"no {name}; apt-get install rabbitmq-server")
    return elsewhere


def _until_listening(port: int, *, within_s: float) -> None:
    deadline = time.monotonic() + within_s
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
        except OSError:
            assert time.monotonic() < deadline, f"nobody listens on {port}"
            time.sleep(0.02)
        else:
            return
