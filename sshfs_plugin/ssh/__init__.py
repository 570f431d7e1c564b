# SPDX-License-Identifier: MIT
"""What ssh and sshfs are told: what to log in with, which host keys to trust, and all other options."""
