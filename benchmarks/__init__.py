"""Workloads of `nightline bench`: one module each, with `run() -> list[Row]`. See README.md beside this file."""
