# SPDX-License-Identifier: MIT
"""The rules of a Docker volume driver, without HTTP and without I/O of its own."""
