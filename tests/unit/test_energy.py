"""The formulas against published figures, their ranges, and the papers written out once more."""

from fractions import Fraction
from math import floor
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from consumers.energy import METS, Energy, counted, estimate, met_tenths
from events.workouts import Athlete, Sex, Sport, WorkoutCompleted
from tests.factories import SPORTS, workout, workouts

HALF_AN_HOUR = 1_800_000
MAN = Athlete(weight_g=75_000, birth_year=2026 - 35, sex=Sex.MALE)
WOMAN = Athlete(weight_g=60_000, birth_year=2026 - 30, sex=Sex.FEMALE)


def kcal(**changes: Any) -> float:
    return estimate(workout(**changes)).energy_cal / 1000


def method(**changes: Any) -> str:
    return estimate(workout(**changes)).method


def test_a_man_of_75_kg_and_35_years_burns_441_kcal_in_30_min_at_150_bpm() -> None:
    assert kcal(avg_heart_rate_mbpm=150_000, athlete=MAN) == pytest.approx(441.0, abs=0.05)


def test_a_woman_of_60_kg_and_30_years_burns_296_kcal_in_30_min_at_150_bpm() -> None:
    assert kcal(avg_heart_rate_mbpm=150_000, athlete=WOMAN) == pytest.approx(296.3, abs=0.05)


def test_half_an_hour_of_running_at_160_m_a_minute_costs_70_kg_372_75_kcal() -> None:
    assert kcal(distance_mm=160 * 30 * 1000) == 372.75


def test_half_an_hour_of_walking_at_80_m_a_minute_costs_70_kg_120_75_kcal() -> None:
    assert kcal(sport=Sport.WALKING, distance_mm=80 * 30 * 1000) == 120.75


def test_half_an_hour_at_9_3_met_costs_70_kg_325_5_kcal() -> None:
    assert kcal(sport=Sport.STAIR_CLIMBING, distance_mm=None) == 325.5


def test_an_hour_at_200_w_costs_717_kcal() -> None:
    # 720 kJ of work are 172.08 kcal; at 24 % efficiency the body burns 717.02.
    ride = {"sport": Sport.CYCLING, "duration_ms": 3_600_000, "avg_power_mw": 200_000}
    assert kcal(**ride) == pytest.approx(717.02, abs=0.005)


def test_power_is_taken_before_heart_rate_before_speed_before_the_sport() -> None:
    known = {"avg_power_mw": 250_000, "avg_heart_rate_mbpm": 150_000, "athlete": MAN}
    assert method(**known) == "power"
    assert method(**{**known, "avg_power_mw": None}) == "heart_rate"
    assert method(**{**known, "avg_power_mw": None, "avg_heart_rate_mbpm": None}) == "speed"
    assert method(distance_mm=None) == "met"


@pytest.mark.parametrize(("power_mw", "found"), [(0, 0), (1, 1), (2_000_000, 1), (2_000_001, 0)])
def test_an_average_power_is_between_nothing_and_2000_w(power_mw: int, found: int) -> None:
    assert (method(avg_power_mw=power_mw) == "power") == bool(found)


@pytest.mark.parametrize(
    ("heart_rate_mbpm", "birth_year", "weight_g", "found"),
    [
        # 30 years: the maximum is 187, 57 % of it 106.59 and 90 % of it 168.3
        (106_590, 1996, 70_000, True),
        (106_589, 1996, 70_000, False),
        (168_300, 1996, 70_000, True),
        (168_301, 1996, 70_000, False),
        (150_000, 2026 - 18, 70_000, True),
        (150_000, 2026 - 17, 70_000, False),
        (150_000, 2026 - 45, 70_000, True),
        (150_000, 2026 - 46, 70_000, False),
        (150_000, 1996, 47_000, True),
        (150_000, 1996, 46_999, False),
        (150_000, 1996, 120_000, True),
        (150_000, 1996, 120_001, False),
    ],
)
@pytest.mark.parametrize("sex", list(Sex))
def test_heart_rate_counts_only_for_those_whom_the_formula_was_made_for(
    sex: Sex, heart_rate_mbpm: int, birth_year: int, weight_g: int, *, found: bool
) -> None:
    athlete = Athlete(weight_g=weight_g, birth_year=birth_year, sex=sex)
    used = method(avg_heart_rate_mbpm=heart_rate_mbpm, athlete=athlete)
    assert (used == "heart_rate") is found


@pytest.mark.parametrize(
    "athlete",
    [
        None,
        Athlete(weight_g=70_000),
        Athlete(weight_g=70_000, birth_year=1990),
        Athlete(weight_g=70_000, sex=Sex.MALE),
    ],
)
def test_heart_rate_needs_the_sex_and_the_age(athlete: Athlete | None) -> None:
    assert method(avg_heart_rate_mbpm=150_000, athlete=athlete) == "speed"


def test_the_age_is_taken_in_the_year_of_the_local_start() -> None:
    turned_18 = Athlete(weight_g=70_000, birth_year=2008, sex=Sex.FEMALE)
    assert method(avg_heart_rate_mbpm=150_000, athlete=turned_18) == "heart_rate"
    younger = workout().started_at.replace(year=2025)
    assert method(avg_heart_rate_mbpm=150_000, athlete=turned_18, started_at=younger) == "speed"


@pytest.mark.parametrize(
    ("sport", "metres_in_30_min", "expected"),
    [
        (Sport.RUNNING, 134 * 30, "met"),
        (Sport.RUNNING, 134 * 30 + 1, "speed"),
        (Sport.RUNNING, 450 * 30, "speed"),
        (Sport.RUNNING, 450 * 30 + 1, "met"),
        (Sport.WALKING, 50 * 30 - 1, "met"),
        (Sport.WALKING, 50 * 30, "speed"),
        (Sport.WALKING, 100 * 30, "speed"),
        (Sport.WALKING, 100 * 30 + 1, "met"),
        (Sport.HIKING, 80 * 30, "met"),
        (Sport.CYCLING, 200 * 30, "met"),
    ],
)
def test_speed_counts_only_for_runs_and_walks_in_the_range_of_their_equation(
    sport: Sport, metres_in_30_min: int, expected: str
) -> None:
    assert method(sport=sport, distance_mm=metres_in_30_min * 1000) == expected


def test_what_was_climbed_changes_nothing_where_what_was_descended_is_not_known() -> None:
    assert kcal(ascent_mm=500_000) == kcal(ascent_mm=None)


def mets(mph: str) -> float:
    metres = Fraction(mph) * Fraction("1609.344") / 2
    return float(met_tenths(workout(distance_mm=metres * 1000)) / 10)


def test_a_run_outside_the_equation_is_placed_between_the_speeds_of_the_compendium() -> None:
    assert [mets(mph) for mph in ("4.1", "4.3", "4.8", "5.1", "6.2", "7", "8", "10")] == [
        *(6.5, 7.8, 7.8, 8.5, 9.3, 11.0, 12.0, 14.8)
    ]
    assert mets("4.9") == 8.15
    assert mets("9") == 13.4
    assert mets("2") == 6.5
    assert mets("12") == 14.8
    assert mets("20") == 8.0  # no runner: the distance is wrong
    assert met_tenths(workout(distance_mm=None)) == 80
    assert met_tenths(workout(distance_mm=0)) == 80


@pytest.mark.parametrize(
    ("changes", "met"),
    [
        ({"sport": Sport.WALKING, "distance_mm": None}, 3.8),
        ({"sport": Sport.WALKING, "distance_mm": 93 * 30_000}, 3.8),
        ({"sport": Sport.WALKING, "distance_mm": 94 * 30_000}, 4.8),
        ({"sport": Sport.SWIMMING, "distance_mm": 56 * 30_000}, 5.8),
        ({"sport": Sport.SWIMMING, "distance_mm": 57 * 30_000}, 9.8),
        ({"sport": Sport.CYCLING}, 7.0),
        ({"sport": Sport.YOGA}, 2.3),
        ({"sport": Sport.HIIT}, 7.0),
        ({"sport": Sport.OTHER}, 4.5),
        ({"sport": Sport.STRENGTH_TRAINING}, 3.5),
        ({"sport": Sport.STRENGTH_TRAINING, "avg_heart_rate_mbpm": 150_000}, 3.5),
    ],
)
def test_the_compendium_gives_each_sport_its_figure(changes: dict[str, Any], met: float) -> None:
    assert float(met_tenths(workout(**changes)) / 10) == met


@pytest.mark.parametrize(("heart_rate_mbpm", "met"), [(143_989, 3.5), (143_990, 6.0)])
def test_lifting_weights_is_hard_from_77_percent_of_the_maximum_heart_rate(
    heart_rate_mbpm: int, met: float
) -> None:
    lifting = workout(
        sport=Sport.STRENGTH_TRAINING,
        avg_heart_rate_mbpm=heart_rate_mbpm,
        athlete=Athlete(birth_year=1996),
    )
    assert float(met_tenths(lifting) / 10) == met


def test_every_figure_of_the_compendium_is_one_that_a_body_can_do() -> None:
    assert all(10 < tenths < 160 for tenths in METS.values())
    assert set(Sport) - METS.keys() == {
        Sport.WHEELCHAIR_PUSH_WALK,
        Sport.WHEELCHAIR_PUSH_RUN,
        Sport.TRANSITION,
        Sport.OTHER,
    }


@pytest.mark.parametrize(
    ("changes", "assumed"),
    [
        ({}, True),
        ({"athlete": Athlete(birth_year=1990)}, True),
        ({"athlete": Athlete(weight_g=70_000)}, False),
        ({"sport": Sport.YOGA}, True),
        ({"avg_power_mw": 200_000}, False),
        (
            {
                "avg_heart_rate_mbpm": 150_000,
                "athlete": Athlete(birth_year=1996, sex=Sex.MALE),
            },
            True,
        ),
    ],
)
def test_a_weight_that_was_assumed_is_told(changes: dict[str, Any], *, assumed: bool) -> None:
    found = estimate(workout(**changes))
    assert found.assumed_weight is assumed
    known = Athlete(70_000, *_rest(changes.get("athlete")))
    assert estimate(workout(**{**changes, "athlete": known})).energy_cal == found.energy_cal


def _rest(athlete: Athlete | None) -> tuple[int | None, Sex | None]:
    return (athlete.birth_year, athlete.sex) if athlete else (None, None)


def test_the_devices_own_figure_counts_even_if_it_is_nothing() -> None:
    for device_cal in (0, 516_000):
        measured = workout(energy_cal=device_cal)
        assert counted(measured, estimate(measured)) == Energy(device_cal, "device", False)
    unmeasured = workout()
    assert counted(unmeasured, estimate(unmeasured)) == estimate(unmeasured)


def test_a_half_is_rounded_up_once_at_the_end() -> None:
    # 0.96 W over 0.523 s are half a calorie; (7 × 24 s + 24 × 60 m) × 1.5 kg are 100.5.
    assert kcal(avg_power_mw=960, duration_ms=523) == 0.001
    assert kcal(avg_power_mw=960, duration_ms=522) == 0
    light = Athlete(weight_g=1_500)
    assert kcal(duration_ms=24_000, distance_mm=60_000, athlete=light) == 0.101


# The papers once more, in their own units, and nothing shared with what is checked.
MET = {"cycling": "7", "yoga": "2.3", "other": "4.5"}
RUNS = [
    *[("4", "6.5"), ("4.2", "6.5"), ("4.3", "7.8"), ("4.8", "7.8"), ("5", "8.5"), ("5.2", "8.5")],
    *[("6", "9.3"), ("6.3", "9.3"), ("7", "11"), ("8", "12"), ("10", "14.8")],
]


def published(fact: WorkoutCompleted) -> tuple[int, str]:
    """Calories and method of the best formula, for the sports of `tests.factories.SPORTS`."""
    minutes = Fraction(fact.duration_ms, 60_000)
    athlete = fact.athlete or Athlete()
    kg = Fraction(70 if athlete.weight_g is None else Fraction(athlete.weight_g, 1000))
    if fact.avg_power_mw and fact.avg_power_mw <= 2_000_000:
        kilojoules = Fraction(fact.avg_power_mw, 1000) * minutes * 60 / 1000
        return _calories(kilojoules / Fraction("4.184") / Fraction("0.24")), "power"
    if (kj_a_minute := _keytel(fact, athlete, kg)) is not None:
        return _calories(kj_a_minute / Fraction("4.184") * minutes), "heart_rate"
    speed = None if fact.distance_mm is None else Fraction(fact.distance_mm, 1000) / minutes
    oxygen = None
    if fact.sport == "running" and speed is not None and 134 < speed <= 450:
        oxygen = Fraction("3.5") + Fraction("0.2") * speed
    if fact.sport == "walking" and speed is not None and 50 <= speed <= 100:
        oxygen = Fraction("3.5") + Fraction("0.1") * speed
    if oxygen is not None:
        return _calories(oxygen * kg / 1000 * 5 * minutes), "speed"
    return _calories(_met(fact.sport, speed or Fraction(0)) * kg * minutes / 60), "met"


def _keytel(fact: WorkoutCompleted, athlete: Athlete, kg: Fraction) -> Fraction | None:
    if None in (fact.avg_heart_rate_mbpm, athlete.sex, athlete.birth_year):
        return None
    bpm = Fraction(fact.avg_heart_rate_mbpm or 0, 1000)
    age = Fraction(fact.local_date.year - (athlete.birth_year or 0))
    share = bpm / (208 - Fraction("0.7") * age) * 100
    if not (18 <= age <= 45 and 47 <= kg <= 120 and 57 <= share <= 90):
        return None
    terms = {
        "male": ("-55.0969", "0.6309", "0.1988", "0.2017"),
        "female": ("-20.4022", "0.4472", "-0.1263", "0.074"),
    }[str(athlete.sex)]
    constant, of_heart_rate, of_weight, of_age = map(Fraction, terms)
    return constant + of_heart_rate * bpm + of_weight * kg + of_age * age


def _met(sport: str, speed: Fraction) -> Fraction:
    if sport == "walking":
        return Fraction("4.8") if speed >= 94 else Fraction("3.8")
    if sport == "swimming":
        return Fraction("9.8") if speed >= 57 else Fraction("5.8")
    if sport != "running":
        return Fraction(MET[sport])
    if speed > 450 or speed == 0:
        return Fraction(8)
    mph = speed * 60 / Fraction("1609.344")
    points = [(Fraction(at), Fraction(met)) for at, met in RUNS]
    below = [point for point in points if point[0] <= mph]
    above = [point for point in points if point[0] >= mph]
    if not below or not above:
        return (below[-1:] or above[:1])[0][1]
    (low, low_met), (high, high_met) = below[-1], above[0]
    share = (mph - low) / (high - low) if high > low else 0
    return low_met * (1 - share) + high_met * share


def _calories(kilocalories: Fraction) -> int:
    return floor(kilocalories * 1000 + Fraction(1, 2))


@given(workouts(sport=st.sampled_from(SPORTS)))
def test_any_workout_has_the_energy_of_the_published_formulas(fact: WorkoutCompleted) -> None:
    found = estimate(fact)
    assert (found.energy_cal, found.method) == published(fact)


@given(
    workouts(
        sport=st.sampled_from([Sport.RUNNING, Sport.WALKING, Sport.CYCLING]),
        duration_ms=st.integers(600_000, 7_200_000),
        elapsed_ms=None,
        distance_mm=st.integers(500_000, 40_000_000),
        avg_heart_rate_mbpm=st.integers(90_000, 190_000),
        avg_power_mw=None,
        athlete=st.builds(
            Athlete,
            weight_g=st.integers(45_000, 125_000),
            birth_year=st.integers(1975, 2010),
            sex=st.sampled_from(Sex),
        ),
    )
)
def test_a_plausible_workout_has_the_energy_of_the_published_formulas(
    fact: WorkoutCompleted,
) -> None:
    found = estimate(fact)
    assert (found.energy_cal, found.method) == published(fact)


@given(workouts())
def test_energy_is_a_whole_number_and_never_negative(fact: WorkoutCompleted) -> None:
    found = estimate(fact)
    assert type(found.energy_cal) is int
    assert found.energy_cal >= 0
