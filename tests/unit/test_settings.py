"""Settings: what is in force, where it came from, and what a wrong one is told."""

from pathlib import Path
from typing import Any

import pytest

from events.errors import PacelineError
from events.settings import described, read_settings

GIVEN: dict[str, tuple[str, Any]] = {
    "DATA_DIR": ("/var/lib/paceline", Path("/var/lib/paceline")),
    "PLUGINS": ("/srv/plugins", Path("/srv/plugins")),
    "HOST": ("127.0.0.2", "127.0.0.2"),
    "PORT": ("9000", 9000),
    "QUERY_PORT": ("9100", 9100),
    "OUTBOX_MAX_MIB": ("12", 12),
    "DISK_RESERVE_MIB": ("34", 34),
    "BATCH": ("56", 56),
    "FOLD_BATCH_S": ("7.5", 7.5),
    "FOLD_ALONE_S": ("0.5", 0.5),
    "LADDER_S": ("0.1,2,30", (0.1, 2.0, 30.0)),
    "MEMORY_MIB": ("78", 78),
}


@pytest.mark.parametrize(("name", "text", "value"), [(n, *g) for n, g in GIVEN.items()])
def test_each_variable_reaches_its_setting_and_no_other(
    monkeypatch: pytest.MonkeyPatch, name: str, text: str, value: object
) -> None:
    monkeypatch.setenv("PACELINE_DATA_DIR", "/data")
    before = {one.name: one for one in described(read_settings())}
    monkeypatch.setenv(f"PACELINE_{name}", text)
    settings = read_settings()
    assert getattr(settings, name.lower()) == value
    after = {one.name: one for one in described(settings)}
    changed = {one for one in after if after[one] != before[one]}
    follows = {"DATA_DIR": {"PACELINE_PLUGINS"}, "PORT": {"PACELINE_QUERY_PORT"}}.get(name, set())
    assert changed == {f"PACELINE_{name}"} | follows
    assert after[f"PACELINE_{name}"].value == text
    assert after[f"PACELINE_{name}"].origin == "environment"


def test_every_setting_is_described_with_its_value_and_its_meaning() -> None:
    shown = described(read_settings())
    assert {one.name for one in shown} == {f"PACELINE_{name}" for name in GIVEN}
    assert all(one.value and one.meaning for one in shown)
    assert {one.origin for one in shown} == {"default"}


def test_the_data_folder_is_absolute_so_that_a_process_may_change_its_own() -> None:
    settings = read_settings()
    assert settings.data_dir == Path.cwd() / "paceline-data"
    assert settings.plugins == settings.data_dir / "plugins"


def test_every_file_has_a_place_of_its_own_in_the_data_folder(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("PACELINE_DATA_DIR", "/data")
    settings = read_settings()
    files = [
        settings.outbox_file,
        settings.log_file,
        settings.control_file,
        settings.store_file("calories"),
        settings.store_file("log"),
        settings.store_file("outbox"),
    ]
    assert len(set(files)) == len(files)
    assert all(file.is_relative_to("/data") for file in files)


def test_the_query_process_listens_on_the_next_port_where_nothing_else_is_said(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("PACELINE_PORT", "9000")
    settings = read_settings()
    assert (settings.url, settings.query_url) == ("http://127.0.0.1:9000", "http://127.0.0.1:9001")


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("PORT", "http"),
        ("PORT", "0"),
        ("PORT", "65536"),
        ("PORT", ""),
        ("QUERY_PORT", "-1"),
        ("OUTBOX_MAX_MIB", "0"),
        ("DISK_RESERVE_MIB", "1.5"),
        ("BATCH", "0"),
        ("BATCH", "10001"),
        ("FOLD_BATCH_S", "0"),
        ("FOLD_ALONE_S", "nan"),
        ("FOLD_ALONE_S", "inf"),
        ("LADDER_S", "1,soon"),
        ("LADDER_S", "nan"),
        ("MEMORY_MIB", "8"),
        ("DATA_DIR", ""),
        ("LADDER_S", "-1"),
        ("LADDER_S", "1,0"),
        ("QUERY_PORT", "8000"),
    ],
)
def test_a_wrong_setting_is_refused_by_its_name(
    monkeypatch: pytest.MonkeyPatch, name: str, text: str
) -> None:
    monkeypatch.setenv(f"PACELINE_{name}", text)
    with pytest.raises(PacelineError, match=f"PACELINE_{name}"):
        read_settings()


def test_all_wrong_settings_are_told_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PACELINE_PORT", "http")
    monkeypatch.setenv("PACELINE_BATCH", "many")
    with pytest.raises(PacelineError) as refused:
        read_settings()
    assert "PACELINE_PORT" in str(refused.value)
    assert "PACELINE_BATCH" in str(refused.value)


@pytest.mark.parametrize("host", ["127.0.0.1", "127.8.9.10", "localhost"])
def test_loopback_is_served(monkeypatch: pytest.MonkeyPatch, host: str) -> None:
    monkeypatch.setenv("PACELINE_HOST", host)
    assert read_settings().host == host


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "10.0.0.1", "example.org", "", "127.0.0.1.nip"])
def test_what_strangers_reach_is_refused_as_long_as_there_are_no_keys(
    monkeypatch: pytest.MonkeyPatch, host: str
) -> None:
    monkeypatch.setenv("PACELINE_HOST", host)
    with pytest.raises(PacelineError, match="PACELINE_HOST"):
        read_settings()
