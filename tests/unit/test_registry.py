"""Which consumers there are, and what a wrong plug-in is told; it disturbs no other."""

import signal
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path

import pytest

import cli
from consumers.runtime import registry
from consumers.runtime.places import written
from consumers.runtime.registry import Loaded, Unfit, find, is_replaced, load, single, taken
from consumers.runtime.store.sqlite import SqliteStore
from events.process import on_stop
from events.settings import read_settings

Drop = Callable[..., Path]
GOOD = """
class Recovery:
    name = "recovery"
    bindings = ("workout.completed.#",)
    version = 3
    indexes = {"longest": ("board", "-rest_ms")}

    def keys(self, event):
        return [event.user_id]

    def fold(self, event, documents):
        pass

    reads = {"/users/{user}/rest{?from,to}": max}
"""


@pytest.fixture(autouse=True)
def _imported_modules_are_forgotten() -> Iterator[None]:
    before = set(sys.modules)
    yield
    for name in set(sys.modules) - before:
        del sys.modules[name]


@pytest.fixture
def drop(tmp_path: Path) -> Drop:
    def write(name: str = "recovery", source: str = GOOD) -> Path:
        file = tmp_path / "plugins" / f"{name}.py"
        file.parent.mkdir(exist_ok=True)
        file.write_text(source)
        return file

    return write


def loaded(file: Path) -> Loaded:
    return load(find(file.parent)[file.stem])


def refusal(file: Path) -> str:
    with pytest.raises(Unfit) as refused:
        loaded(file)
    return str(refused.value)


def test_a_file_in_the_folder_is_a_consumer_by_its_stem(drop: Drop) -> None:
    file = drop()
    found = find(file.parent)["recovery"]
    assert found.place == str(file)
    consumer = load(found)
    assert (consumer.name, consumer.version) == ("recovery", 3)
    assert consumer.bindings == ("workout.completed.#",)
    assert consumer.indexes == {"longest": ("board", "-rest_ms")}
    assert list(consumer.reads) == ["/users/{user}/rest{?from,to}"]
    assert consumer.consumer.keys.__self__.__class__.__name__ == "Recovery"  # type: ignore[attr-defined]


def test_the_built_in_consumers_are_entry_points_like_any_other(tmp_path: Path) -> None:
    found = find(tmp_path)
    assert set(found) >= {"achievements", "calories", "leaderboard", "monthly-report"}
    assert found["calories"].place == "consumers.calories:Calories"
    assert load(found["calories"]).name == "calories"
    assert load(found["monthly-report"]).name == "monthly-report"


def test_a_package_that_somebody_installed_is_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "strangers.py").write_text(GOOD)
    installed(tmp_path, "strangers", "recovery = strangers:Recovery")
    monkeypatch.syspath_prepend(str(tmp_path))
    found = find(tmp_path / "nothing")["recovery"]
    assert found.place == "strangers:Recovery"
    assert load(found).version == 3


def test_an_entry_point_may_name_the_module_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "alone.py").write_text(GOOD)
    monkeypatch.syspath_prepend(str(tmp_path))
    point = EntryPoint("recovery", "alone", registry.GROUP)
    monkeypatch.setattr(registry, "entry_points", lambda *, group: [point])
    assert load(find(tmp_path / "nothing")["recovery"]).version == 3


@pytest.mark.parametrize(
    ("value", "says"),
    [
        ("nowhere:Recovery", "No module named 'nowhere'"),
        ("json:Recovery", "has no attribute 'Recovery'"),
        ("json:dumps", "json:dumps"),
        ("json:decoder", "json:decoder"),
    ],
)
def test_an_entry_point_that_names_no_consumer_is_told_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, value: str, says: str
) -> None:
    point = EntryPoint("recovery", value, registry.GROUP)
    monkeypatch.setattr(registry, "entry_points", lambda *, group: [point])
    with pytest.raises(Unfit, match=says) as refused:
        load(find(tmp_path)["recovery"])
    assert value in str(refused.value)


def test_a_file_can_not_take_the_name_of_an_installed_consumer(drop: Drop) -> None:
    file = drop("calories", GOOD.replace("recovery", "calories"))
    assert find(file.parent)["calories"].place == "consumers.calories:Calories"


def installed(folder: Path, name: str, points: str) -> None:
    """Install a package that consists of these entry points."""
    metadata = folder / f"{name}-1.0.dist-info"
    metadata.mkdir(parents=True)
    (metadata / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
    (metadata / "entry_points.txt").write_text(f"[paceline.consumers]\n{points}\n")


def test_no_package_takes_the_name_of_a_consumer_of_ours_wherever_it_stands_on_the_path(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    installed(tmp_path, "strangers", "calories = strangers:Calories")
    monkeypatch.syspath_prepend(str(tmp_path))
    assert find(tmp_path)["calories"].place == "consumers.calories:Calories"
    assert taken(tmp_path) == {
        "strangers:Calories": "strangers:Calories: the name 'calories' is taken by "
        "consumers.calories:Calories, which is installed; uninstall one of the two."
    }


def test_of_two_packages_with_one_name_and_of_a_wrong_name_it_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for place, name, points in (
        ("b", "second", "recovery = second:Recovery\nBad_Name = second:Bad"),
        ("a", "first", "recovery = first:Recovery"),
    ):
        installed(tmp_path / place, name, points)
        monkeypatch.syspath_prepend(str(tmp_path / place))
    assert find(tmp_path)["recovery"].place == "first:Recovery"
    told = taken(tmp_path)
    assert told.keys() == {"second:Recovery", "second:Bad"}
    assert "is taken by first:Recovery, which is installed" in told["second:Recovery"]
    assert "'Bad_Name' must be of a-z" in told["second:Bad"]


def test_looking_for_consumers_runs_nobody_s_code(drop: Drop, tmp_path: Path) -> None:
    flag = tmp_path / "ran"
    file = drop("recovery", f"open({str(flag)!r}, 'w')")
    drop("_hidden")
    drop(".draft")
    (file.parent / "notes.txt").write_text("")
    before = set(sys.modules)
    found = set(find(file.parent)) - {"achievements", "calories", "leaderboard", "monthly-report"}
    assert found == {"recovery"}
    assert not flag.exists()
    assert not {name for name in set(sys.modules) - before if "recovery" in name}


def test_a_folder_that_is_not_there_has_no_consumers(tmp_path: Path) -> None:
    assert "calories" in find(tmp_path / "nothing")


def test_code_is_known_by_its_source(drop: Drop) -> None:
    first = loaded(drop()).code
    assert loaded(drop()).code == first
    assert loaded(drop(source=GOOD + "# changed")).code != first
    assert first


def test_a_file_is_read_again_each_time_it_is_loaded(drop: Drop) -> None:
    assert loaded(drop()).version == 3
    assert loaded(drop(source=GOOD.replace("version = 3", "version = 4"))).version == 4


def test_a_file_that_was_changed_since_it_was_loaded_is_known_as_replaced(drop: Drop) -> None:
    file = drop()
    found, first = find(file.parent)["recovery"], loaded(file)
    assert not is_replaced(found, first)
    drop(source=GOOD + "# changed")
    assert is_replaced(found, first)
    assert not is_replaced(found, loaded(file))
    file.unlink()  # which is for the supervisor to notice
    assert not is_replaced(found, first)


def test_an_installed_consumer_is_replaced_by_a_restart_alone(tmp_path: Path) -> None:
    found = find(tmp_path)["calories"]
    assert not is_replaced(found, replace(load(found), code="another"))


def test_a_process_has_other_code_once_its_file_was_written_and_no_other_has(
    drop: Drop, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = drop()
    monkeypatch.setenv("PACELINE_PLUGINS", str(file.parent))
    names = ("consume recovery", "consume calories", "relay")
    before = [written(read_settings(), name) for name in names]
    drop(source=GOOD + "# changed")
    after = [written(read_settings(), name) for name in names]
    assert [one != other for one, other in zip(before, after, strict=True)] == [True, False, False]


WITHOUT_FOLD = GOOD.replace("def fold", "def unfold")
WRONG: dict[str, tuple[str, str]] = {
    "no syntax": ("class Recovery(:", "cannot be imported: SyntaxError"),
    "raises": ("1 / 0", "cannot be imported: ZeroDivisionError"),
    "exits": ("raise SystemExit(3)", "cannot be imported: SystemExit"),
    "ends in a way of its own": (
        "class Over(BaseException): pass\nraise Over(3)",
        "cannot be imported: Over: 3",
    ),
    "imports what is not there": ("import shoes", "No module named 'shoes'"),
    "not text": ("\0", "cannot be imported: SyntaxError"),
    "empty": ("", "has 0 classes with name = 'recovery'; write one"),
    "another name": (GOOD.replace('"recovery"', '"rest"'), "has 0 classes with name = 'recovery'"),
    "two classes": (GOOD + GOOD.replace("Recovery", "Again"), "has 2 classes"),
    "wants arguments": (
        GOOD + "\n    def __init__(self, shoes): pass",
        "Recovery is made without arguments, and it wants some: missing a required argument: "
        "'shoes'; write def __init__(self).",
    ),
    "raises when it is looked at": (
        GOOD + "\n    @property\n    def version(self): return 1 / 0",
        "ZeroDivisionError",
    ),
    "no version": (GOOD.replace("version = 3", ""), "version is None; write version = 1"),
    "version 0": (GOOD.replace("version = 3", "version = 0"), "version is 0; write version = 1"),
    "version 1.5": (GOOD.replace("version = 3", "version = 1.5"), "version is 1.5; write"),
    "version yes": (GOOD.replace("version = 3", "version = True"), "version is True; write"),
    "version '3'": (GOOD.replace("version = 3", "version = '3'"), "version is '3'; write"),
    "no bindings": (
        GOOD.replace("bindings", "buildings"),
        'bindings is None; write a tuple such as ("workout.completed.#",)',
    ),
    "empty bindings": (GOOD.replace('("workout.completed.#",)', "()"), "bindings is (); write"),
    "a text for bindings": (
        GOOD.replace('("workout.completed.#",)', '("workout.completed.#")'),
        "bindings is 'workout.completed.#'; write a tuple",
    ),
    "a regular expression": (
        GOOD.replace("completed.#", r"completed..*"),
        "'workout.completed..*' is no topic pattern; write words of a-z",
    ),
    "a number as a binding": (GOOD.replace('"workout.completed.#"', "7"), "got 'int'"),
    "no keys": (GOOD.replace("def keys", "def key"), "keys() is missing; write def keys(self, ev"),
    "no fold": (WITHOUT_FOLD, "fold() is missing; write def fold(self, event, documents)"),
    "keys that are a list": (
        GOOD.replace("def keys(self, event):\n        return ", "keys = "),
        "cannot be imported: NameError",
    ),
    "fold that is no function": (WITHOUT_FOLD + "\n    fold = 7", "fold() is missing; write def"),
    "fold without documents": (
        GOOD.replace("fold(self, event, documents)", "fold(self, event)"),
        "fold() cannot be called: too many positional arguments; write def fold(self, event, doc",
    ),
    "keys without self": (
        GOOD.replace("keys(self, event)", "keys(event)"),
        "keys() cannot be called: too many positional arguments; write def keys(self, event)",
    ),
    "async fold": (GOOD.replace("def fold", "async def fold"), "fold() is async or has a yield"),
    "async keys": (GOOD.replace("def keys", "async def keys"), "keys() is async or has a yield"),
    "yielding fold": (
        GOOD.replace("        pass", "        yield"),
        "fold() is async or has a yield, so it would never run",
    ),
    "indexes in a list": (
        GOOD.replace('{"longest": ("board", "-rest_ms")}', '["board"]'),
        "indexes is ['board']; write a mapping such as",
    ),
    "an index of a text": (
        GOOD.replace('("board", "-rest_ms")', '"board"'),
        "index 'longest' is of 'board'; write a name and a tuple of fields",
    ),
    "an index of nothing": (
        GOOD.replace('("board", "-rest_ms")', "()"),
        "index 'longest' is of ()",
    ),
    "an index of a path": (GOOD.replace("-rest_ms", "rest.ms"), "index 'longest' is of"),
    "an index of quotes": (GOOD.replace("-rest_ms", "x\\\"' --"), "index 'longest' is of"),
    "an index named by quotes": (GOOD.replace("longest", "x\\\"' --"), "write a name and a tuple"),
    "an index named by a number": (GOOD.replace('"longest"', "7"), "index 7 is of"),
    "reads in a list": (GOOD.replace("reads = {", "reads = [7] or {"), "reads is [7]; write a map"),
    "a read that is no function": (GOOD.replace(": max", ": 7"), "reads is {"),
    "a read of one argument": (
        GOOD.replace(": max", ": lambda documents: 1"),
        "the read '/users/{user}/rest{?from,to}' cannot be called: too many positional arguments; "
        "write a function of (documents, query)",
    ),
    "a read that yields": (
        GOOD.replace(": max", ": lambda documents, query: (yield)"),
        "the read '/users/{user}/rest{?from,to}' is async or has a yield; write a function",
    ),
    "an async read": (
        "async def rest(documents, query): pass\n" + GOOD.replace(": max", ": rest"),
        "the read '/users/{user}/rest{?from,to}' is async or has a yield; write a function",
    ),
    "a read without a path": (
        GOOD.replace('"/users/{user}/rest{?from,to}"', "7"),
        "write a mapping of paths to functions",
    ),
}


@pytest.mark.parametrize(("source", "says"), WRONG.values(), ids=WRONG.keys())
def test_a_wrong_plug_in_is_told_its_file_what_is_wrong_and_what_to_write(
    drop: Drop, source: str, says: str
) -> None:
    file = drop(source=source)
    message = refusal(file)
    assert message.startswith(str(file))
    assert says in message
    assert "\n" not in message


@pytest.mark.parametrize(
    "name", ["Recovery", "re covery", "recovery!", "-r", "--help", "r" * 64, "réc"]
)
def test_a_file_whose_name_is_none_is_no_consumer_and_is_told_what_a_name_is_made_of(
    drop: Drop, name: str
) -> None:
    file = drop(name, GOOD.replace('"recovery"', repr(name)))
    says = f"the name {name!r} must be of a-z, 0-9 and '-', not '-' at first, at most 63."
    assert taken(file.parent) == {str(file): f"{file}: {says}"}
    assert name not in find(file.parent)
    with pytest.raises(Unfit) as refused:
        load(single(file))
    assert str(refused.value) == f"{file}: {says}"


def test_who_imports_a_ctrl_c_is_told_so_where_no_other_can_come(
    drop: Drop, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = drop(source="raise KeyboardInterrupt")
    with pytest.raises(KeyboardInterrupt):
        loaded(file)
    monkeypatch.setattr(signal, "getsignal", lambda number: on_stop)
    assert "line 1, cannot be imported: KeyboardInterrupt" in refusal(file)


def test_no_memory_is_no_fault_of_a_plug_in(drop: Drop) -> None:
    with pytest.raises(MemoryError):
        loaded(drop(source="raise MemoryError"))


def test_all_that_is_wrong_is_told_at_once(drop: Drop) -> None:
    message = refusal(drop(source="class R:\n    name = 'recovery'"))
    assert all(part in message for part in ("version is", "bindings is", "keys()", "fold()"))


def test_a_wrong_plug_in_disturbs_no_other(drop: Drop) -> None:
    good = drop("rest", GOOD.replace('"recovery"', '"rest"'))
    for number, (source, _) in enumerate(WRONG.values()):
        refusal(drop(f"wrong-{number}", source.replace('"recovery"', f'"wrong-{number}"')))
    assert loaded(good).name == "rest"


def test_two_files_do_not_share_what_they_import(drop: Drop) -> None:
    one = loaded(drop("one", "LIMIT = 1\n" + GOOD.replace('"recovery"', '"one"')))
    two = loaded(drop("two", "LIMIT = 2\n" + GOOD.replace('"recovery"', '"two"')))
    modules = [sys.modules[type(each.consumer).__module__] for each in (one, two)]
    assert [module.LIMIT for module in modules] == [1, 2]


@pytest.mark.parametrize("name", ["documents", "fates", "open", "sqlite_x", "one_live", "a-b"])
def test_an_index_may_have_any_name(drop: Drop, tmp_path: Path, name: str) -> None:
    consumer = loaded(drop(source=GOOD.replace("longest", name)))
    store = SqliteStore(tmp_path / "store.db")
    made = store.begin(version=1, code="", bindings=("#",), indexes=consumer.indexes)
    assert store.documents(made.number).listed(name, limit=5) == ([], None)
    store.close()


@pytest.mark.parametrize("value", ["my-plugin.mod:Evil", "mod:", ":Class", "a b:C"])
def test_an_entry_point_that_is_none_is_unfit_and_disturbs_no_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, value: str
) -> None:
    points = [EntryPoint("evil", value, registry.GROUP), *entry_points(group=registry.GROUP)]
    monkeypatch.setattr(registry, "entry_points", lambda *, group: points)
    found = find(tmp_path)
    assert load(found["calories"]).name == "calories"
    with pytest.raises(Unfit, match="is not a module, or module:Class"):
        load(found["evil"])


def test_an_entry_point_whose_name_leads_out_of_the_data_folder_is_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    point = EntryPoint("../../evil", "consumers.calories:Calories", registry.GROUP)
    monkeypatch.setattr(registry, "entry_points", lambda *, group: [point])
    assert find(tmp_path) == {}


def test_a_plugin_with_the_name_of_a_part_of_the_platform_takes_nobodys_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("producer", "relay", "query"):
        (tmp_path / f"{name}.py").write_text("")
    monkeypatch.setenv("PACELINE_PLUGINS", str(tmp_path))
    wanted = cli.wanted(read_settings())
    assert wanted["producer"] == ("serve", "producer")
    assert wanted["relay"] == ("relay",)
    assert wanted["query"] == ("serve", "query")
    assert {("consume", name) for name in ("producer", "relay", "query")} <= set(wanted.values())
