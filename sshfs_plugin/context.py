# SPDX-License-Identifier: MIT
"""The journal fields of the call that is being served: each line that it logs has its verb, volume and mount ID."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from types import MappingProxyType

_NOTHING: Mapping[str, str] = MappingProxyType({})
_subject: ContextVar[Mapping[str, str]] = ContextVar("subject", default=_NOTHING)


@contextmanager
def about(**fields: str) -> Iterator[None]:
    """Give these journal fields, VERB, VOLUME or MOUNT_ID, to each line that is logged in the block; empty ones not."""
    token = _subject.set({**_subject.get(), **{name: text for name, text in fields.items() if text}})
    try:
        yield
    finally:
        _subject.reset(token)


def subject() -> Mapping[str, str]:
    """Return the journal fields that are in force."""
    return _subject.get()
