# SPDX-License-Identifier: MIT
"""The documentation, held against the code that it speaks of."""

import configparser
import re
import shlex
import textwrap
from pathlib import Path

import pytest
from lab.documents import block

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
def test_every_block_of_a_page_is_run_or_compared_by_a_test(page: Path) -> None:
    """On a booted host, see ``documents.py`` there; what only a checkout can do is compared here."""
    tests = "".join(path.read_text() for path in (ROOT / "tests/lab").rglob("*.py")).replace("'", '"')
    name = str(page.relative_to(ROOT))
    alone = re.findall(rf'block\("{name}", "(.*?)"\)', tests + Path(__file__).read_text())
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


# Pages for people who change the code


SCRIPT = (ROOT / "scripts/test").read_text()
SETUP = block("CONTRIBUTING.md", "sudo apt-get install")
QUICK = block("CONTRIBUTING.md", "./scripts/test --quick")
BLAME = block("CONTRIBUTING.md", "git config blame.ignoreRevsFile")
SOME_TESTS = block("CONTRIBUTING.md", "/usr/bin/python3 -m pytest -q tests/unit/options/test_options.py")
TOOLS = block("CONTRIBUTING.md", ".venv/bin/ruff check")
BENCHMARK = block("CONTRIBUTING.md", "sudo ./scripts/benchmark")
MEASURE = block("docs/performance.md", "sudo ./scripts/benchmark --lab")
ROW = block("CONTRIBUTING.md", "ssh_option(")
EVERYTHING = block("CONTRIBUTING.md", "sudo env CI=true")
RELEASE = block("CONTRIBUTING.md", "./scripts/release --key")


def test_what_a_newcomer_installs_is_what_the_quick_tests_need() -> None:
    needed = re.findall(r'^QUICK_PACKAGES="([^"]*)"', SCRIPT, re.MULTILINE)[0].split()
    command = shlex.split(SETUP.replace("\\\n", ""))
    assert command[:4] == ["sudo", "apt-get", "install", "--no-install-recommends"]
    assert command[4:] == needed


@pytest.mark.parametrize("command", SOME_TESTS.splitlines())
def test_tests_that_a_newcomer_is_told_to_run_exist(command: str) -> None:
    words = shlex.split(command)
    (file,) = (word for word in words if word.startswith("tests/"))
    chosen = words[words.index("-k") + 1] if "-k" in words else "def test_"
    assert chosen in (ROOT / file).read_text()


@pytest.mark.parametrize(
    "command",
    [*QUICK.splitlines(), *BENCHMARK.splitlines(), *MEASURE.splitlines(), *EVERYTHING.splitlines(), RELEASE],
)
def test_scripts_that_a_newcomer_is_told_to_run_exist_and_take_these_words(command: str) -> None:
    program, *words = shlex.split(re.sub(r"^sudo (env \S+ )?", "", command))
    script = ROOT / program
    assert script.stat().st_mode & 0o111
    text = script.read_text()
    assert [word for word in words if word.startswith("--") and word not in text] == []


@pytest.mark.parametrize("command", TOOLS.splitlines())
def test_tools_that_a_newcomer_is_told_to_run_are_those_of_the_tests(command: str) -> None:
    assert [word for word in command.split() if word not in SCRIPT] == []


in_a_checkout = pytest.mark.skipif(not (ROOT / ".git-blame-ignore-revs").exists(), reason="a build has no hidden files")


@in_a_checkout
def test_moves_are_in_the_file_that_blame_is_told_of() -> None:
    assert BLAME.strip() in (ROOT / ".git-blame-ignore-revs").read_text()


def test_the_row_that_is_shown_is_one_of_the_table() -> None:
    assert textwrap.indent(ROW, " " * 8) in (ROOT / "sshfs_plugin/options/table/connection.py").read_text()


def test_every_tier_of_the_tests_is_explained() -> None:
    tiers = set(re.findall(r"\b(?:run|cannot) ([a-z+-]+) ", SCRIPT.partition("\ncase ")[2])) - {"labs"} | {"lab"}
    page = (ROOT / "CONTRIBUTING.md").read_text()
    assert set(re.findall(r"^\| `([a-z+-]+)` \|", page, re.MULTILINE)) == tiers


def test_files_and_tests_that_a_page_for_newcomers_names_exist() -> None:
    page = (ROOT / "CONTRIBUTING.md").read_text()
    tests = "".join(path.read_text() for path in (ROOT / "tests/unit").rglob("*.py"))
    assert [name for name in re.findall(r"`(test_\w+)`", page) if f"def {name}(" not in tests] == []
    names = re.findall(r"`([\w.-]+/[\w./-]*\w)`", page)
    assert len(names) > 20
    assert [name for name in names if not ((ROOT / name).exists() or (ROOT / "sshfs_plugin" / name).exists())] == []


def test_the_project_s_place_is_the_same_wherever_it_is_written() -> None:
    fields = dict(re.findall(r"^(Homepage|Vcs-\w+): (.*)$", (ROOT / "debian/control").read_text(), re.MULTILINE))
    home = fields["Homepage"]
    assert fields == {"Homepage": home, "Vcs-Browser": home, "Vcs-Git": f"{home}.git"}
    assert re.findall(r"^url = (.*)$", (ROOT / "setup.cfg").read_text(), re.MULTILINE) == [home]
    assert f'"documentation": "{home}/' in (ROOT / "managed/config.json").read_text()


def test_the_version_is_the_same_wherever_a_release_writes_it() -> None:
    version = re.findall(r"\((.*?)\)", (ROOT / "debian/changelog").read_text())[0]
    assert re.findall(r"^version = (.*)$", (ROOT / "setup.cfg").read_text(), re.MULTILINE) == [version]
    assert f"docker-volume-sshfs={version}\n" in (DOCS / "installing.md").read_text()
    assert f"Pin: version {version.rpartition('.')[0]}.*\n" in (DOCS / "installing.md").read_text()


@in_a_checkout
def test_editors_are_told_what_ruff_is_told() -> None:
    configuration = configparser.ConfigParser()
    configuration.read_string("[top]\n" + (ROOT / ".editorconfig").read_text())
    (length,) = re.findall(r"^line-length = (\d+)$", (ROOT / "pyproject.toml").read_text(), re.MULTILINE)
    python = next(configuration[name] for name in configuration.sections() if "*.py" in name)
    assert (python["max_line_length"], python["indent_size"], python["indent_style"]) == (length, "4", "space")


@in_a_checkout
def test_a_commit_runs_the_quick_tests_and_fetches_nothing() -> None:
    hooks = (ROOT / ".pre-commit-config.yaml").read_text()
    assert re.findall(r"repo: (.*)", hooks) == ["local"]
    assert re.findall(r"language: (.*)", hooks) == ["system"]
    assert re.findall(r"entry: (.*)", hooks) == [QUICK.strip()]


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


def test_changelog_is_as_wide_as_debian_has_it() -> None:
    """Lintian says so as well, of a package that was built."""
    entries = re.findall("^  .*", (ROOT / "debian/changelog").read_text(), re.MULTILINE)
    assert len(entries) > 100
    assert [entry for entry in entries if len(entry) > 80] == []
