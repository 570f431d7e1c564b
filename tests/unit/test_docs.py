# SPDX-License-Identifier: MIT
"""The documentation, held against the code that it speaks of."""

import configparser
import re
from pathlib import Path

import pytest

from sshfs_plugin.driver.values import Condition

ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / "docs"
PAGES = sorted([*ROOT.glob("*.md"), *DOCS.glob("*.md")])

OF_OTHERS = {
    'plugin "sshfs" not found',
    "dial unix",
    "already has volume",
    "must be unique",
    "volume is in use",
    "REMOTE HOST IDENTIFICATION HAS CHANGED",
    "Permission denied",
    "failed to chown",
    "failed to chmod",
    "lchown",
    "Operation not permitted",
    "Read-only file system",
    "Transport endpoint is not connected",
    "Input/output error",
    "tried to kill container, but did not receive an exit event",
    "docker stop",
    "docker rm -f",
}
"""Messages of Docker, ssh and the kernel."""


def test_every_message_in_troubleshooting_is_one_that_somebody_can_read() -> None:
    sources = "".join(path.read_text() for path in (ROOT / "sshfs_plugin").rglob("*.py"))
    # a sentence may be divided between two lines
    said = re.sub(r'"\n\s+f?"', "", sources)
    headings = re.findall(r"^### (.*)$", (DOCS / "troubleshooting.md").read_text(), re.MULTILINE)
    messages = [message for heading in headings for message in re.findall(r"`([^`]+)`", heading)]
    assert len(messages) > 30
    assert [message for message in messages if message not in said and message not in OF_OTHERS] == []


def test_every_state_of_a_volume_is_explained() -> None:
    table = re.findall(r"^\| `(\w+)` \| .* \| (yes|no) \|$", (DOCS / "troubleshooting.md").read_text(), re.MULTILINE)
    assert table == [(condition, "yes" if condition.is_well else "no") for condition in Condition]
    manual = (DOCS / "docker-volume-sshfs.8.rst").read_text()
    assert [condition for condition in Condition if f"**{condition}**" not in manual] == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.name))
def test_every_block_of_a_page_is_run_or_compared_by_a_test_on_a_booted_host(page: Path) -> None:
    """Which ones: see ``documents.py`` there."""
    tests = "".join(path.read_text() for path in (ROOT / "tests/lab").glob("*.py")).replace("'", '"')
    name = str(page.relative_to(ROOT))
    alone = re.findall(rf'block\("{name}", "(.*?)"\)', tests)
    for kind, file, text in re.findall(r"^```(\w*)(?: (\S+))?\n(.*?)^```$", page.read_text(), re.MULTILINE | re.DOTALL):
        if kind == "sh" or file:
            assert f'"{name}"' in tests, "nobody follows this page"
        elif kind == "yaml":
            assert f'blocks("{name}", "yaml")' in tests, text
        else:
            assert [beginning for beginning in alone if text.startswith(beginning)], text


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.name))
def test_links_between_pages_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", page.read_text()):
        assert (page.parent / target).exists(), target


def test_the_picture_shows_what_its_text_says() -> None:
    labels = re.findall(r'label="([^"]+)"', (DOCS / "how-it-works.dot").read_text())
    drawn = (DOCS / "how-it-works.svg").read_text().replace("&#45;", "-")
    words = {line for label in labels for line in label.split("\\n")}
    assert [line for line in words if f">{line}<" not in drawn] == []


def test_reports_of_weaknesses_go_to_the_maintainer_s_address() -> None:
    (address,) = re.findall(r"^Maintainer: .* <(.*)>$", (ROOT / "debian/control").read_text(), re.MULTILINE)
    page = (ROOT / "SECURITY.md").read_text()
    assert re.findall(r"`(\S+@\S+)`", page) == [address]
    assert ("placeholder" in page) == address.endswith("@example.org")


def test_the_parts_of_the_code_have_the_levels_that_the_linter_checks() -> None:
    configuration = configparser.ConfigParser()
    configuration.read(ROOT / "setup.cfg")
    layers = configuration["importlinter:contract:layers"]["layers"].split("\n")
    levels = [(str(level), part) for level, layer in enumerate(filter(None, layers), 1) for part in layer.split(" | ")]
    page = (DOCS / "how-it-works.md").read_text()
    assert re.findall(r"^\| (\d+) \| `(\w+)` \| .* \|$", page, re.MULTILINE) == levels
    for name in re.findall(r"`((?:libexec|\w+)/[\w./]*)`", page):
        assert (ROOT / name).exists() or (ROOT / "sshfs_plugin" / name).exists(), name


def test_pages_have_lines_that_fit_a_terminal() -> None:
    for page in PAGES:
        long = [line for line in page.read_text().splitlines() if len(line) > 130 and not line.startswith("|")]
        assert long == [], page.name


def test_the_readme_stays_a_newcomers_page() -> None:
    assert len((ROOT / "README.md").read_text().splitlines()) <= 200
