# SPDX-License-Identifier: MIT
"""How the programs that run in a volume's unit are called: PROGRAM STEP VOLUME."""

import logging
import sys
from collections.abc import Callable

from sshfs_plugin import errors
from sshfs_plugin.settings import Settings
from sshfs_plugin.volume import VolumeName, volume_name


def carry_out(*steps: Callable[[Settings, VolumeName], None]) -> None:
    """Carry out the step that the command line names; an error is one line on stderr and exit status 1."""
    logging.basicConfig(format="%(message)s", level=logging.INFO)
    known = {step.__name__: step for step in steps}
    program, *words = sys.argv
    if len(words) != len(("STEP", "VOLUME")) or words[0] not in known:
        sys.exit(f"{program} is called with a step ({', '.join(known)}) and the name of a volume")
    chosen, name = words
    try:
        known[chosen](Settings.from_environment(), volume_name(name))
    except (errors.PluginError, OSError, ValueError) as error:
        sys.exit(str(error))
