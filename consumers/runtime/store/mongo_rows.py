"""What the rows of a consumer's MongoDB database mean."""

import msgspec

from consumers.runtime.fates import APPLIED, Fate, State
from consumers.runtime.store import Generation, Phase
from events.mongo import Document

# A position is one 64-bit key: the relay's small number above, the stamp's number below.
NUMBER_BITS = 40
STATES = {State.APPLIED: 0, State.RETRYING: 1, State.DEAD: 2, State.DISCARDED: 3}
BY_DUE, BY_POSITION = "by_due", "by_position"
SOURCE = "source"
GONE_AFTER_MS = 15_000
_fates = msgspec.json.Decoder(Fate)


def of_generation(number: int) -> Document:
    """Return the condition on a key that begins with a generation's number."""
    return {"_id": {"$gt": {"generation": number}, "$lt": {"generation": number + 1}}}


def generation_of(row: Document, counts: Document) -> Generation:
    """Return a generation as its row and the sums of its counts tell it."""
    return Generation(
        number=row["_id"],
        phase=Phase(row["phase"]),
        version=row["version"],
        code=row["code"],
        bindings=tuple(row["bindings"]),
        indexes={name: tuple(of) for name, of in row["indexes"]},
        since_ms=row.get("since", 0),
        applied=int(counts.get("applied", 0)),
        rate=round(counts.get("rate", 0.0), 1),
        committed_ms=int(counts.get("committed_ms") or 0),
    )


def top_of(generation: int) -> list[Document]:
    """Return what looks up the last row of each relay: one seek for each."""
    from_, to = ({"$multiply": [{"$add": ["$small", more]}, 1 << NUMBER_BITS]} for more in (0, 1))
    inside = {"$and": [{"$gt": ["$_id", "$$from"]}, {"$lt": ["$_id", "$$to"]}]}
    last = {
        "from": f"fates_{generation:d}",
        "let": {"from": from_, "to": to},
        "pipeline": [
            *({"$match": {"$expr": inside}}, {"$sort": {"_id": -1}}, {"$limit": 1}),
            {"$project": {"_id": 1}},
        ],
        "as": "last",
    }
    top = {"$ifNull": [{"$subtract": [{"$first": "$last._id"}, from_]}, 0]}
    return [{"$lookup": last}, {"$project": {"top": top}}]


def fate_of_row(row: Document) -> Fate:
    """Return the fate that a row tells."""
    return _fates.decode(row["detail"]) if "detail" in row else APPLIED
