"""Leaderboards: who did most in a week, a month, a year or ever, in one sport or in all.

A document is what a person did on one board, such as `2026-W47/running`: a sum per metric and when
it was reached, which is the end of the last workout that counted. An index per metric ranks the
board; who has nothing of a metric is not ranked by it.
"""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, date, datetime, timedelta
from typing import Any, NamedTuple

from consumers.energy import counted, estimate

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
MILLISECOND = timedelta(milliseconds=1)
ALL = "all"
SPORTS = (
    ALL,
    *("running", "cycling", "swimming", "walking", "hiking", "rowing", "strength_training"),
    *("yoga", "pilates", "hiit", "cardio_training", "elliptical", "stair_climbing"),
    *("flexibility_training", "fitness_equipment", "training", "cross_country_skiing"),
    *("alpine_skiing", "snowboarding", "snowshoeing", "ice_skating", "inline_skating"),
    *("mountaineering", "rock_climbing", "paddling", "kayaking", "stand_up_paddleboarding"),
    *("surfing", "sailing", "e_biking", "horseback_riding", "golf", "soccer", "basketball"),
    *("tennis", "racket", "boxing", "dance", "diving", "wheelchair_push_walk"),
    *("wheelchair_push_run", "transition", "multisport", "other"),
)
# What a window looks like, and what has to follow so that it is a date.
WINDOWS = {"[0-9]{4}-W[0-9]{2}": "-1", "[0-9]{4}-[0-9]{2}": "-01", "[0-9]{4}": "-01-01"}


class Metric(NamedTuple):
    """The fields of a sum and of its instant (ms since 1970), and how the sum is shown."""

    sum: str
    reached: str
    shown: str
    per: int = 1000


METRICS = {
    "distance": Metric("distance_mm", "distance_reached_ms", "distance_m"),
    "moving-time": Metric("moving_time_ms", "moving_time_reached_ms", "moving_time_s"),
    "energy": Metric("energy_cal", "energy_reached_ms", "energy_kcal"),
    "count": Metric("workouts", "workouts_reached_ms", "workouts", per=1),
}


def _board(documents: Any, query: Any) -> dict[str, Any]:
    """The best of a board, or with `around` a person and those before and after."""
    metric = _one_of("metric", query["metric"], METRICS)
    sport = _one_of("sport", query.get("sport", ALL), SPORTS)
    window, limit = _window(query["window"]), _limit(query.get("limit", "50"))
    board, cursor, around = f"{window}/{sport}", query.get("cursor"), query.get("around")
    first = 0
    if around is not None and cursor is None:  # a cursor goes on from the page that `around` began
        first = max(0, _place(documents, metric, board, around) - limit // 2)
    page, following = documents.listed(metric, (board,), limit=limit, after=cursor, skip=first)
    entries = [document for _, document in page]
    if cursor is not None and entries:
        first = _place(documents, metric, board, entries[0]["user"])
    items = _ranked(documents, metric, board, entries, first=first)
    return {"metric": metric, "window": window, "sport": sport, "items": items, "next": following}


def _place(documents: Any, metric: str, board: str, user: str) -> int:
    """Return how many people the board shows before this one."""
    of, document = METRICS[metric], documents.get(f"{board}/{user}")
    if document is None or of.sum not in document:
        raise LookupError(f"{user[:64]!r} is not on the board {metric} of {board}")
    before: int = documents.before(metric, (board,), (document[of.sum], document[of.reached], user))
    return before


def _ranked(
    documents: Any, metric: str, board: str, entries: list[dict[str, Any]], *, first: int
) -> list[dict[str, Any]]:
    """Return a page as it is shown, with competition ranks: 1, 2, 2, 4."""
    if not entries:
        return []
    of, best = METRICS[metric], entries[0][METRICS[metric].sum]
    ranks = {best: 1 + documents.before(metric, (board,), (best,))}
    return [
        {
            "rank": ranks.setdefault(document[of.sum], place),
            "user_id": document["user"],
            of.shown: document[of.sum] / of.per if of.per > 1 else document[of.sum],
            "reached_at": (EPOCH + document[of.reached] * MILLISECOND).isoformat(),
        }
        for place, document in enumerate(entries, first + 1)
    ]


def _one_of(name: str, value: str, allowed: Iterable[str]) -> str:
    if value not in allowed:
        raise ValueError(f"{name} is {value[:40]!r}; it must be one of {', '.join(allowed)}")
    return value


def _window(text: str) -> str:
    for shape, rest in WINDOWS.items():
        if re.fullmatch(shape, text):
            try:
                date.fromisoformat(text + rest)
            except ValueError:
                break
            return text
    if text == ALL:
        return text
    raise ValueError(
        f"window is {text[:40]!r}; it must be an ISO week such as 2026-W47, a month such as"
        f" 2026-11, a year such as 2026, or {ALL}"
    )


def _limit(text: str) -> int:
    if not re.fullmatch("[0-9]{1,3}", text) or not 1 <= int(text) <= 200:
        raise ValueError(f"limit is {text[:40]!r}; it must be a whole number from 1 to 200")
    return int(text)


class Leaderboard:
    """Folds public workouts into the boards of their windows, per sport and of all sports."""

    name = "leaderboard"
    bindings: Sequence[str] = ("workout.completed.#",)
    version = 1
    indexes: Mapping[str, Sequence[str]] = {
        name: ("board", f"-{metric.sum}", metric.reached, "user")
        for name, metric in METRICS.items()
    }
    reads: Mapping[str, Callable[..., Any]] = {
        "/leaderboards/{metric}/{window}{?sport,limit,around,cursor}": _board
    }

    def keys(self, event: Any) -> list[str]:
        """Return the person's entries on eight boards, or none for a private workout."""
        workout = event.data
        if workout.visibility != "public":
            return []
        day, week = workout.local_date.isoformat(), workout.local_date.isocalendar()
        windows = (f"{week.year:04}-W{week.week:02}", day[:7], day[:4], ALL)
        return [
            f"{window}/{sport}/{event.user_id}"
            for window in windows
            for sport in (workout.sport.value, ALL)
        ]

    def fold(self, event: Any, documents: dict[str, Any]) -> None:
        """Add one workout to each metric that it has something of."""
        workout = event.data
        ended_ms = (event.time - EPOCH) // MILLISECOND
        energy = counted(workout, estimate(workout))
        amounts = (workout.distance_mm, workout.duration_ms, energy.energy_cal, 1)
        adds = [(of, n) for of, n in zip(METRICS.values(), amounts, strict=True) if n]
        for key, document in documents.items():
            document["board"], _, document["user"] = key.rpartition("/")
            for of, amount in adds:
                document[of.sum] = document.get(of.sum, 0) + amount
                document[of.reached] = max(document.get(of.reached, ended_ms), ended_ms)
