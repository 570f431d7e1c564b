# SPDX-License-Identifier: MIT
"""This host: its programs, and the files that options name."""
