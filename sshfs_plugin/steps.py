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
    try:
        chosen, name = sys.argv[1:]
        {step.__name__: step for step in steps}[chosen](Settings.from_environment(), volume_name(name))
    except (errors.PluginError, OSError, ValueError) as error:
        sys.exit(str(error))
    except KeyError:
        sys.exit(f"{chosen} is no step of this program")
