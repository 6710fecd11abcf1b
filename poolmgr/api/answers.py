"""Large answers, written once."""

import asyncio
from collections.abc import Callable

from fastapi import Response
from pydantic import BaseModel


async def written(make: Callable[[], BaseModel]) -> Response:
    """The JSON of what `make` makes, in a thread: thousands of GPUs take longer than the loop may be held up.

    FastAPI would check a value of our own making once more, and copy it twice, before it writes it. An operation that
    answers so names its model as `response_model`.
    """

    def write() -> str:
        return make().model_dump_json(by_alias=True)

    return Response(await asyncio.to_thread(write), media_type="application/json")
