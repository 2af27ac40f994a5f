"""A newcomer: the text of a consumer that somebody begins with, and of its test."""

from keyword import iskeyword

_PLUGIN = '''"""How long people worked out, per person and local day."""


class {kind}:
    """Adds up the moving time of a person's local day."""

    name = "{name}"
    bindings = ("workout.completed.#",)  # EDIT: which events it takes
    version = 1

    def keys(self, event):
        """The documents that an event touches."""
        return [f"{{event.user_id}}/{{event.data.local_date}}"]  # EDIT: one per person and day

    def fold(self, event, documents):
        """Add one event to its documents; one that is new is empty."""
        for document in documents.values():
            total = document.get("duration_ms", 0)
            document["duration_ms"] = total + event.data.duration_ms  # EDIT: what is added up
'''
_TEST = '''"""What {name} makes of workouts, and that it keeps its contract."""

from pathlib import Path

from consumers.testing import check, load

CONSUMER = Path(__file__).with_name("{name}.py")


def test_the_workouts_of_a_day_are_added_up(paceline):
    paceline.add(load(CONSUMER))
    paceline.post(user_id="ada", started_at="2026-11-24T07:30:00+01:00", duration_s=1800)
    paceline.post(user_id="ada", started_at="2026-11-24T18:00:00+01:00", duration_s=600)
    paceline.post(user_id="ada", started_at="2026-11-25T00:00:00+01:00", duration_s=60)
    paceline.assert_documents(
        "{name}",
        {{
            "ada/2026-11-24": {{"duration_ms": 2_400_000}},
            "ada/2026-11-25": {{"duration_ms": 60_000}},
        }},
    )


def test_it_keeps_its_contract():
    check(load(CONSUMER))
'''


def class_name(name: str) -> str:
    """Return what the class of a consumer is called: `rest-days` is `RestDays`."""
    joined = "".join(part.capitalize() for part in name.split("-"))
    return joined if joined.isidentifier() and not iskeyword(joined) else f"Consumer{joined}"


def plugin(name: str) -> str:
    """Return the source of a consumer of this name; three of its lines are marked EDIT."""
    return _PLUGIN.format(name=name, kind=class_name(name))


def plugin_test(name: str) -> str:
    """Return the source of its test, which lies beside it and passes as it is."""
    return _TEST.format(name=name)
