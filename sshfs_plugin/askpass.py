# SPDX-License-Identifier: MIT
"""The program that ssh asks for a volume's password, at the mount and again at each reconnect.

The volume's name comes in a variable; the password is read from its record or password file and goes to ssh alone.
"""

import os
import sys

from sshfs_plugin import errors
from sshfs_plugin.credentials import Keyring
from sshfs_plugin.settings import Settings
from sshfs_plugin.sshfs import PASSWORD_VOLUME
from sshfs_plugin.store import VolumeStore
from sshfs_plugin.volume import volume_name


def main() -> None:
    """Print the password; a question for something else, such as a key's passphrase, gets no answer."""
    prompt = " ".join(sys.argv[1:])
    if "passphrase" in prompt.casefold():
        sys.exit(1)
    settings = Settings.from_environment()
    try:
        name = volume_name(os.environ.get(PASSWORD_VOLUME, ""))
        volume = VolumeStore(settings.volumes).load(name)
        print(Keyring.of(settings).password(volume.credentials))  # noqa: T201 (ssh reads it from here)
    except errors.PluginError as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main()
