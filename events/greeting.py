"""What `paceline run` says at its start: what is in the way, or where it is and what to try."""

import json
import socket
from contextlib import suppress

import click
import urllib3

from events.errors import PacelineError
from events.patience import Patience
from events.settings import Settings


def check_port(host: str, port: int, setting: str) -> None:
    """Raise PacelineError where a port is taken, with the setting that moves it."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            raise PacelineError(
                f"Port {port} of {host} cannot be used: {error.strerror}. "
                f"Set {setting} to another one."
            ) from error


def greet(settings: Settings, patience: Patience) -> None:
    """Wait until everything answers, then say where it is and what to try."""
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
