# SPDX-License-Identifier: MIT
"""docker-volume-sshfs: directories on SSH servers as Docker volumes."""
