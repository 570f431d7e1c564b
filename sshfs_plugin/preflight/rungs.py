# SPDX-License-Identifier: MIT
"""The rungs by name, and whoever watches the climb: the ladder tells where it is and knows nothing of terminals."""

import contextlib
import enum
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from typing import TypeAlias


class Rung(enum.Enum):
    """A rung of the ladder, in the order in which they are climbed; the value is what a person calls it."""

    CREDENTIALS = "key or password"
    NAME = "name"
    CONNECTION = "connection"
    KEY_EXCHANGE = "key exchange"
    HOST_KEY = "host key"
    LOGIN = "login"
    SFTP = "SFTP"
    DIRECTORY = "directory"
    WRITING = "writing"


Note: TypeAlias = Callable[[str], None]
"""Takes a few words on what was found on a rung; nothing of it is secret, but some comes from the server."""

Witness: TypeAlias = Callable[[Rung], AbstractContextManager[Note]]
"""Is entered with each rung and left when it holds, or with the error that broke it.

A broken rung need not be the end, since a server is asked for several kinds of host key in turn: the connection is then
climbed again. What counts is the error that the climb itself ends with.
"""


@contextlib.contextmanager
def unwitnessed(_rung: Rung) -> Iterator[Note]:
    """Watch nothing."""
    yield lambda _words: None
