# SPDX-License-Identifier: MIT
"""The files that outlive this process: the records of volumes and of their holders."""
