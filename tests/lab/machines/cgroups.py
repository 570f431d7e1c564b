# SPDX-License-Identifier: MIT
"""The cgroups of a machine on this host, by which all that is left of it is found and ended."""

import contextlib
import os
import signal
from collections.abc import Sequence
from pathlib import Path

from .commands import await_true


def cgroups_of(process: str) -> dict[str, Path]:
    """Return the directories of a process's cgroups, by controllers ("" for version 2)."""
    mounted: list[tuple[str, str, str, frozenset[str]]] = []
    for line in Path("/proc/self/mountinfo").read_text("utf-8").splitlines():
        before, _, after = line.partition(" - ")
        kind, _, options = after.split(" ", 2)
        top, place = before.split(" ")[3:5]
        mounted.append((kind, top, place, frozenset(options.split(","))))
    found: dict[str, Path] = {}
    for line in Path("/proc", process, "cgroup").read_text("utf-8").splitlines():
        _, controllers, path = line.split(":", 2)
        wanted = frozenset(controllers.split(",")) if controllers else frozenset()
        for kind, top, place, features in mounted:
            if kind == ("cgroup" if controllers else "cgroup2") and wanted <= features:
                found[controllers] = Path(place, os.path.relpath(path, top))
                break
    return found


def make_cgroups(name: str) -> tuple[Path, ...]:
    """Make a cgroup in each hierarchy.

    Without them two machines would share one ("payload"), and what Docker makes would stay when a
    machine is killed.
    """
    places = cgroups_of("self")
    made = []
    for controllers, place in places.items():
        parent = place
        if list(places) == [""]:
            # only at the top may controllers be handed down next to processes
            parent = Path("/sys/fs/cgroup")
            for controller in (parent / "cgroup.controllers").read_text().split():
                with contextlib.suppress(OSError):
                    (parent / "cgroup.subtree_control").write_text(f"+{controller}")
        cgroup = parent / name
        cgroup.mkdir()
        made.append(cgroup)
        if "cpuset" in controllers.split(","):
            # empty when new, and then nobody can join
            for setting in ("cpuset.cpus", "cpuset.mems"):
                (cgroup / setting).write_text((parent / setting).read_text())
    return tuple(made)


def record_cgroups(run: Path, cgroups: Sequence[Path]) -> None:
    """Note in the directory of a machine which cgroups it has, for whoever cleans up."""
    (run / "cgroups").write_text("".join(f"{cgroup}\n" for cgroup in cgroups), "utf-8")


def end_cgroups(run: Path) -> None:
    """Kill what is left in the cgroups of a machine, and remove them."""
    record = run / "cgroups"
    if not record.exists():
        return
    cgroups = [Path(line) for line in record.read_text("utf-8").splitlines()]

    def gone() -> bool:
        for top in cgroups:
            for directory, _, _ in os.walk(top, topdown=False):
                with contextlib.suppress(OSError):
                    for pid in map(int, Path(directory, "cgroup.procs").read_text().split()):
                        # 0 is a process that we can't see, but to kill() it means ourselves
                        if pid:
                            os.kill(pid, signal.SIGKILL)
                    Path(directory).rmdir()
        return not any(top.exists() for top in cgroups)

    await_true(
        gone,
        timeout=60,
        failure=lambda: f"cgroups still in use: {[str(c) for c in cgroups if c.exists()]}",
    )
    record.unlink()
