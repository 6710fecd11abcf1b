"""A cluster snapshot as a JSON file: what `poolmgr plan --from` reads. The field names are the domain's own."""

import msgspec

from poolmgr.domain.errors import Rejected
from poolmgr.domain.reasons import Reason
from poolmgr.domain.snapshot import ClusterSnapshot


def encode_snapshot(snapshot: ClusterSnapshot) -> bytes:
    """JSON text of the snapshot, one that `decode_snapshot` reads back to an equal value."""
    return msgspec.json.encode(snapshot, order="deterministic")


def decode_snapshot(text: bytes) -> ClusterSnapshot:
    """Raises Rejected with the place in the text where it is not a snapshot."""
    try:
        return msgspec.json.decode(text, type=ClusterSnapshot)
    except msgspec.DecodeError as error:
        raise Rejected(Reason.INVALID_BODY, f"this is no cluster snapshot: {error}") from error
