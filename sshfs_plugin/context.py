# SPDX-License-Identifier: MIT
"""What the work at hand is about, so that every line that it logs can be found by it."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from types import MappingProxyType

_NOTHING: Mapping[str, str] = MappingProxyType({})
_subject: ContextVar[Mapping[str, str]] = ContextVar("subject", default=_NOTHING)


@contextmanager
def about(**fields: str) -> Iterator[None]:
    """Let everything that is logged meanwhile carry these journal fields, in upper case: VERB, VOLUME, MOUNT_ID."""
    token = _subject.set({**_subject.get(), **{name: text for name, text in fields.items() if text}})
    try:
        yield
    finally:
        _subject.reset(token)


def subject() -> Mapping[str, str]:
    """Return the fields of the work at hand."""
    return _subject.get()
