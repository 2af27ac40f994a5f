"""How much is measured: the full run whose figures count, and a quick one to try the code."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Scale:
    """Seconds and counts of events; a target holds for the full scale only."""

    pairs: int
    warm_s: int
    wrk_s: int
    fold_events: int
    small_events: int
    grown_events: int
    growth_step: int
    paced_s: float
    settle_s: float
    idle_s: float
    real_events: int
    outage_s: float
    arrival_events: int
    arrival_posted: int
    rebuilt_events: int
    rebuilt_few: int
    rebuilt_many: int


FULL = Scale(
    pairs=5,
    warm_s=1,
    wrk_s=6,
    fold_events=50_000,
    small_events=25_000,
    grown_events=475_000,
    growth_step=10_000,
    paced_s=10.0,
    settle_s=5.0,
    idle_s=10.0,
    real_events=30_000,
    outage_s=30.0,
    arrival_events=200_000,
    arrival_posted=30_000,
    rebuilt_events=200_000,
    rebuilt_few=50_000,
    rebuilt_many=500_000,
)
QUICK = Scale(
    pairs=2,
    warm_s=1,
    wrk_s=1,
    fold_events=5_000,
    small_events=2_000,
    grown_events=20_000,
    growth_step=2_000,
    paced_s=2.0,
    settle_s=1.0,
    idle_s=2.0,
    real_events=2_000,
    outage_s=5.0,
    arrival_events=25_000,
    arrival_posted=6_000,
    rebuilt_events=5_000,
    rebuilt_few=2_000,
    rebuilt_many=20_000,
)
