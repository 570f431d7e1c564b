# SPDX-License-Identifier: MIT
"""This host: its programs, and files that somebody named."""
