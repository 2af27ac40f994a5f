"""What can go wrong with an import as a whole; what a single workout lacks is said by the door."""

from pathlib import Path

from events.errors import PacelineError


class UnreadableRecording(PacelineError):
    """The file is not a recording of a workout, or a damaged one; nothing of it is taken."""

    def __init__(self, path: Path, reason: str) -> None:
        super().__init__(f"{path}: {reason}")
        self.path = path
        self.reason = reason


class UnknownZone(PacelineError):
    """The time zone is in no tz database."""

    def __init__(self, zone: str) -> None:
        super().__init__(f"{zone[:64]!r} is no time zone; say one such as Europe/Ljubljana.")


class NobodyThere(PacelineError):
    """No producer answers at the address."""

    exit_code = 3

    def __init__(self, url: str, reason: str) -> None:
        super().__init__(f"Nobody answers at {url} ({reason}). Is it running? --url says where.")
        self.url = url
