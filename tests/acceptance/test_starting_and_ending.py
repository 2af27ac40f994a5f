"""A platform starts quietly, ends when it is told to, and leaves nothing behind however it ends."""

import signal
from pathlib import Path

import psutil
import pytest

from tests.acceptance.conftest import Start
from tests.acceptance.crowd import crowd, posted, posted_together
from tests.acceptance.platform import BUILT_IN, SERVED, Platform, until


def test_the_first_start_in_an_empty_folder_says_where_it_listens_and_no_more(start: Start) -> None:
    platform = start()
    until(lambda: "Ctrl-C stops it." in platform.journal(), what="it has said where it listens")
    assert f"http://127.0.0.1:{platform.port}" in platform.journal()
    assert str(platform.folder) in platform.journal()
    assert "Traceback" not in platform.journal()
    assert "restart" not in platform.journal()


def test_ctrl_c_ends_it_cleanly_and_the_next_start_has_everything(start: Start) -> None:
    platform = start()
    workouts = crowd(seed=2, count=200, users=5)
    assert platform.post("/v1/workouts/batch", posted_together(workouts)).status == 202
    assert platform.stop(signal.SIGINT) == 0
    platform.start()
    until(lambda: _applied(platform) == {len(workouts)}, what="all are applied")
    assert "did not end cleanly" not in platform.journal()


def test_what_is_accepted_while_everything_else_is_down_arrives_when_it_is_up(start: Start) -> None:
    platform = start()
    assert platform.stop() == 0
    platform.launch("serve", "producer")
    platform.wait_until_accepting()
    (workout,) = crowd(seed=3, count=1, users=1)
    accepted = platform.post("/v1/workouts", posted(workout))
    assert accepted.status == 202
    shown = platform.read(accepted.body["status_url"])
    assert (shown["state"], shown["consumers"]) == ("accepted", {})
    assert platform.stop() == 0
    platform.start()
    until(lambda: _applied(platform) == {1}, what="it is applied")
    assert platform.read(accepted.body["status_url"])["state"] == "logged"


HANGS = """
class Hangs:
    name = "hangs"
    bindings = ("workout.completed.#",)
    version = 1

    def keys(self, event):
        return [event.user_id]

    def fold(self, event, documents):
        while True:
            pass
"""


def test_kill_9_of_the_supervisor_ends_everything_also_a_plugin_that_hangs(start: Start) -> None:
    platform = start(plugins={"hangs": HANGS}, fold_batch_s=600)
    assert platform.post("/v1/workouts", posted(crowd(seed=3, count=1, users=1)[0])).status == 202
    until(lambda: "hangs" in platform.running(), what="it runs")
    hanging = until(lambda: platform.processes().get("hangs"), what="it has a process")
    until(lambda: _busy(hanging), what="it hangs")
    assert len(platform.left()) == len(platform.processes()) >= len(BUILT_IN) + 7
    platform.supervisor.kill()
    platform.supervisor.wait(timeout=10)
    platform.assert_nothing_left()


@pytest.mark.parametrize("name", SERVED)
def test_a_server_that_is_killed_while_it_starts_leaves_no_worker(start: Start, name: str) -> None:
    platform = start()
    server = platform.replaced(name, after=signal.SIGKILL)
    worker = _just_forked(server)
    server.kill()
    until(lambda: not worker.is_running(), what="the worker is gone too", within_s=10)
    platform.wait_until_ready()


def _just_forked(server: psutil.Process) -> psutil.Process:
    """A server's first child, too young to have asked the kernel to be ended with its parent."""
    children = Path(f"/proc/{server.pid}/task/{server.pid}/children")
    pid = until(children.read_text, what="it has a worker", every_s=0.001)
    return psutil.Process(int(pid.split()[0]))


def _applied(platform: Platform) -> set[int]:
    return {one["applied"] for one in platform.consumers().values()}


def _busy(process: psutil.Process) -> bool:
    return process.cpu_times().user > 2
