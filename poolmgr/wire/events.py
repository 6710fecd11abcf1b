"""core/v1 Event, as the manager writes it."""

from poolmgr.wire.meta import ObjectMeta, Wire


class InvolvedObject(Wire, frozen=True):
    kind: str = ""
    namespace: str = ""
    name: str = ""


class Event(Wire, frozen=True):
    metadata: ObjectMeta = ObjectMeta()
    involved_object: InvolvedObject = InvolvedObject()
    type: str = ""
    reason: str = ""
    message: str = ""
    count: int = 1
    first_timestamp: str | None = None
    last_timestamp: str | None = None
    reporting_component: str = ""
