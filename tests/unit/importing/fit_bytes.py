"""A small FIT encoder for tests, after the FIT protocol and not after any decoder."""

import struct
from collections.abc import Sequence
from datetime import UTC, datetime

Field = tuple[int, int, float | str | bytes]

EPOCH = datetime(1989, 12, 31, tzinfo=UTC)

ENUM, UINT8, UINT16, UINT32, UINT32Z = 0x00, 0x02, 0x84, 0x86, 0x8C
STRING, BYTES, FLOAT32 = 0x07, 0x0D, 0x88
FORMATS = {ENUM: "B", UINT8: "B", UINT16: "H", UINT32: "I", UINT32Z: "I", FLOAT32: "f"}

FILE_ID, USER_PROFILE, SESSION, ACTIVITY, WEIGHT_SCALE, HEART_RATE_VARIABILITY = (
    0,
    3,
    18,
    34,
    30,
    78,
)


def seconds(time: datetime) -> int:
    return int((time - EPOCH).total_seconds())


def crc(data: bytes) -> int:
    """CRC-16/ARC, bit by bit."""
    value = 0
    for byte in data:
        value ^= byte
        for _ in range(8):
            value = value >> 1 ^ (0xA001 if value & 1 else 0)
    return value


def message(number: int, *fields: Field, developer: Sequence[tuple[int, int]] = ()) -> bytes:
    """A definition and the one record that it is for; a developer's fields are one byte each."""
    definition = struct.pack("<BBBHB", 0x60 if developer else 0x40, 0, 0, number, len(fields))
    record = b"\0"
    for field, kind, value in fields:
        if isinstance(value, str):
            packed = value.encode() + b"\0"
        elif isinstance(value, bytes):
            packed = value
        else:
            packed = struct.pack("<" + FORMATS[kind], value)
        definition += struct.pack("<BBB", field, len(packed), kind)
        record += packed
    if developer:
        definition += struct.pack("<B", len(developer))
        definition += b"".join(struct.pack("<BBB", field, 1, 0) for field, _ in developer)
        record += bytes(value for _, value in developer)
    return definition + record


def developer_fields(names: dict[int, str]) -> bytes:
    """The messages that declare a developer's fields, one byte each, by number."""
    described = [
        message(206, (0, UINT8, 0), (1, UINT8, number), (2, UINT8, UINT8), (3, STRING, name))
        for number, name in names.items()
    ]
    return message(207, (3, UINT8, 0)) + b"".join(described)


def fit_of_old(body: bytes, *, protocol: int, profile: int) -> bytes:
    """A FIT file with the header of 12 bytes that older devices write."""
    whole = struct.pack("<BBHI4s", 12, protocol, profile, len(body), b".FIT") + body
    return whole + struct.pack("<H", crc(whole))


def fit(*messages: bytes, body: bytes | None = None) -> bytes:
    """A FIT file with a right header and the right checksums."""
    body = b"".join(messages) if body is None else body
    header = struct.pack("<BBHI4s", 14, 0x10, 2132, len(body), b".FIT")
    whole = header + struct.pack("<H", crc(header)) + body
    return whole + struct.pack("<H", crc(whole))


def file_id(kind: int = 4, *more: Field) -> bytes:
    return message(FILE_ID, (0, ENUM, kind), (1, UINT16, 1), (2, UINT16, 2697), *more)


def session(
    start: datetime,
    *more: Field,
    timer_s: float = 1800.5,
    elapsed_s: float = 1900.25,
    developer: Sequence[tuple[int, int]] = (),
) -> bytes:
    return message(
        SESSION,
        (2, UINT32, seconds(start)),
        (8, UINT32, round(timer_s * 1000)),
        (7, UINT32, round(elapsed_s * 1000)),
        *more,
        developer=developer,
    )


def sport(number: int, sub_sport: int = 0) -> tuple[Field, Field]:
    return (5, ENUM, number), (6, ENUM, sub_sport)


def activity(end: datetime, local: datetime | None = None) -> bytes:
    fields: list[Field] = [(253, UINT32, seconds(end))]
    if local is not None:
        fields.append((5, UINT32, seconds(local)))
    return message(ACTIVITY, *fields)
