"""How large a document may be, in every store."""

from events.errors import Refused

LARGEST = 1 << 20


class TooLarge(Refused):
    """A document is over 1 MiB."""

    permanent = True

    def __init__(self, key: str, size: int) -> None:
        super().__init__(f"Document {key} has {size} bytes; at most {LARGEST} are stored.")
