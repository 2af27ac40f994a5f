"""Which sport a recording means: the names of FIT, TCX, GPX and Strava, and ours."""

import re

from events.workouts import Sport

_VAGUE = {"generic", "training", "fitness_equipment", "all"}

# A sub-sport of FIT that says more than its vague sport does.
_BY_SUB_SPORT = {
    "treadmill": Sport.RUNNING,
    "indoor_running": Sport.RUNNING,
    "trail": Sport.RUNNING,
    "spin": Sport.CYCLING,
    "indoor_cycling": Sport.CYCLING,
    "indoor_rowing": Sport.ROWING,
    "indoor_walking": Sport.WALKING,
    "lap_swimming": Sport.SWIMMING,
    "open_water": Sport.SWIMMING,
    "indoor_climbing": Sport.ROCK_CLIMBING,
    "bouldering": Sport.ROCK_CLIMBING,
    "amrap": Sport.HIIT,
    "emom": Sport.HIIT,
    "tabata": Sport.HIIT,
}

_E_BIKES = {"e_bike_fitness", "e_bike_mountain"}

# Whole names, as apps write them, in the spelling that `_plain` makes of them.
_BY_NAME = {
    "run": Sport.RUNNING,
    "trail_run": Sport.RUNNING,
    "trail_running": Sport.RUNNING,
    "treadmill_running": Sport.RUNNING,
    "track_running": Sport.RUNNING,
    "street_running": Sport.RUNNING,
    "virtual_run": Sport.RUNNING,
    "virtualrun": Sport.RUNNING,
    "jogging": Sport.RUNNING,
    "bike": Sport.CYCLING,
    "biking": Sport.CYCLING,
    "ride": Sport.CYCLING,
    "virtual_ride": Sport.CYCLING,
    "virtualride": Sport.CYCLING,
    "road_biking": Sport.CYCLING,
    "road_cycling": Sport.CYCLING,
    "mountain_biking": Sport.CYCLING,
    "gravel_cycling": Sport.CYCLING,
    "indoor_cycling": Sport.CYCLING,
    "e_bike_ride": Sport.E_BIKING,
    "ebikeride": Sport.E_BIKING,
    "e_bike": Sport.E_BIKING,
    "swim": Sport.SWIMMING,
    "lap_swimming": Sport.SWIMMING,
    "pool_swimming": Sport.SWIMMING,
    "open_water_swimming": Sport.SWIMMING,
    "walk": Sport.WALKING,
    "casual_walking": Sport.WALKING,
    "speed_walking": Sport.WALKING,
    "hike": Sport.HIKING,
    "row": Sport.ROWING,
    "indoor_rowing": Sport.ROWING,
    "nordic_ski": Sport.CROSS_COUNTRY_SKIING,
    "nordicski": Sport.CROSS_COUNTRY_SKIING,
    "alpine_ski": Sport.ALPINE_SKIING,
    "alpineski": Sport.ALPINE_SKIING,
    "resort_skiing": Sport.ALPINE_SKIING,
    "snowboard": Sport.SNOWBOARDING,
    "snowshoe": Sport.SNOWSHOEING,
    "ice_skate": Sport.ICE_SKATING,
    "inline_skate": Sport.INLINE_SKATING,
    "weight_training": Sport.STRENGTH_TRAINING,
    # Strava wrote these numbers into the <type> of its GPX files for years.
    "1": Sport.CYCLING,
    "4": Sport.HIKING,
    "9": Sport.RUNNING,
    "10": Sport.WALKING,
    "16": Sport.SWIMMING,
}


def from_fit(sport: object, sub_sport: object) -> tuple[Sport, list[str]]:
    """Give the sport of a FIT session, and a note where it is a guess."""
    if sub_sport in _E_BIKES:
        return Sport.E_BIKING, []
    if sport is None or sport in _VAGUE:
        found = _BY_SUB_SPORT.get(str(sub_sport)) or _ours(str(sub_sport))
        if found:
            return found, []
    return from_name(None if sport is None else str(sport))


def from_name(name: str | None) -> tuple[Sport, list[str]]:
    """Give the sport that a name means, and a note where it is a guess."""
    plain = _plain(name or "")
    found = _BY_NAME.get(plain) or _ours(plain)
    if found and found is not Sport.OTHER:
        return found, []
    if plain:
        return Sport.OTHER, [f"the file calls the sport {name!r:.64}: taken as other"]
    return Sport.OTHER, ["no sport in the file: taken as other"]


def _ours(name: str) -> Sport | None:
    return Sport(name) if name in Sport.__members__.values() else None


def _plain(name: str) -> str:
    return re.sub(r"[^a-z0-9]+", "_", name.lower()).strip("_")
