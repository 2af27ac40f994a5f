"""The formulas for energy: what a workout cost, gross, from the best that is known about it.

Power is better than heart rate, that is better than speed, and that is better than the kind of
sport alone. Outside the range that a formula was made for, the next one is taken. All are exact:
whole numbers (mW, ms, mm, g, thousandths of a beat) up to the one rounding, half up, to whole
calories (1 kcal = 1000 cal = 4184 J), so that whoever computes them again gets the same figure.
"""

from dataclasses import dataclass
from fractions import Fraction
from itertools import pairwise

from events.workouts import Sport, WorkoutCompleted

VERSION = 1  # of the formulas; raise it, and the consumers' versions, when a figure changes
DEVICE = "device"

ASSUMED_WEIGHT_G = 70_000
GREATEST_POWER_MW = 2_000_000  # W × 1000; a sprinter's peak, so as an average a broken sensor

AGES = (18, 45)  # years; this and the next two: the people that Keytel et al. measured
WEIGHTS_G = (47_000, 120_000)
PERCENT_OF_MAX_HEART_RATE = (57, 90)
VIGOROUS = 77  # % of the maximum heart rate from which ACSM calls an effort vigorous

WALKING_M_MIN = (50, 100)  # m/min, as the next ones
RUNNING_M_MIN = (134, 450)  # the world record over 1,500 m is 437: an average above is no run
BRISK_WALKING_M_MIN = 94  # 3.5 mph
FAST_SWIMMING_M_MIN = 57  # nearer to the Compendium's fast (75 yd/min) than to its medium (50)

# Tenths of a MET, from the 2024 Adult Compendium of Physical Activities (Herrmann et al. 2024,
# J Sport Health Sci 13:6), with its code: where it has several efforts, the ordinary one.
BRISK_WALKING, FAST_SWIMMING, HARD_STRENGTH_TRAINING = 48, 98, 60  # 17200, 18230, 02050
UNKNOWN_MET = 45  # the middle of what counts as moderate, 3 to 6 METs
METS: dict[Sport, int] = {
    Sport.RUNNING: 80,  # 12150, where the speed is not known
    Sport.CYCLING: 70,  # 01014
    Sport.SWIMMING: 58,  # 18240
    Sport.WALKING: 38,  # 17190
    Sport.HIKING: 60,  # 17080
    Sport.ROWING: 75,  # 02072
    Sport.STRENGTH_TRAINING: 35,  # 02054
    Sport.YOGA: 23,  # 02150
    Sport.PILATES: 28,  # 02105
    Sport.HIIT: 70,  # intervals, moderate
    Sport.CARDIO_TRAINING: 55,  # 02060
    Sport.ELLIPTICAL: 50,  # 02048
    Sport.STAIR_CLIMBING: 93,  # 02065
    Sport.FLEXIBILITY_TRAINING: 23,  # 02101
    Sport.FITNESS_EQUIPMENT: 55,  # 02060
    Sport.TRAINING: 55,  # 02060
    Sport.CROSS_COUNTRY_SKIING: 85,  # 19090
    Sport.ALPINE_SKIING: 63,  # 19160
    Sport.SNOWBOARDING: 63,  # 19160
    Sport.SNOWSHOEING: 53,  # 19190
    Sport.ICE_SKATING: 70,  # 19030
    Sport.INLINE_SKATING: 75,  # 15591
    Sport.MOUNTAINEERING: 65,  # 17045
    Sport.ROCK_CLIMBING: 73,  # 15535
    Sport.PADDLING: 58,  # 18050
    Sport.KAYAKING: 50,  # 18100
    Sport.STAND_UP_PADDLEBOARDING: 65,  # 18224
    Sport.SURFING: 30,  # 18220
    Sport.SAILING: 33,  # 18140
    Sport.E_BIKING: 40,  # 01010, as a leisurely ride: the motor does the rest
    Sport.HORSEBACK_RIDING: 58,  # 15390
    Sport.GOLF: 45,  # 15255
    Sport.SOCCER: 70,  # 15610
    Sport.BASKETBALL: 75,  # 15055
    Sport.TENNIS: 68,  # 15675
    Sport.RACKET: 55,  # 15030
    Sport.BOXING: 58,  # 15110
    Sport.DANCE: 55,  # 03030
    Sport.DIVING: 70,  # 18200
    Sport.MULTISPORT: 70,  # as the ride that takes most of it
}
# Tenths of a mile per hour and of a MET: 12028 (up to 4.2 mph), 12029, 12030, 12050, 12070, 12090
# and 12120; the slowest and the fastest hold beyond them too.
RUNNING_METS = (
    *((42, 65), (43, 78), (48, 78), (50, 85), (52, 85), (60, 93), (63, 93)),
    *((70, 110), (80, 120), (100, 148)),
)


@dataclass(frozen=True, slots=True)
class Energy:
    """An amount of energy in calories, how it was found, and whether a weight was assumed."""

    energy_cal: int
    method: str
    assumed_weight: bool


def counted(workout: WorkoutCompleted, estimated: Energy) -> Energy:
    """Return what counts: the device's own figure where it gave one, or else the formula's."""
    if workout.energy_cal is None:
        return estimated
    return Energy(workout.energy_cal, DEVICE, False)


def estimate(workout: WorkoutCompleted) -> Energy:
    """Return the figure of the best formula that applies, whatever the device said."""
    if (energy_cal := by_power(workout)) is not None:
        return Energy(energy_cal, "power", False)
    known_g = workout.athlete.weight_g if workout.athlete else None
    weight_g = ASSUMED_WEIGHT_G if known_g is None else known_g
    if (energy_cal := by_heart_rate(workout, weight_g)) is not None:
        return Energy(energy_cal, "heart_rate", known_g is None)
    if (energy_cal := by_speed(workout, weight_g)) is not None:
        return Energy(energy_cal, "speed", known_g is None)
    return Energy(by_met(workout, weight_g), "met", known_g is None)


def by_power(workout: WorkoutCompleted) -> int | None:
    """Power: kJ = W × s / 1000; kcal = kJ / 4.184 / 0.24: 24 % reaches the pedals.

    The gross efficiency of trained cyclists is 20 to 25 % (Ettema & Lorås 2009, Eur J Appl Physiol
    106:1). An average of 0 W says that nothing was measured.
    """
    power_mw = workout.avg_power_mw
    if power_mw is None or not 0 < power_mw <= GREATEST_POWER_MW:
        return None
    return _rounded(power_mw * workout.duration_ms, 1_004_160)  # 4.184 × 0.24 × 10^6


def by_heart_rate(workout: WorkoutCompleted, weight_g: int) -> int | None:
    """Keytel et al. 2005 (J Sports Sci 23:289), without VO2max; kJ/min.

    Men -55.0969 + 0.6309 HR + 0.1988 kg + 0.2017 age, women -20.4022 + 0.4472 HR - 0.1263 kg +
    0.074 age. The age is the year of the start minus the year of birth; the maximum heart rate is
    208 - 0.7 age (Tanaka et al. 2001, J Am Coll Cardiol 37:153).
    """
    athlete, heart_rate = workout.athlete, workout.avg_heart_rate_mbpm
    if heart_rate is None or athlete is None or athlete.sex is None or athlete.birth_year is None:
        return None
    age = workout.started_at.year - athlete.birth_year
    (low, high), most = PERCENT_OF_MAX_HEART_RATE, _max_heart_rate(age)
    if not (_within(AGES, age) and low * most <= 100 * heart_rate <= high * most):
        return None
    if not _within(WEIGHTS_G, weight_g):
        return None
    if athlete.sex == "male":
        rate = -550_969_000 + 6_309 * heart_rate + 1_988 * weight_g + 2_017_000 * age
    else:
        rate = -204_022_000 + 4_472 * heart_rate - 1_263 * weight_g + 740_000 * age
    return _rounded(rate * workout.duration_ms, 10_000 * 60 * 4_184)  # rate: kJ/min × 10^7


def by_speed(workout: WorkoutCompleted, weight_g: int) -> int | None:
    """ACSM's equations; VO2 in ml/kg/min, S in m/min: walk 3.5 + 0.1 S, run 3.5 + 0.2 S.

    kcal = VO2 × kg / 1000 × 5 × min. Their term for the grade, a constant uphill, is left out: a
    workout tells what was climbed and not what was descended, most routes end as high as they
    began, and on gentle slopes the way down gives back most of it (Minetti et al. 2002, J Appl
    Physiol 93:1039). Hiking is left out: it is the climb and the load that cost there.
    """
    ms, mm = workout.duration_ms, workout.distance_mm
    if mm is None:
        return None
    if workout.sport == Sport.RUNNING and RUNNING_M_MIN[0] * ms < 60 * mm <= RUNNING_M_MIN[1] * ms:
        return _rounded((7 * ms + 24 * mm) * weight_g, 24_000_000)
    if workout.sport == Sport.WALKING and _within(WALKING_M_MIN, Fraction(60 * mm, ms)):
        return _rounded((7 * ms + 12 * mm) * weight_g, 24_000_000)
    return None


def by_met(workout: WorkoutCompleted, weight_g: int) -> int:
    """Metabolic equivalents: kcal = MET × kg × h."""
    met = met_tenths(workout)
    energy = met.numerator * weight_g * workout.duration_ms
    return _rounded(energy, met.denominator * 10 * 3_600_000)


def met_tenths(workout: WorkoutCompleted) -> int | Fraction:
    """Return tenths of a MET for the sport, and for the effort where the workout shows it."""
    sport, distance_mm = workout.sport, workout.distance_mm or 0
    if sport == Sport.RUNNING and distance_mm:
        return _running_met_tenths(Fraction(60 * distance_mm, workout.duration_ms))
    if sport == Sport.WALKING and 60 * distance_mm >= BRISK_WALKING_M_MIN * workout.duration_ms:
        return BRISK_WALKING
    if sport == Sport.SWIMMING and 60 * distance_mm >= FAST_SWIMMING_M_MIN * workout.duration_ms:
        return FAST_SWIMMING
    if sport == Sport.STRENGTH_TRAINING and _vigorous(workout):
        return HARD_STRENGTH_TRAINING
    return METS.get(sport, UNKNOWN_MET)


def _running_met_tenths(metres_a_minute: Fraction) -> int | Fraction:
    if metres_a_minute > RUNNING_M_MIN[1]:
        return METS[Sport.RUNNING]
    tenths_of_mph = metres_a_minute * 60 * 10 / Fraction("1609.344")
    slowest, fastest = Fraction(RUNNING_METS[0][0]), Fraction(RUNNING_METS[-1][0])
    at = min(max(tenths_of_mph, slowest), fastest)
    low, high = next(pair for pair in pairwise(RUNNING_METS) if at <= pair[1][0])
    return low[1] + Fraction(high[1] - low[1], high[0] - low[0]) * (at - low[0])


def _vigorous(workout: WorkoutCompleted) -> bool:
    heart_rate, athlete = workout.avg_heart_rate_mbpm, workout.athlete
    if heart_rate is None or athlete is None or athlete.birth_year is None:
        return False
    age = workout.started_at.year - athlete.birth_year
    return 100 * heart_rate >= VIGOROUS * _max_heart_rate(age)


def _max_heart_rate(age: int) -> int:
    return 208_000 - 700 * age


def _within(bounds: tuple[int, int], value: int | Fraction) -> bool:
    return bounds[0] <= value <= bounds[1]


def _rounded(numerator: int, denominator: int) -> int:
    return (2 * numerator + denominator) // (2 * denominator)
