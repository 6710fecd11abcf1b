"""What an operation needs, taken from the app that it belongs to."""

from typing import Annotated

from fastapi import Depends, Query, Request

from poolmgr.api.interfaces import Control, History
from poolmgr.domain.census import Census
from poolmgr.domain.errors import Unavailable
from poolmgr.domain.reasons import Reason
from poolmgr.domain.snapshot import ClusterSnapshot


def control(request: Request) -> Control:
    found: Control = request.app.state.control
    return found


def history(request: Request) -> History:
    found: History = request.app.state.history
    return found


def snapshot(request: Request) -> ClusterSnapshot:
    """The newest view. Raises Unavailable until there is a complete one."""
    found = control(request).snapshot
    if found is None or not found.synced:
        raise Unavailable(
            Reason.NOT_SYNCED,
            "the manager has not read the whole cluster yet; this takes seconds after its start",
            retry_after_seconds=2.0,
        )
    return found


def census(request: Request) -> Census:
    """The newest view, counted. Raises Unavailable until there is a complete one."""
    snapshot(request)
    found = control(request).census
    assert found is not None
    return found


CensusDep = Annotated[Census, Depends(census)]
ControlDep = Annotated[Control, Depends(control)]
HistoryDep = Annotated[History, Depends(history)]
SnapshotDep = Annotated[ClusterSnapshot, Depends(snapshot)]
PageSize = Annotated[int, Query(alias="pageSize", ge=1, le=500, description="Maximum number of items.")]
RecordToken = Annotated[
    str,
    Query(alias="pageToken", pattern="^[0-9]{0,18}$", description="nextPageToken of the previous page."),
]
NO_NUL = r"^[^\x00]*$"
"""No database can hold that character; `request_limits` refuses it in any request."""
PageToken = Annotated[
    str,
    Query(
        alias="pageToken", max_length=400, pattern=NO_NUL, description="nextPageToken of the previous page."
    ),
]
