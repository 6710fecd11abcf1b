"""Values by key, handed out as one tuple in key order."""

from bisect import bisect_left, insort
from typing import Generic, TypeVar

V = TypeVar("V")


class SortedValues(Generic[V]):
    """The tuple is made anew only after a change, its order only once: keys are then put in their place."""

    def __init__(self) -> None:
        self._values: dict[str, V] = {}
        self._tuple: tuple[V, ...] | None = ()
        self._keys: list[str] | None = None

    def put(self, key: str, value: V | None) -> bool:
        """Set, or remove with None. True when something is different now."""
        old = self._values.get(key)
        if old == value:
            return False
        if value is None:
            del self._values[key]
            if self._keys is not None:
                del self._keys[bisect_left(self._keys, key)]
        else:
            if old is None and self._keys is not None:
                insort(self._keys, key)
            self._values[key] = value
        self._tuple = None
        return True

    def get(self, key: str) -> V | None:
        return self._values.get(key)

    def tuple(self) -> tuple[V, ...]:
        if self._tuple is None:
            if self._keys is None:
                self._keys = sorted(self._values)
            values = self._values
            self._tuple = tuple([values[key] for key in self._keys])
        return self._tuple
