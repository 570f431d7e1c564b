# SPDX-License-Identifier: MIT
"""The moment until which a client waits for its reply; everything that waits on its behalf is handed it."""

import time
from dataclasses import dataclass

_SHORTEST_LIMIT = 0.1


def time_limit(seconds: float) -> float:
    """Return how long to wait where no time may be left. A limit of 0 would mean not to wait at all."""
    return max(_SHORTEST_LIMIT, seconds)


@dataclass(frozen=True, slots=True)
class Deadline:
    """A moment on the monotonic clock after which the client no longer reads the reply."""

    at: float

    @classmethod
    def after(cls, seconds: float) -> "Deadline":
        """Return the deadline that lies so many seconds from now."""
        return cls(time.monotonic() + seconds)

    def left(self, at_most: float = float("inf")) -> float:
        """Return the seconds that are left, never negative and never more than ``at_most``."""
        return max(0.0, min(self.at - time.monotonic(), at_most))
