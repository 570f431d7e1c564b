# SPDX-License-Identifier: MIT
"""Mounted volumes: the supervisors of their processes, the kernel's tables of mounts, and their release."""
