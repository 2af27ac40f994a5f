"""What the platform needs of the package, and that its README says what is true."""

import ast
import os
import re
import socket
import subprocess
import sys
import time
from importlib.metadata import entry_points
from pathlib import Path

import pytest
from webhook_receiver import SECRET

import paceline_webhooks
from paceline_webhooks import Webhooks

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text()
SOURCES = sorted(Path(paceline_webhooks.__file__).parent.glob("*.py"))


BLOCKS = re.findall(r"^```(\w*)\n(.*?)^```$", README, re.M | re.S)


def block(language: str, number: int) -> str:
    return [text for word, text in BLOCKS if word == language][number]


def test_the_entry_point_names_the_handler():
    (point,) = entry_points(group="paceline.consumers", name="webhooks")
    assert point.load() is Webhooks


def test_it_has_the_shape_of_a_handler(webhooks):
    assert webhooks.name == "webhooks"
    assert webhooks.bindings == ("achievement.unlocked.#",)
    assert isinstance(webhooks.version, int)
    assert webhooks.concurrency >= 1
    assert webhooks.answer_s < webhooks.deadline_s
    assert list(webhooks.ladder_s) == sorted(webhooks.ladder_s)
    assert not hasattr(webhooks, "fold")


def test_it_imports_nothing_of_the_platform():
    allowed = sys.stdlib_module_names | {"httpx2", "standardwebhooks", "paceline_webhooks"}
    found = set()
    for source in SOURCES:
        for node in ast.walk(ast.parse(source.read_text())):
            if isinstance(node, ast.Import):
                found |= {name.name.split(".")[0] for name in node.names}
            elif isinstance(node, ast.ImportFrom):
                found.add((node.module or "").split(".")[0])
    assert len(SOURCES) >= 4
    assert found - allowed == set()


def test_importing_it_reads_no_setting():
    bare = {"PATH": os.environ["PATH"]}
    code = "import os; os.environ = None; import paceline_webhooks"
    subprocess.run([sys.executable, "-W", "error", "-c", code], env=bare, check=True, timeout=60)


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


def wait_for(port: int) -> None:
    give_up = time.monotonic() + 30
    while time.monotonic() < give_up:
        with socket.socket() as one:
            if one.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.02)
    pytest.fail("nobody listens")


def test_the_receiver_of_the_readme_verifies_what_is_sent(tmp_path, monkeypatch, event):
    port = free_port()
    (tmp_path / "receiver.py").write_text(block("python", 0).replace("9000", str(port)))
    running = subprocess.Popen(
        [sys.executable, "receiver.py"],
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        env={**os.environ, "PACELINE_WEBHOOKS_SECRET": SECRET},
    )
    try:
        wait_for(port)
        monkeypatch.setenv("PACELINE_WEBHOOKS_URL", f"http://127.0.0.1:{port}/")
        monkeypatch.setenv("PACELINE_WEBHOOKS_ALLOW_PRIVATE", "1")
        Webhooks().handle(event)
        assert running.stdout is not None
        assert "'badge': 'first-workout'" in running.stdout.readline()
    finally:
        running.kill()
        running.communicate()


def test_verifying_by_hand_as_the_readme_does_takes_ours_and_no_other(webhooks, receiver, event):
    made: dict = {}
    exec(block("python", 1), made)
    is_ours = made["is_ours"]
    webhooks.handle(event)
    (got,) = receiver.got
    assert is_ours(SECRET, got.headers, got.body)
    assert not is_ours(SECRET, got.headers, got.body + b" ")
    assert not is_ours(SECRET, {**got.headers, "webhook-id": "another"}, got.body)
    assert not is_ours(SECRET, {**got.headers, "webhook-timestamp": "1700000000"}, got.body)
    assert not is_ours(f"{SECRET[:-4]}AAAA", got.headers, got.body)


def test_the_settings_of_the_readme_for_trying_it_are_taken(monkeypatch):
    exports = re.findall(r"(PACELINE_\w+)=(\S+)", block("", 1))
    assert len(exports) == 3
    for name, value in exports:
        monkeypatch.setenv(name, value)
    Webhooks()


def test_the_readme_names_every_setting_of_the_code():
    code = "".join(source.read_text() for source in SOURCES)
    used = set(re.findall(r'"(PACELINE_\w+)"', code))
    assert used == {"PACELINE_WEBHOOKS_URL", "PACELINE_WEBHOOKS_SECRET"} | {
        *("PACELINE_WEBHOOKS_ALLOW_PRIVATE", "PACELINE_WEBHOOKS_LADDER_S")
    }
    for name in used:
        assert f"| `{name}` |" in README


@pytest.mark.parametrize("seconds", Webhooks.ladder_s)
def test_the_readme_tells_the_ladder(seconds):
    hours, minutes = seconds // 3600, seconds // 60
    told = f"{hours} h" if hours else f"{minutes} min" if minutes else f"{seconds} s"
    assert re.search(rf"\b{told}\b", README)
