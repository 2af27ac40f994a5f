"""`make run-distributed`: the whole platform on a private RabbitMQ and MongoDB, for trying."""

import os
import signal
import subprocess
import sys
from pathlib import Path

from tests.servers.mongod import Mongod
from tests.servers.rabbitmq import RabbitMQ

FOLDER = Path(os.environ.get("PACELINE_DATA_DIR", "paceline-data")).absolute() / "servers"


def main() -> int:
    """Start the servers on their own folders, then the platform; all end with Ctrl-C."""
    rabbitmq, mongod = RabbitMQ(FOLDER / "rabbitmq"), Mongod(FOLDER / "mongod")
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(143))
    try:
        print("Starting RabbitMQ and MongoDB (10 s)", file=sys.stderr, flush=True)
        mongod.start()
        rabbitmq.start()
        return _run(rabbitmq.url, mongod.url)
    except LookupError as missing:
        print(f"paceline: {missing}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 0
    finally:
        rabbitmq.end()
        mongod.kill(signal.SIGTERM)


def _run(broker_url: str, store_url: str) -> int:
    urls = {"PACELINE_BROKER_URL": broker_url, "PACELINE_STORE_URL": store_url}
    for name, value in urls.items():
        print(f"export {name}='{value}'", file=sys.stderr, flush=True)
    platform = subprocess.Popen(
        [sys.executable, "-m", "cli", "run"], env={**os.environ, **urls}, start_new_session=True
    )
    try:
        return platform.wait()
    finally:
        platform.send_signal(signal.SIGINT)
        platform.wait()


if __name__ == "__main__":
    sys.exit(main())
