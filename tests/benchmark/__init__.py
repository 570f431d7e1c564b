# SPDX-License-Identifier: MIT
"""What ``scripts/benchmark`` consists of: what is measured, and the table and the plots that are made of it."""
