# SPDX-License-Identifier: MIT
"""The tests of the other tiers, with the Python and the packages of the machine's release."""

import pytest

from .host import Host

MINUTES = 60


@pytest.mark.timeout(5 * MINUTES + 20, func_only=True)
@pytest.mark.parametrize("tiers", ["tests/unit tests/api", "tests/integration"])
def test_the_other_tiers_pass_on_this_release(host: Host, tiers: str) -> None:
    # CI: what could not run there has failed
    pytest_ = "CI=true PYTHONDONTWRITEBYTECODE=1 /usr/bin/python3 -m pytest -q"
    said = host.machine.sh(f"cd {host.checkout()} && {pytest_} {tiers} 2>&1", timeout=5 * MINUTES).stdout
    assert " passed in " in said
    assert "skipped" not in said
