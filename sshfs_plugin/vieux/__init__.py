# SPDX-License-Identifier: MIT
"""Volumes of the managed plugin vieux/sshfs, and how they are taken over."""
