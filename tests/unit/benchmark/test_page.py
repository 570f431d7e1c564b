# SPDX-License-Identifier: MIT
"""The page about performance is what the figures say."""

import re
from pathlib import Path

from benchmark.figures import Figure, Result
from benchmark.page import described, filled
from benchmark.plots import PLOTS, drawn
from benchmark.rows import ROWS

DOCS = Path(__file__).resolve().parents[3] / "docs"
PAGE = (DOCS / "performance.md").read_text()
RESULT = Result.from_json((DOCS / "performance.json").read_text())

CROWD = Figure(
    row="crowd",
    table="volumes",
    work="Mounts at once",
    unit="s",
    samples={"volume": (2.0,), "bare sshfs": (8.0,)},
    round_trip=0,
    volumes=100,
)
STARTED = Figure(row="service", table="service", work="first answer", unit="ms", samples={"service": (321.0,)})


def test_the_page_has_the_figures_of_its_file() -> None:
    """If not, run scripts/benchmark --page docs/performance.json."""
    assert filled(PAGE, RESULT) == PAGE


def test_the_plots_are_those_of_the_file() -> None:
    """If not, run scripts/benchmark --page docs/performance.json."""
    for name, plot in PLOTS.items():
        assert drawn(plot, RESULT) == (DOCS / name).read_text()
        assert f"]({name})" in PAGE


def test_the_rows_that_pages_name_exist() -> None:
    pages = PAGE + (DOCS.parent / "CONTRIBUTING.md").read_text()
    commands = re.findall(r"^sudo ./scripts/benchmark(.*)$", pages, re.MULTILINE)
    words = {word for command in commands for word in command.split() if not re.search(r"^--|/", word)}
    assert words - {"bookworm", "trixie"} <= ROWS.keys()


def test_the_file_has_all_rows() -> None:
    assert list(dict.fromkeys(figure.row for figure in RESULT.figures)) == list(ROWS)


def test_a_table_has_a_line_for_each_figure_and_nothing_else_of_the_page_is_changed() -> None:
    page = (
        "before\n<!-- volumes -->\nold\n<!-- end of volumes -->\nbetween\n<!-- service -->\n<!-- end of service -->\n"
    )
    only_plotted = Figure(
        row="crowd", table="volumes", work="Mounts at once", unit="s", samples={}, volumes=7, only_plotted=True
    )
    assert filled(page, Result(machine={}, figures=(CROWD, only_plotted, STARTED))) == (
        "before\n<!-- volumes -->\n"
        "| work | round trip | volume | bare sshfs | rclone | volume : bare sshfs | volume : rclone |\n"
        "| --- | --- | --- | --- | --- | --- | --- |\n"
        "| 100 Mounts at once | 0 ms | 2.00 s | 8.00 s | - | 0.25 | - |\n"
        "<!-- end of volumes -->\nbetween\n<!-- service -->\n"
        "| work | service |\n| --- | --- |\n| first answer | 321 ms |\n"
        "<!-- end of service -->\n"
    )


def test_a_figure_is_a_line_of_what_was_measured() -> None:
    assert described(CROWD).split() == "100 Mounts at once 0 ms volume 2.00 s bare sshfs 8.00 s (0.25)".split()
