"""PacelineError and its few children; the docstring of each is its message."""


class PacelineError(Exception):
    """Paceline cannot go on; the message names the thing, the value and what to do."""


class Undecodable(PacelineError):
    """The bytes are not an event that this code can read."""

    permanent = True


class NewerVersion(PacelineError):
    """The event's version is newer than this code; it waits for code that knows it."""

    def __init__(self, kind: str, version: int, known: int) -> None:
        super().__init__(
            f"{kind} has version {version}; this code knows {known} at most. Upgrade this process."
        )
        self.version = version


class Held(PacelineError):
    """Another process writes this file."""


class LogRestored(PacelineError):
    """The event log is older than what was read from it: it was restored from an old copy."""


class Outage(PacelineError):
    """A server or a disk does not answer; nobody's event is at fault: wait and try again."""


class Refused(PacelineError):
    """A store refuses a commit for its content; the culprit is among its events."""


class Gone(PacelineError):
    """The generation that this was computed for is not there any more."""


class Overtaken(PacelineError):
    """Another writer changed what this commit was computed from: load and fold again."""
