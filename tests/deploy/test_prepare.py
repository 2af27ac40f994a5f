"""prepare.py: what it writes, for whose eyes, and what it leaves alone the next time."""

import json
import shutil
import subprocess
from pathlib import Path

import pytest

from events.settings import read_settings
from tests.deploy.place import CONSUMERS, DEPLOY, PASSWORD, passwords, prepare, settings_of

PARTS = ("producer", "relay", "query", "operator", "recovery", *CONSUMERS)
KEPT = ("passwords.json", "ca.crt", "rabbitmq.crt", "mongodb.pem", "ingress.key", "relay.env")


def test_nobody_else_on_the_host_reads_it(prepared: Path) -> None:
    assert prepared.stat().st_mode & 0o777 == 0o700
    for name in ("passwords.json", "ca.key"):
        assert (prepared / name).stat().st_mode & 0o777 == 0o600


def test_what_containers_read_can_be_read_by_their_users(prepared: Path) -> None:
    others = [path for path in prepared.iterdir() if path.name not in ("passwords.json", "ca.key")]
    assert {path.stat().st_mode & 0o777 for path in others} == {0o644}


def test_every_user_has_a_password_of_his_own(prepared: Path) -> None:
    known = passwords(prepared)
    assert {*PARTS, "root", "scaler", "app", "ingress"} - {"producer"} == set(known)
    assert len(set(known.values())) == len(known)
    assert all(PASSWORD.fullmatch(password) for password in known.values())


def test_a_second_time_it_keeps_what_is_there_and_adds_what_is_new(tmp_path: Path) -> None:
    folder = prepare(tmp_path / "secrets")
    before = {name: (folder / name).read_bytes() for name in KEPT}
    known = passwords(folder)
    assert "recovery" not in known
    doors = folder / "ingress.htpasswd"
    doors.write_text(f"{doors.read_text()}another:{{SHA}}x\n")
    prepare(folder, "--consumer", "recovery")
    assert known.items() < passwords(folder).items()
    assert "another:" in doors.read_text()
    assert {name: (folder / name).read_bytes() for name in KEPT if name != "passwords.json"} == {
        name: content for name, content in before.items() if name != "passwords.json"
    }


def test_a_consumer_that_is_there_is_not_made_twice(tmp_path: Path) -> None:
    folder = prepare(tmp_path / "secrets", "--consumer", "calories")
    users = [user["name"] for user in json.loads((folder / "rabbitmq.json").read_text())["users"]]
    assert users.count("calories") == 1


def test_a_further_consumer_has_the_rights_of_a_built_in_one_under_its_name(prepared: Path) -> None:
    for name in ("rabbitmq.json", "mongodb.json"):
        said = json.loads((prepared / name).read_text())
        users = said.get("permissions", []) + said.get("topic_permissions", [])
        users = users or [dict(user, pwd="") for user in said["users"]]
        theirs = [json.dumps(user) for user in users if user["user"] == "calories"]
        own = [json.dumps(user) for user in users if user["user"] == "recovery"]
        assert theirs
        assert [text.replace("calories", "recovery") for text in theirs] == own


def test_what_is_in_the_repository_lets_nobody_in() -> None:
    broker = json.loads((DEPLOY / "rabbitmq" / "definitions.json").read_text())
    assert {user["password_hash"] for user in broker["users"]} == {""}
    assert not any(user["tags"] for user in broker["users"])
    store = (DEPLOY / "mongodb" / "users.json").read_text()
    assert "pwd" not in store
    assert not [path for path in DEPLOY.rglob("*") if path.is_file() and _tells(path)]


def _tells(path: Path) -> bool:
    inside = path.relative_to(DEPLOY).parts[0]
    return inside not in ("secrets", "plugins") and bool(PASSWORD.search(path.read_text("latin-1")))


def test_the_broker_drops_and_limits_nothing_by_policy() -> None:
    broker = json.loads((DEPLOY / "rabbitmq" / "definitions.json").read_text())
    assert broker["policies"] == []


@pytest.mark.parametrize("part", PARTS)
def test_a_part_takes_its_environment(
    prepared: Path, part: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in settings_of(prepared, part).items():
        monkeypatch.setenv(name, value)
    settings = read_settings()
    password = passwords(prepared).get(part)
    assert (f"//{part}:{password}@" in settings.store_url) == (part != "producer")
    assert settings.broker_url.startswith("amqps://")
    assert f"tlsCAFile={prepared}/ca.crt" in settings.store_url


@pytest.mark.parametrize("name", ["rabbitmq", "mongodb", "ingress"])
def test_a_certificate_is_signed_for_its_server_and_is_no_authority(
    prepared: Path, name: str
) -> None:
    openssl = shutil.which("openssl")
    assert openssl is not None
    checks = ("-x509_strict", "-purpose", "sslserver", "-verify_hostname", "localhost")
    certificate = prepared / f"{name}.crt"
    subprocess.run(
        [openssl, "verify", *checks, "-CAfile", prepared / "ca.crt", certificate], check=True
    )
    shown = [openssl, "x509", "-in", certificate, "-noout", "-text"]
    text = subprocess.run(shown, check=True, capture_output=True, text=True).stdout
    assert "CA:FALSE" in text
    assert f"OU = {name}" in text
    assert f"DNS:{name}" in text


def test_a_name_that_no_consumer_can_have_is_refused(tmp_path: Path) -> None:
    with pytest.raises(subprocess.CalledProcessError):
        prepare(tmp_path / "secrets", "--consumer", "../etc")
    assert not list(tmp_path.iterdir())
