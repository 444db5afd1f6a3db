"""An iterator that is drawn from a little ahead, when there is time."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from typing import Generic, TypeVar

T = TypeVar("T")


class Ahead(Generic[T]):
    """Gives what `items` gives, then `end` again and again; `most` of them may be ready before they are taken."""

    def __init__(self, items: Iterable[T], end: T, most: int) -> None:
        self._items, self._end, self._most = iter(items), end, most
        self._ready: deque[T] = deque()
        self._left = True

    def take(self) -> T:
        """The next one."""
        return self._ready.popleft() if self._ready else next(self._items, self._end)

    def prepare(self) -> bool:
        """Make one more ready; False if there are enough, or no more."""
        if not self._left or len(self._ready) == self._most:
            return False
        item = next(self._items, self._end)
        self._left = item is not self._end
        if self._left:
            self._ready.append(item)
        return self._left
