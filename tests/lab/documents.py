# SPDX-License-Identifier: MIT
"""What our documents tell people to type and to write into files, as a script that does it word for word."""

import re

from .host import ROOT

_BLOCK = re.compile(r"^```(\w*)(?: (\S+))?\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def script(document: str) -> str:
    """Return the commands of a document, in its order.

    A block is run if it is fenced as ``sh``, and becomes a file if a name follows its kind; others are only shown.
    """
    return "\n".join(["set -eux", *_steps((ROOT / document).read_text())])


def section(document: str, heading: str) -> tuple[str, str]:
    """Return the commands of one section of a document: all but the last block, and the last, which is the way back."""
    text = re.split(rf"^## {re.escape(heading)}$", (ROOT / document).read_text(), flags=re.MULTILINE)[1]
    *there, back = _steps(re.split(r"^## ", text, flags=re.MULTILINE)[0])
    return "\n".join(["set -eux", *there]), f"set -eux\n{back}"


def preamble(document: str) -> str:
    """Return the commands of a document before its first section."""
    return "\n".join(["set -eux", *_steps((ROOT / document).read_text().partition("\n## ")[0])])


def block(document: str, beginning: str) -> str:
    """Return the one block of a document that begins with some text."""
    (found,) = (text for _, _, text in _BLOCK.findall((ROOT / document).read_text()) if text.startswith(beginning))
    return str(found)


def blocks(document: str, language: str) -> list[str]:
    """Return all blocks of a document in one language that become no files."""
    found = _BLOCK.findall((ROOT / document).read_text())
    return [text for kind, name, text in found if kind == language and not name]


def _steps(text: str) -> list[str]:
    steps = []
    for kind, name, block in _BLOCK.findall(text):
        if name:
            steps.append(f"cat >{name} <<'THE-END'\n{block}THE-END")
        elif kind == "sh":
            steps.append(block)
    return steps
