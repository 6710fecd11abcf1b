"""uvicorn as a part among others of one process."""

from collections.abc import Iterator
from contextlib import contextmanager

import uvicorn


class Server(uvicorn.Server):
    """Without uvicorn's signal handlers: the process that composes several parts handles signals once."""

    def stop(self) -> None:
        """Answer what is open, then end `serve()`."""
        self.should_exit = True

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield
