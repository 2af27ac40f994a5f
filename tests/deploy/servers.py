"""RabbitMQ and MongoDB, started with the configuration files of deploy/."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import pika
from pika.exceptions import AMQPError
from pymongo import MongoClient

from events.bus.rabbitmq_nodes import parameters
from tests.deploy.place import DEPLOY, INSTALLED, passwords, settings_of
from tests.servers.mongod import mongod_program
from tests.servers.ports import free_port
from tests.servers.rabbitmq import RabbitMQ

_UP_WITHIN_S = 60.0


class Broker(RabbitMQ):
    """A node that reads deploy/rabbitmq/rabbitmq.conf, at ports of its own."""

    def __init__(self, folder: Path, prepared: Path) -> None:
        super().__init__(folder)
        self._prepared = prepared
        given = (DEPLOY / "rabbitmq" / "rabbitmq.conf").read_text()
        for theirs, ours in {
            "listeners.ssl.default = 5671": f"listeners.ssl.default = 127.0.0.1:{self.port}",
            INSTALLED: str(prepared),
            "disk_free_limit.absolute = 2GB": "disk_free_limit.absolute = 50MB",
        }.items():
            assert theirs in given
            given = given.replace(theirs, ours)
        (folder / "deployed.conf").write_text(given)

    def url_for(self, user: str) -> str:
        """The address that prepare.py gives a user, at this node's port."""
        if user == "scaler":
            url = f"{(self._prepared / 'scaler.url').read_text()}?cafile={self._prepared}/ca.crt"
        else:
            url = settings_of(self._prepared, user)["PACELINE_BROKER_URL"]
        return url.replace(":5671", f":{self.port}")

    def clear(self) -> None:
        """Remove every queue."""
        listed = self.ctl("list_queues", "--vhost", "paceline", "name", "--no-table-headers")
        for queue in listed.split():
            self.ctl("delete_queue", "--vhost", "paceline", queue)

    def _environment(self) -> dict[str, str]:
        # A port in the environment would open a listener without TLS beside the configured one.
        ours = {"RABBITMQ_NODE_PORT", "RABBITMQ_NODE_IP_ADDRESS"}
        kept = {name: value for name, value in super()._environment().items() if name not in ours}
        return {**kept, "RABBITMQ_CONFIG_FILE": str(self.folder / "deployed.conf")}

    def _answers(self) -> bool:
        try:
            pika.BlockingConnection(parameters(self.url_for("relay"), name="test")).close()
        except (AMQPError, OSError):
            return False
        return True


class Database:
    """A mongod that reads deploy/mongodb/mongod.conf, and deploy/mongodb/setup.py run on it."""

    def __init__(self, folder: Path, prepared: Path) -> None:
        self.folder, self.port, self._prepared = folder, free_port(), prepared
        self._process: subprocess.Popen[bytes] | None = None
        given = (DEPLOY / "mongodb" / "mongod.conf").read_text()
        for theirs, ours in {
            "port: 27017": f"port: {self.port}",
            "bindIpAll: true": "bindIp: 127.0.0.1\n  unixDomainSocket: {enabled: false}",
            "dbPath: /data/db": f"dbPath: {folder}",
            INSTALLED: str(prepared),
        }.items():
            assert theirs in given
            given = given.replace(theirs, ours)
        (folder / "deployed.conf").write_text(given)

    @property
    def door(self) -> str:
        """The address that names no user."""
        return f"mongodb://localhost:{self.port}/?tls=true&tlsCAFile={self._prepared}/ca.crt"

    def url_for(self, user: str) -> str:
        """The address that prepare.py gives a user, at this server's port."""
        url = settings_of(self._prepared, user)["PACELINE_STORE_URL"]
        return url.replace(":27017", f":{self.port}")

    def start(self) -> None:
        """Start it, and make it ready as compose.yaml does."""
        with (self.folder / "mongod.log").open("ab") as said:
            self._process = subprocess.Popen(
                [mongod_program(), "--config", str(self.folder / "deployed.conf")],
                stdin=subprocess.DEVNULL,
                stdout=said,
                stderr=said,
                start_new_session=True,
            )
        self.set_up()

    def clear(self) -> None:
        """Remove all that was written, and no user."""
        password = passwords(self._prepared)["root"]
        with MongoClient[dict[str, Any]](self.door, username="root", password=password) as client:
            for name in client.list_database_names():
                if name.startswith("paceline"):
                    client.drop_database(name)

    def set_up(self) -> None:
        """Run setup.py; it waits for the server itself."""
        program = DEPLOY / "mongodb" / "setup.py"
        done = subprocess.run(
            [
                *(sys.executable, program, self.door),
                *(self._prepared / "mongodb.json", f"localhost:{self.port}"),
            ],
            capture_output=True,
            text=True,
            check=False,
            timeout=_UP_WITHIN_S,
        )
        said = (self.folder / "mongod.log").read_text(errors="replace")
        assert done.returncode == 0, f"{done.stderr}{said[-2000:]}"

    def end(self) -> None:
        """Leave nothing of it running."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None
