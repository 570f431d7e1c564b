# SPDX-License-Identifier: MIT
"""This host: its programs, its journal, and the files that options name."""
