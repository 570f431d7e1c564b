# SPDX-License-Identifier: MIT
"""A whole Debian host for the tests, by systemd-nspawn: systemd, Docker, Podman, sshd and FUSE.

The contract: a pristine root per release is made once and never written to again; a machine lives
on an overlay of its own above it, in a network of its own, in cgroups of its own; whatever happens,
``destroy`` leaves neither a process, a mount nor a file of it. Everything that is run inside is
bounded, since anything inside may touch a FUSE mount that hangs. Failures are AssertionErrors that
show what was run and what it printed.

Nothing here knows the package under test.
"""

import contextlib
import os
import re
import secrets
import shlex
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import IO, TypeVar, overload

from .cache import CACHE, locked
from .cgroups import cgroups_of, end_cgroups, make_cgroups, record_cgroups
from .commands import LIMIT, Result, await_true, bounded, limit
from .disk import ENGINES, discard, make_disk, sweep
from .network import Place
from .roots import root_for

T = TypeVar("T")

IMAGE = "busybox:lab"

CONTENT_IMAGE = "busybox-content:lab"

APPLETS = (
    "sh cat echo ls sleep mkdir rm touch id stat dd seq date true false test chown chmod sync grep "
    "wc mv cp head tail tr printf env kill ln tar find su"
)

_NEEDED = ("systemd-nspawn", "debootstrap", "nsenter", "unshare", "setpriv", "timeout", "chattr")


def unavailable() -> str | None:
    """Return why no machine can be booted here, as a sentence, or None if one can."""
    if os.geteuid() != 0:
        return "the lab boots a whole Debian host, which needs root"
    if not Path("/dev/fuse").is_char_device():
        return "the lab needs /dev/fuse (modprobe fuse; in a container, --device /dev/fuse)"
    missing = ", ".join(name for name in _NEEDED if not shutil.which(name))
    if missing:
        return f"the lab needs {missing} (apt install systemd-container debootstrap e2fsprogs)"
    return None


class Machine:
    """A Debian host.

    Its network is its own: every port is free, and nothing leaves the host. It holds only the loopback
    interface, and one to the other machines if the machine has a place in a network with such. Docker has
    no bridge: run containers with ``--network=none``. sshd listens on port 22; the user alice (uid 1000,
    password "correct horse battery") accepts the key ``/root/keys/id_ed25519``.

    As a context manager it makes the disk, and destroys everything at the end. ``boot`` must be
    called by a thread that lives as long as the machine: the kernel ends the machine with it, so
    that a killed test run leaves none.
    """

    def __init__(self, release: str = "bookworm", place: Place | None = None, *, one_hierarchy: bool = False) -> None:
        """Prepare a machine; nothing is made yet.

        Args:
            release: Its release of Debian.
            place: Where it is in a network; None if it is alone.
            one_hierarchy: Whether it has one hierarchy of cgroups, as Debian's hosts have, even if this host has
                several. Podman starts no containers there if this host keeps CAP_SYS_RESOURCE to itself.
        """
        self.release = release
        self.place = place
        self._one_hierarchy = one_hierarchy
        self._cleanup = contextlib.ExitStack()
        self._run_directory: Path | None = None
        self._disk: Path | None = None
        self._nspawn: subprocess.Popen[bytes] | None = None
        self._leader = 0
        self._joined: tuple[str, ...] = ()

    def __enter__(self) -> "Machine":
        """Make the disk."""
        self.make()
        return self

    def __exit__(self, *_: object) -> None:
        """Destroy the machine."""
        self.destroy()

    def make(self) -> None:
        """Make the disk; after ``destroy`` this makes another one."""
        pristine = root_for(self.release)
        runs = CACHE / "runs"
        try:
            with locked(CACHE / "runs.lock"):
                runs.mkdir(exist_ok=True)
                sweep(runs)
                # the name serves as a hostname too, which those of mkdtemp do not always
                self._run_directory = runs / f"sshfs-lab-{secrets.token_hex(4)}"
                self._run_directory.mkdir()
                self._cleanup.enter_context(locked(self._run_directory / "lock"))
            self._disk = make_disk(pristine, self._run_directory)
            if self.place:
                self.place.prepare(self._disk)
        except BaseException:
            self.destroy()
            raise

    @property
    def disk(self) -> Path:
        """The machine's root as the host sees it; only for a look while the machine is off."""
        assert self._disk, "the machine has no disk: enter it as a context manager first"
        return self._disk

    @property
    def is_on(self) -> bool:
        """Whether the machine is running."""
        return self._nspawn is not None and self._nspawn.poll() is None

    @property
    def console(self) -> str:
        """What this boot wrote to the console."""
        log = self.disk.with_name("console")
        return log.read_text("utf-8", "replace") if log.exists() else ""

    def boot(self) -> None:
        """Boot until systemd has nothing left to start."""
        assert not self.is_on, "the machine is on already"
        with self.disk.with_name("console").open("wb") as console:
            self._nspawn = subprocess.Popen(
                [*self._placed(), "systemd-nspawn", *self._nspawn_options()],
                stdin=subprocess.DEVNULL,
                stdout=console,
                stderr=subprocess.STDOUT,
                env=os.environ | ({"SYSTEMD_NSPAWN_UNIFIED_HIERARCHY": "1"} if self._one_hierarchy else {}),
                # an interrupt from the keyboard is for the tests, which then end the machine
                start_new_session=True,
                umask=0o022,
            )
        self._leader = self._until_booting(self._find_leader)
        self._record_scope()
        self._until_booting(self._is_up)
        self._joined = self._join_files()

    def poweroff(self) -> None:
        """Power off in an orderly way.

        Raises:
            AssertionError: It does not end; it is still on then.
        """
        # the command itself may be ended by what it asks for
        asked = self.run("systemctl", "poweroff", check=False)
        await_true(
            lambda: not self.is_on,
            timeout=LIMIT,
            failure=lambda: f"not off after {LIMIT} s\n{asked}\n{self._console_end()}",
        )
        self._leader, self._joined = 0, ()

    def reboot(self) -> None:
        """Power off and boot the same disk again; what was under /run and /tmp is gone."""
        self.poweroff()
        self.boot()

    def cut_power(self) -> None:
        """Kill everything in the machine at once; ``boot`` works afterwards."""
        if self._nspawn:
            if self.is_on:
                # nspawn reaps the leader: while it runs, the pid can't belong to anybody else
                leader = self._leader or self._find_leader()
                with contextlib.suppress(ProcessLookupError):
                    os.kill(leader or self._nspawn.pid, signal.SIGKILL)
            try:
                self._nspawn.wait(10)
            except subprocess.TimeoutExpired:
                self._nspawn.kill()
                self._nspawn.wait(10)
        self._nspawn = None
        self._leader, self._joined = 0, ()

    def destroy(self) -> None:
        """Kill the machine and remove every trace of it; may be called at any time, and again."""
        # the lock goes last, and in any case: the next run then removes what we could not
        with self._cleanup:
            self.cut_power()
            if self._run_directory:
                discard(self._run_directory)
            self._run_directory = self._disk = None

    def run(
        self,
        *argv: str | Path,
        check: bool = True,
        timeout: float = LIMIT,
        input: str | bytes | None = None,
    ) -> Result:
        """Run a command inside as root, in "/", with a clean environment.

        A single word with white space in it is a script for ``sh -e``.

        Args:
            argv: The command.
            check: Fail when it ends with anything but 0.
            timeout: Seconds after which it is killed; what hangs in the kernel is left behind.
            input: What it reads; nothing by default.

        Raises:
            AssertionError: It failed or was killed, and check is true.
        """
        words = [os.fspath(word) for word in argv]
        if len(words) == 1 and re.search(r"\s", words[0]):
            words = ["sh", "-e", "-c", words[0]]
        if input is None:
            return self._enter(words, check=check, timeout=timeout, stdin=None)
        with tempfile.TemporaryFile() as stdin:
            stdin.write(input.encode() if isinstance(input, str) else input)
            stdin.seek(0)
            return self._enter(words, check=check, timeout=timeout, stdin=stdin)

    def sh(
        self,
        script: str,
        *args: str | Path,
        check: bool = True,
        timeout: float = LIMIT,
        input: str | bytes | None = None,
    ) -> Result:
        """Run a script with ``sh -e``; args are its $1, $2, ..."""
        return self.run("sh", "-e", "-c", script, "sh", *args, check=check, timeout=timeout, input=input)

    @overload
    def until(self, condition: str, *, timeout: float = ..., pause: float | None = ...) -> Result: ...

    @overload
    def until(self, condition: Callable[[], T], *, timeout: float = ..., pause: float | None = ...) -> T: ...

    def until(
        self, condition: str | Callable[[], object], *, timeout: float = 300, pause: float | None = None
    ) -> object:
        """Wait until a script succeeds or a callable returns something true; return the outcome.

        A callable may also fail as a test does: an AssertionError means "not yet".

        Raises:
            AssertionError: It did not come true in time; shows the last outcome.
        """
        last: object = None

        def attempt() -> object:
            nonlocal last
            try:
                last = condition() if callable(condition) else script(condition)
            except AssertionError as error:
                last = error
                return None
            return last

        def script(text: str) -> Result:
            return self.sh(text, check=False, timeout=timeout)

        def failure() -> str:
            return f"not so within {timeout} s; the last outcome:\n{last!s}"

        return await_true(attempt, timeout=timeout, pause=pause, failure=failure)

    def write(self, path: str | Path, text: str | bytes, mode: int = 0o644) -> None:
        """Write a file, owned by root, with its directories."""
        self.sh(_WRITE, path, f"{mode:o}", input=text)

    def read(self, path: str | Path) -> str:
        """Return the content of a file."""
        return self.run("cat", "--", path).stdout

    def push(self, host_path: Path, path: str | Path) -> None:
        """Copy a file of the host in, with its mode; path names the new file, not a directory."""
        mode = host_path.stat().st_mode & 0o7777
        with host_path.open("rb") as file:
            argv = ["sh", "-e", "-c", _WRITE, "sh", os.fspath(path), f"{mode:o}"]
            self._enter(argv, check=True, timeout=LIMIT, stdin=file)

    def journal(self, *words: str) -> str:
        """Return what journalctl prints of all that has been logged so far; it lags behind unless it is told to wait.

        Args:
            words: Options and matches; each entry is only its message unless an ``--output`` is among them.
        """
        read = 'journalctl --sync; exec journalctl --quiet --no-pager --output=cat "$@"'
        # it ends with 1 where there is nothing
        return self.sh(read, *words, check=False).stdout

    @contextlib.contextmanager
    def sshd_with(self, settings: str) -> Iterator[None]:
        """Let the SSH server have other settings meanwhile, before all others, since what is said first counts."""
        file, usual = "/etc/ssh/sshd_config.d/00-test.conf", "/etc/ssh/sshd_config.d/lab.conf"
        before = self.read(usual)
        self.write(file, settings)
        # of several MaxStartups, the sshd of Debian 12 takes the last
        others = [line for line in before.splitlines() if line.split()[0] not in settings.split()]
        self.write(usual, "\n".join([*others, ""]))
        self.run("systemctl", "restart", "ssh")
        try:
            yield
        finally:
            self.write(usual, before)
            self.sh("rm $1; systemctl restart ssh", file)

    def import_busybox_image(self, tag: str = IMAGE) -> None:
        """Give Docker and Podman an image with the applets of busybox, and one with files at /data.

        The second is ``busybox-content:lab``, with the lines "content" in /data/file and "content
        below" in /data/sub/file.
        """
        self.sh(_IMPORT, tag, CONTENT_IMAGE, APPLETS)

    def _enter(self, words: Sequence[str], *, check: bool, timeout: float, stdin: IO[bytes] | None) -> Result:
        assert self.is_on, f"the machine is off: {shlex.join(words)}"
        namespaces = ("nsenter", "-t", str(self._leader), "-m", "-u", "-i", "-n", "-p", "-C", "--")
        join = 'for file in $1; do echo $$ > "$file"; done; shift; exec "$@"'
        joined = ("sh", "-e", "-c", join, "sh", " ".join(self._joined))
        result = bounded(
            # the limit is kept inside: nsenter has to outlive what it started, or the remains wait
            # for the host's PID 1 to be reaped, and the machine can't end before
            (*joined, *namespaces, *limit(timeout), *words),
            label=words,
            timeout=timeout,
            stdin=stdin,
            inside=True,
        )
        if check and not result:
            raise AssertionError(str(result))
        return result

    def _placed(self) -> tuple[str, ...]:
        """Return the words that put nspawn into cgroups of its own, and bind its life to ours."""
        run = self.disk.parent
        end_cgroups(run)
        # nothing stronger: killed itself, nspawn would leave the machine running
        mortal = ("setpriv", "--pdeathsig", "TERM", "--")
        if Path("/run/systemd/system").is_dir():
            # where PID 1 owns the tree of cgroups, it is asked
            scope = ("systemd-run", "--scope", "--quiet", "--collect", "--property=Delegate=yes")
            return (*mortal, *scope, f"--unit={run.name}", "--")
        cgroups = make_cgroups(run.name)
        record_cgroups(run, cgroups)
        join = 'for cgroup in $1; do echo $$ > "$cgroup/cgroup.procs"; done; shift; exec "$@"'
        return ("sh", "-e", "-c", join, "sh", " ".join(map(str, cgroups)), *mortal)

    def _record_scope(self) -> None:
        """Note the cgroups that PID 1 of the host has given us, for whoever cleans up."""
        assert self._nspawn
        run = self.disk.parent
        places = cgroups_of(str(self._nspawn.pid)).values()
        above = {parent for place in places for parent in (place, *place.parents)}
        scopes = [cgroup for cgroup in above if cgroup.name == f"{run.name}.scope"]
        if scopes:
            record_cgroups(run, scopes)

    def _nspawn_options(self) -> tuple[str, ...]:
        fixed = (
            "--quiet --boot --keep-unit --register=no --link-journal=no --console=pipe "
            "--capability=all --bind=/dev/fuse"
        )
        network = (
            (f"--hostname={self.place.hostname}", f"--network-bridge={self.place.bridge}")
            if self.place
            else ("--hostname=lab", "--private-network")
        )
        # without keyrings runc starts no container
        calls = "--system-call-filter=@keyring bpf"
        place = (f"--directory={self.disk}", f"--machine={self.disk.parent.name}")
        engines = (f"--bind={self.disk.with_name('written') / Path(path).name}:{path}" for path in ENGINES)
        return (*fixed.split(), *network, calls, *place, *engines)

    def _find_leader(self) -> int:
        """Return the pid of the machine's PID 1, or 0 as long as there is none."""
        assert self._nspawn
        pid = self._nspawn.pid
        with contextlib.suppress(OSError):
            for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split():
                # the last of several pids is the one in the innermost namespace
                if re.search(r"^NSpid:.*\s1$", Path("/proc", child, "status").read_text(), re.M):
                    return int(child)
        return 0

    def _is_up(self) -> bool:
        state = self.run("systemctl", "is-system-running", check=False).stdout.strip()
        return state in ("running", "degraded")

    def _until_booting(self, condition: Callable[[], T]) -> T:
        def attempt() -> T:
            assert self.is_on, f"the machine did not boot\n{self._console_end()}"
            return condition()

        def failure() -> str:
            jobs = self._leader and self.run("systemctl", "list-jobs", check=False, timeout=60)
            return f"not booted after {LIMIT} s\n{jobs}\n{self._console_end()}"

        return await_true(attempt, timeout=LIMIT, failure=failure)

    def _join_files(self) -> tuple[str, ...]:
        """Return the files that take a command into the machine's cgroups.

        Entering namespaces does not: Podman would start containers next to the machine, and where
        cgroups are delegated by namespace, PID 1 inside could not move them.
        """
        places = []
        for place in cgroups_of(str(self._leader)).values():
            cgroup = place.parent / "lab.scope" if place.name == "init.scope" else place
            cgroup.mkdir(exist_ok=True)
            places.append(f"{cgroup}/cgroup.procs")
        return tuple(places)

    def _console_end(self) -> str:
        return "--- console ---\n" + "\n".join(self.console.splitlines()[-40:])


_WRITE = """\
mkdir -p -- "$(dirname -- "$1")"
umask 077
cat > "$1"
chmod "$2" "$1"
"""

_IMPORT = """\
tree=$(mktemp -d)
trap 'rm -rf "$tree"' EXIT
chmod 755 "$tree"
mkdir "$tree/bin" "$tree/etc"
mkdir -m 1777 "$tree/tmp"
cp "$(command -v busybox)" "$tree/bin/busybox"
for applet in $3; do
    busybox --list | grep -qx "$applet"
    ln -s busybox "$tree/bin/$applet"
done
import() {
    tar -C "$tree" -c . | docker import --change 'CMD ["sh"]' - "$1"
    tar -C "$tree" -c . | podman import --quiet --change 'CMD ["sh"]' - "$1"
}
import "$1"
mkdir -p "$tree/data/sub"
echo content > "$tree/data/file"
echo 'content below' > "$tree/data/sub/file"
import "$2"
"""
