"""Settings: what is in force, where it came from, and what a wrong one is told."""

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from events.errors import PacelineError
from events.settings import REPLICATED, SYNCED, described, read_settings, redacted

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
    "BROKER_URL": ("amqp://rabbit:5672/paceline", "amqp://rabbit:5672/paceline"),
    "STORE_URL": ("mongodb://mongo/paceline", "mongodb://mongo/paceline"),
    "ACCEPT": ("replicated", "replicated"),
    "DETACH_AT": ("90", 90),
}
# What must be set too, because without it the variable is refused.
WITH = {
    "STORE_URL": {"BROKER_URL": "amqp://rabbit"},
    "ACCEPT": {"BROKER_URL": "amqp://rabbit", "STORE_URL": "mongodb://mongo"},
}
SERVERS = {"BROKER_URL": "amqps://rabbit", "STORE_URL": "mongodb+srv://mongo.example/paceline"}


@pytest.mark.parametrize(("name", "text", "value"), [(n, *g) for n, g in GIVEN.items()])
def test_each_variable_reaches_its_setting_and_no_other(
    monkeypatch: pytest.MonkeyPatch, name: str, text: str, value: object
) -> None:
    monkeypatch.setenv("PACELINE_DATA_DIR", "/data")
    for other, needed in WITH.get(name, {}).items():
        monkeypatch.setenv(f"PACELINE_{other}", needed)
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
    unset = {"PACELINE_BROKER_URL", "PACELINE_STORE_URL"}
    assert all(one.meaning for one in shown)
    assert {one.name for one in shown if not one.value} == unset
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
        ("BROKER_URL", "rabbit:5672"),
        ("BROKER_URL", "http://rabbit"),
        ("BROKER_URL", "AMQP//rabbit"),
        ("STORE_URL", "mongo"),
        ("STORE_URL", "postgresql://mongo"),
        ("DETACH_AT", "0"),
        ("ACCEPT", "maybe"),
        ("ACCEPT", ""),
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


# The distributed way.


def test_without_a_word_all_is_kept_in_files_here_and_202_means_synced() -> None:
    settings = read_settings()
    assert (settings.broker_url, settings.store_url) == ("", "")
    assert settings.accept == SYNCED
    assert settings.bookmark_file == settings.log_file


def test_a_broker_beside_files_is_allowed_on_one_host(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PACELINE_BROKER_URL", "amqp://rabbit")
    settings = read_settings()
    assert settings.broker_url == "amqp://rabbit"
    assert settings.bookmark_file == settings.log_file


def test_state_on_a_server_without_queues_on_one_is_refused(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("PACELINE_STORE_URL", "mongodb://mongo")
    with pytest.raises(PacelineError, match="PACELINE_BROKER_URL is not"):
        read_settings()
    monkeypatch.setenv("PACELINE_BROKER_URL", "")  # an empty one is none
    with pytest.raises(PacelineError, match="PACELINE_BROKER_URL is not"):
        read_settings()


@pytest.mark.parametrize("broker", ["", "amqp://rabbit"])
def test_replicated_is_refused_where_the_log_is_a_file_here(
    monkeypatch: pytest.MonkeyPatch, broker: str
) -> None:
    monkeypatch.setenv("PACELINE_ACCEPT", REPLICATED)
    monkeypatch.setenv("PACELINE_BROKER_URL", broker)
    with pytest.raises(PacelineError, match="PACELINE_ACCEPT is replicated"):
        read_settings()


def test_a_log_on_a_server_leaves_the_bookmarks_a_file_of_their_own(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name, url in SERVERS.items():
        monkeypatch.setenv(f"PACELINE_{name}", url)
    monkeypatch.setenv("PACELINE_ACCEPT", REPLICATED)
    settings = read_settings()
    assert settings.accept == REPLICATED
    others = (settings.log_file, settings.outbox_file, settings.control_file)
    assert settings.bookmark_file not in others
    assert settings.bookmark_file.parent == settings.data_dir


# Passwords.

_TEXT = st.text(
    st.characters(min_codepoint=33, max_codepoint=0x17E, exclude_characters="\x7f"),
    min_size=1,
    max_size=12,
)


@given(
    scheme=st.sampled_from(("amqp", "amqps", "mongodb", "mongodb+srv")),
    user=st.from_regex(r"[a-z0-9._%-]{0,8}", fullmatch=True),
    password=_TEXT,
    host=st.sampled_from(("rabbit", "rabbit:5672/%2F", "m1:27017,m2:27017/paceline?ssl=true")),
)
def test_a_password_cannot_be_read_whatever_is_in_it(
    scheme: str, user: str, password: str, host: str
) -> None:
    shown = redacted(f"{scheme}://{user}:{password}@{host}")
    assert shown == f"{scheme}://{user}:***@{host}"


@pytest.mark.parametrize(
    "text",
    [
        "",
        "8000",
        "/var/lib/paceline",
        "amqp://rabbit:5672/paceline",
        "amqp://guest@rabbit:5672",
        "mongodb://m1:27017,m2:27017/paceline?replicaSet=rs0",
    ],
)
def test_what_has_no_password_is_shown_as_it_is(text: str) -> None:
    assert redacted(text) == text


def test_no_password_is_shown_among_the_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PACELINE_BROKER_URL", "amqp://ada:s3cret@rabbit/paceline")
    monkeypatch.setenv("PACELINE_STORE_URL", "mongodb://ada:s3cret@m1,m2/paceline")
    shown = {one.name: one.value for one in described(read_settings())}
    assert shown["PACELINE_BROKER_URL"] == "amqp://ada:***@rabbit/paceline"
    assert shown["PACELINE_STORE_URL"] == "mongodb://ada:***@m1,m2/paceline"
    assert read_settings().broker_url == "amqp://ada:s3cret@rabbit/paceline"


@pytest.mark.parametrize(
    "url",
    [
        "http://ada:s3cret@rabbit",
        "amqp//ada:s3cret@rabbit",
        "ada:s3cret@rabbit:5672",
        "amqp:/ada:s3cret@rabbit",
    ],
)
def test_a_url_that_is_refused_is_told_without_its_password(
    monkeypatch: pytest.MonkeyPatch, url: str
) -> None:
    monkeypatch.setenv("PACELINE_BROKER_URL", url)
    with pytest.raises(PacelineError, match="PACELINE_BROKER_URL") as refused:
        read_settings()
    assert "s3cret" not in str(refused.value)
