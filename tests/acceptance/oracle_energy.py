"""What a workout cost, in exact fractions, straight from the published formulas.

No line of it is shared with the consumers. It is made for the efforts that `crowd` draws: a limit
such as "brisk from here on" lies anywhere between them.
"""

from fractions import Fraction
from math import floor
from typing import Any, NamedTuple

METS = {  # 2024 Adult Compendium: the general figure, and where there is a harder one, that
    "cycling": ("7.0", "7.0"),
    "walking": ("3.8", "4.8"),
    "swimming": ("5.8", "9.8"),
    "strength_training": ("3.5", "6.0"),
    "yoga": ("2.3", "2.3"),
    "hiit": ("7.0", "7.0"),
    "other": ("4.5", "4.5"),  # between the 3 and the 6 METs of what counts as moderate
}
METRES_A_MILE = Fraction("1609.344")


class Spent(NamedTuple):
    """Energy in whole calories, by which method, and whether the weight is a guess."""

    cal: int
    method: str
    weight_assumed: bool


def exact(value: float | None) -> Fraction | None:
    """A posted number as it was written."""
    return None if value is None else Fraction(str(value))


def spent(workout: dict[str, Any]) -> Spent:
    """The best formula's figure: power, heart rate, speed, MET."""
    minutes = Fraction(str(workout["duration_s"])) / 60
    athlete = workout.get("athlete", {})
    known_kg = exact(athlete.get("weight_kg"))
    kg = Fraction(70) if known_kg is None else known_kg
    power = exact(workout.get("avg_power_w"))
    if power:
        joules = power * minutes * 60
        return Spent(
            _calories(joules / 1000 / Fraction("4.184") / Fraction("0.24")), "power", False
        )
    by_heart = _by_heart_rate(workout, athlete, kg)
    if by_heart is not None:
        return Spent(_calories(by_heart * minutes), "heart_rate", known_kg is None)
    oxygen = _oxygen(workout, minutes)
    if oxygen is not None:
        kcal = oxygen * kg / 1000 * 5 * minutes
        return Spent(_calories(kcal), "speed", known_kg is None)
    kcal = _met(workout, athlete, minutes) * kg * minutes / 60
    return Spent(_calories(kcal), "met", known_kg is None)


def _calories(kcal: Fraction) -> int:
    return floor(kcal * 1000 + Fraction(1, 2))


def _share_of_most(workout: dict[str, Any], athlete: dict[str, Any]) -> Fraction | None:
    """The heart rate as a share of the greatest for the age."""
    if "avg_heart_rate" not in workout or "birth_year" not in athlete:
        return None
    return Fraction(str(workout["avg_heart_rate"])) / (
        208 - Fraction("0.7") * _age(workout, athlete)
    )


def _age(workout: dict[str, Any], athlete: dict[str, Any]) -> int:
    return int(workout["started_at"][:4]) - int(athlete["birth_year"])


def _by_heart_rate(
    workout: dict[str, Any], athlete: dict[str, Any], kg: Fraction
) -> Fraction | None:
    """Keytel et al. 2005, kcal a minute."""
    share = _share_of_most(workout, athlete)
    if share is None or "sex" not in athlete:
        return None
    age, rate = _age(workout, athlete), Fraction(str(workout["avg_heart_rate"]))
    if not (18 <= age <= 45 and 47 <= kg <= 120 and Fraction("0.57") <= share <= Fraction("0.90")):
        return None
    if athlete["sex"] == "male":
        kilojoules = (
            -Fraction("55.0969")
            + Fraction("0.6309") * rate
            + Fraction("0.1988") * kg
            + Fraction("0.2017") * age
        )
    else:
        kilojoules = (
            -Fraction("20.4022")
            + Fraction("0.4472") * rate
            - Fraction("0.1263") * kg
            + Fraction("0.074") * age
        )
    return kilojoules / Fraction("4.184")


def _oxygen(workout: dict[str, Any], minutes: Fraction) -> Fraction | None:
    """ACSM's equations on the level, ml/kg/min."""
    if "distance_m" not in workout:
        return None
    speed = Fraction(str(workout["distance_m"])) / minutes
    if workout["sport"] == "running" and speed > 134:
        return Fraction("3.5") + Fraction("0.2") * speed
    if workout["sport"] == "walking" and 50 <= speed <= 100:
        return Fraction("3.5") + Fraction("0.1") * speed
    return None


def _met(workout: dict[str, Any], athlete: dict[str, Any], minutes: Fraction) -> Fraction:
    speed = Fraction(str(workout.get("distance_m", 0))) / minutes
    if workout["sport"] == "running":
        # Slow runs are all that is left for this table, and 4.3 to 4.8 mph are one entry of it.
        if not speed:
            return Fraction("8.0")
        assert Fraction("4.3") <= speed * 60 / METRES_A_MILE <= Fraction("4.8"), (
            "not a run for this oracle"
        )
        return Fraction("7.8")
    share = _share_of_most(workout, athlete) or 0
    hard = {
        "walking": speed > 100,
        "swimming": speed > 55,
        "strength_training": share > Fraction("0.7"),
    }
    return Fraction(METS[workout["sport"]][hard.get(workout["sport"], False)])
