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
import fcntl
import hashlib
import os
import re
import secrets
import shlex
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TypeVar, overload

T = TypeVar("T")

CACHE = Path(os.environ.get("SSHFS_LAB_CACHE", "/var/cache/docker-volume-sshfs-lab"))

IMAGE = "busybox:lab"
CONTENT_IMAGE = "busybox-content:lab"

LIMIT = 1200
"""Seconds after which a command hangs: limits end what hangs, and do not judge what is slow on a busy host."""

APPLETS = (
    "sh cat echo ls sleep mkdir rm touch id stat dd seq date true false test chown chmod sync grep "
    "wc mv cp head tail tr printf env kill ln tar find su"
)

_NEEDED = ("systemd-nspawn", "debootstrap", "nsenter", "unshare", "setpriv", "timeout", "chattr")

_ENVIRONMENT = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "HOME": "/root", "LANG": "C.UTF-8"}


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


# ------------------------------------------------------------------------------------------------
# Commands


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """What a command did.

    Attributes:
        argv: The command, as the caller gave it.
        returncode: Its exit status; negative when a signal ended it.
        seconds: How long it took.
        timed_out: It was killed because it reached its limit.
    """

    argv: tuple[str, ...]
    returncode: int
    stdout: str
    stderr: str
    seconds: float
    timed_out: bool

    def __bool__(self) -> bool:
        """Tell whether it succeeded."""
        return self.returncode == 0

    def __str__(self) -> str:
        """Show everything that a reader of a failed test wants to know."""
        end = "was killed at its limit" if self.timed_out else f"ended with {self.returncode}"
        parts = [f"{shlex.join(self.argv)}\n{end} after {self.seconds:.2f} s"]
        parts += [
            f"--- {name} ---\n{text.rstrip()}"
            for name, text in (("stdout", self.stdout), ("stderr", self.stderr))
            if text.strip()
        ]
        return "\n".join(parts)


def _limit(seconds: float) -> tuple[str, ...]:
    return ("timeout", "-s", "KILL", str(seconds))


def _bounded(
    argv: Sequence[str],
    *,
    label: Sequence[str],
    timeout: float,
    stdin: IO[bytes] | None = None,
    inside: bool = False,
) -> Result:
    """Run a command that bears its own limit to its end.

    Its output goes through files: a process that hangs in the kernel, or a daemon that it left
    behind, would keep the writing end of a pipe open and so hold us for ever.

    Args:
        argv: The command, with the words of ``_limit``.
        label: How it is shown.
        timeout: Its limit in seconds.
        stdin: What it reads; nothing by default.
        inside: It runs in a machine: with a clean environment, and left to its limit when we are
            interrupted. On the host it has our environment, for proxies, and is killed then.
    """
    ours = {**os.environ, "LANG": "C.UTF-8", "LC_ALL": "C.UTF-8"}
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        started = time.monotonic()
        process = subprocess.Popen(
            argv,
            stdin=stdin or subprocess.DEVNULL,
            stdout=out,
            stderr=err,
            env=_ENVIRONMENT if inside else ours,
            umask=0o022,
            process_group=0,
        )
        try:
            process.wait(timeout + 10)
        except BaseException:
            if not inside and process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
                with contextlib.suppress(subprocess.TimeoutExpired):
                    process.wait(5)
            raise
        seconds = time.monotonic() - started
        # timeout(1) ends itself with the group that it kills, or says that it was killed
        killed = process.returncode in (-signal.SIGKILL, 128 + signal.SIGKILL)
        out.seek(0)
        err.seek(0)
        return Result(
            argv=tuple(label),
            returncode=process.returncode,
            stdout=out.read().decode(errors="replace"),
            stderr=err.read().decode(errors="replace"),
            seconds=seconds,
            timed_out=killed and seconds >= timeout,
        )


def _host(*argv: str | Path, timeout: float = LIMIT, check: bool = True) -> Result:
    words = [os.fspath(word) for word in argv]
    result = _bounded((*_limit(timeout), *words), label=words, timeout=timeout)
    if check and not result:
        raise AssertionError(str(result))
    return result


def _await(condition: Callable[[], T], *, timeout: float, failure: Callable[[], str], pause: float = 0.05) -> T:
    deadline = time.monotonic() + timeout
    while not (outcome := condition()):
        if time.monotonic() > deadline:
            raise AssertionError(failure())
        time.sleep(pause)
    return outcome


@contextlib.contextmanager
def _locked(path: Path, *, wait: bool = True) -> Iterator[bool]:
    """Hold a lock on a file, and say whether it was got; the kernel frees it when we die."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        except BlockingIOError:
            yield False
        else:
            yield True


# ------------------------------------------------------------------------------------------------
# Pristine roots

_PACKAGES = (
    "docker.io docker-compose docker-registry podman crun iptables busybox-static sshfs openssh-server e2fsprogs sudo "
    "curl ca-certificates openssl procps iproute2 gunicorn python3-flask python3-paramiko python3-systemd "
    "dropbear-bin proftpd-core proftpd-mod-crypto rclone needrestart apt-utils gnupg ansible-core python3-apt man-db "
    "zsh fish bash-completion unattended-upgrades python3-pytest python3-pytest-timeout "
    "podman-compose catatonit "
    # to build the package, and to test it as Debian does
    "autopkgtest build-essential dpkg-dev debhelper dh-python pybuild-plugin-pyproject python3-all "
    "python3-docutils python3-setuptools"
)

_REINSTALLABLE = (
    "libc6 libc-bin ^libssl3(t64)?$ openssl ^libfuse3-[0-9]+$ fuse3 sshfs openssh-client "
    # which go with the very versions of these
    "libc6-dev libc-dev-bin openssh-server openssh-sftp-server"
)
"""Packages, or patterns of their names, that stay in apt's cache, since a machine has no way out to fetch them."""

_FILES = {
    "/etc/hostname": "lab\n",
    "/etc/hosts": "127.0.0.1 localhost lab nas\n::1 localhost ip6-localhost ip6-loopback\n",
    "/etc/docker/daemon.json": '{"bridge": "none", "iptables": false, "ip6tables": false}\n',
    # a hundred mounts at once are refused at random by the default of 10:30:100
    "/etc/ssh/sshd_config.d/lab.conf": "PasswordAuthentication yes\nMaxStartups 500\n",
    # before Docker, yet after the units that would change the host itself if /sys were writable
    "/etc/systemd/system/lab-writable.service": """\
[Unit]
Description=Make writable what a container manager holds read-only and a real host does not
DefaultDependencies=no
After=sysinit.target
Before=basic.target
[Service]
Type=oneshot
RemainAfterExit=yes
ExecStart=/usr/local/sbin/lab-writable
[Install]
WantedBy=basic.target
""",
}

# a sysfs is read-only twice, as a file system and at each place where it is mounted; a controller
# only at its place
_WRITABLE = """\
#!/bin/sh
findmnt --noheadings --raw --output TARGET --types cgroup,cgroup2 | while read -r place; do
    mount -o remount,rw,bind "$place"
done
findmnt --noheadings --raw --output TARGET --types sysfs | while read -r place; do
    mount -o remount,rw "$place"
    mount -o remount,rw,bind "$place"
done
"""

_INSTALL = """\
update-ca-certificates
printf '#!/bin/sh\\nexit 101\\n' > /usr/sbin/policy-rc.d
chmod 755 /usr/sbin/policy-rc.d
echo force-unsafe-io > /etc/dpkg/dpkg.cfg.d/lab
apt-get update
apt-get install --yes --no-install-recommends "$@"
apt-get clean
apt-get install --yes --reinstall --download-only @REINSTALLABLE@
# a machine has no way to a mirror, and apt would read what it offered at each call
rm -r /var/lib/apt/lists/* /var/cache/apt/*.bin
rm /usr/sbin/policy-rc.d
""".replace("@REINSTALLABLE@", shlex.join(_REINSTALLABLE.split()))

# sshd 9.8 and later refuses an address for a while after a wrong password: the next test would fail
_SETTLE = """\
useradd --create-home --shell /bin/bash --uid 1000 alice
echo 'alice:correct horse battery' | chpasswd
mkdir --mode=700 /root/keys
ssh-keygen -q -t ed25519 -N '' -C lab -f /root/keys/id_ed25519
install -d -o alice -g alice -m 700 /home/alice/.ssh
install -o alice -g alice -m 600 /root/keys/id_ed25519.pub /home/alice/.ssh/authorized_keys
mkdir -p /run/sshd
if sshd -T -o PerSourcePenalties=no > /dev/null 2>&1; then
    echo 'PerSourcePenalties no' >> /etc/ssh/sshd_config.d/lab.conf
fi
sshd -t
systemctl enable lab-writable.service docker.service ssh.service
systemctl mask apt-daily.timer apt-daily-upgrade.timer podman-auto-update.timer
# servers that a test starts when it wants them
systemctl disable proftpd.service docker-registry.service
# the kernel is the host's
systemctl mask systemd-modules-load.service
"""


def _packages(release: str) -> list[str]:
    # until bookworm the command line is part of docker.io
    return _PACKAGES.split() + ([] if release == "bookworm" else ["docker-cli"])


def _fingerprint(release: str) -> str:
    parts = (_packages(release), sorted(_FILES.items()), _WRITABLE, _INSTALL, _SETTLE)
    return hashlib.sha256(repr(parts).encode()).hexdigest()[:12]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Source:
    uri: str
    suite: str


def _host_codename() -> str:
    text = Path("/etc/os-release").read_text("utf-8")
    found = re.search(r"^VERSION_CODENAME=\"?(\w+)", text, re.MULTILINE)
    is_debian = re.search(r"^ID=\"?debian\"?$", text, re.MULTILINE)
    return found[1] if found and is_debian else ""


def _index_targets(*options: str) -> Iterator[tuple[str, str, str, str]]:
    """Ask apt, which reads all formats of sources, for URI, suite, component and origin of each."""
    form = "$(REPO_URI) $(RELEASE) $(COMPONENT) $(ORIGIN)"
    argv = ("apt-get", "indextargets", *options, "--format", form, "Created-By: Packages")
    answer = _host(*argv, check=False)
    for line in answer.stdout.splitlines():
        uri, suite, component, origin = line.split(" ", 3)
        yield uri, suite, component, origin


def _first_mirror(uri: str) -> str:
    """Return the first of a list of mirrors, which debootstrap can't read; another URI as it is."""
    if not uri.startswith("mirror+file:"):
        return uri
    path = "/" + uri.removeprefix("mirror+file:").strip("/")
    return Path(path).read_text("utf-8").split()[0]


def _sources(release: str) -> tuple[_Source, ...]:
    """Return where the host gets Debian from, for another release; the release itself first.

    Raises:
        AssertionError: The host has no such source.
    """
    names = f"{_host_codename() or '(?!)'}|(?:old)*stable|testing|unstable|sid"
    ours = re.compile(rf"(?:{names})(|-updates|-security)")
    # the suites of others are often named like Debian's: a list that was fetched tells whose it is
    foreign = {uri for uri, _, _, origin in _index_targets() if origin != "Debian"}
    # but most images of containers hold no lists, so that those can't be relied on alone
    found = {
        _Source(uri=_first_mirror(uri), suite=release + suffix[1])
        for uri, suite, component, _ in _index_targets("--no-release-info")
        if component == "main" and uri not in foreign and (suffix := ours.fullmatch(suite))
    }
    usable = [source for source in found if source.uri.startswith(("http:", "https:"))]
    usable.sort(key=lambda source: (len(source.suite), source.suite, source.uri))
    assert (
        usable and usable[0].suite == release
    ), "the lab installs Debian from where this host does, but apt knows no http or https source of Debian here"
    return tuple(usable)


def _apt_settings() -> str:
    """Return the host's settings of how to reach a mirror.

    The rest stays behind: hooks call programs that the root lacks, and what images of containers
    bring along empties its caches.
    """
    dump = _host("apt-config", "dump", "--no-empty", "--format", '%F "%v";%n', "Acquire").stdout
    leave = tuple(f"Acquire::{tree}::" for tree in ("IndexTargets", "Changelogs", "CompressionTypes", "cdrom"))
    return "".join(f"{line}\n" for line in dump.splitlines() if not line.startswith(leave))


def _put(root: Path, path: str, text: str, mode: int = 0o644) -> None:
    target = root / path.lstrip("/")
    missing = [directory for directory in target.parents if not directory.exists()]
    for directory in reversed(missing):
        directory.mkdir()
        directory.chmod(0o755)
    target.unlink(missing_ok=True)
    target.write_text(text, "utf-8")
    target.chmod(mode)


def _copy_absent(source: Path, target: Path) -> None:
    """Copy the files of a directory of the host; what the release brings itself stays."""
    if not source.is_dir():
        return
    target.mkdir(parents=True, exist_ok=True)
    for file in source.iterdir():
        if file.is_file() and not (target / file.name).exists():
            shutil.copy(file, target)


def _isolated(log: Path, *argv: str | Path) -> None:
    """Run a step of the making so that it leaves no process and no mount, even when interrupted."""
    flags = "--mount --propagation=private --pid --fork --kill-child --mount-proc"
    # half an hour, for an archive behind a slow link
    result = _host("unshare", *flags.split(), *argv, timeout=1800, check=False)
    with log.open("a", encoding="utf-8") as file:
        file.write(f"{result}\n")
    if not result:
        ends = f"{result.stdout[-2000:]}\n{result.stderr[-2000:]}"
        raise AssertionError(f"cannot make a root ({argv[0]} failed, all of it in {log})\n{ends}")


def in_root(log: Path, root: Path, script: str, *args: str) -> None:
    """Run a script in a root that is being made."""
    enter = 'mount -t proc proc "$0/proc" && exec chroot "$0" /bin/sh -eu -c "$@"'
    settings = {**_ENVIRONMENT, "DEBIAN_FRONTEND": "noninteractive"}
    environment = (f"{name}={value}" for name, value in settings.items())
    _isolated(log, "env", *environment, "sh", "-c", enter, root, script, "lab", *args)


def debootstrap(log: Path, root: Path, release: str, *flags: str) -> None:
    """Make the smallest Debian."""
    log.unlink(missing_ok=True)
    _isolated(log, "debootstrap", "--variant=minbase", *flags, release, root, _sources(release)[0].uri)
    # a strict umask may have made it, and alice has to pass through "/"
    root.chmod(0o755)


def let_fetch(root: Path, release: str) -> None:
    """Let apt in a root fetch packages from where this host does."""
    sources = _sources(release)
    _put(root, "/etc/apt/sources.list", "".join(f"deb {s.uri} {s.suite} main\n" for s in sources))
    _put(root, "/etc/apt/apt.conf.d/99lab", _apt_settings())
    trusted = ("etc/apt/trusted.gpg.d", "etc/apt/keyrings", "usr/local/share/ca-certificates")
    for directory in trusted:
        _copy_absent(Path("/", directory), root / directory)
    shutil.copy("/etc/resolv.conf", root / "etc")


def _make(release: str, root: Path, log: Path) -> None:
    debootstrap(log, root, release, "--include=systemd,systemd-sysv,dbus,ca-certificates")
    let_fetch(root, release)
    in_root(log, root, _INSTALL, *_packages(release))
    for path, text in _FILES.items():
        _put(root, path, text)
    _put(root, "/usr/local/sbin/lab-writable", _WRITABLE, 0o755)
    in_root(log, root, _SETTLE)


def root_for(release: str) -> Path:
    """Return the pristine root of a Debian release, made on the first call from a mirror.

    It must never be written to: machines stand on it. A changed recipe makes another one; the old
    one stays until somebody deletes the cache.

    Raises:
        AssertionError: It could not be made; the message names the log.
    """
    return cached(f"{release}-{_fingerprint(release)}", lambda root, log: _make(release, root, log))


def cached(name: str, make: Callable[[Path, Path], None]) -> Path:
    """Return a directory of the cache; on the first call it is made, by a function that gets it and its log."""
    made = CACHE / name
    making = CACHE / f"{name}.making"
    with _locked(CACHE / f"{name}.lock"):
        if not made.is_dir():
            _delete(making)
            try:
                making.mkdir()
                make(making, CACHE / f"{name}.log")
                making.rename(made)
            finally:
                _delete(making)
    return made


# ------------------------------------------------------------------------------------------------
# Cgroups of the host


def _cgroups_of(process: str) -> dict[str, Path]:
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


def _make_cgroups(name: str) -> tuple[Path, ...]:
    """Make a cgroup in each hierarchy.

    Without them two machines would share one ("payload"), and what Docker makes would stay when a
    machine is killed.
    """
    places = _cgroups_of("self")
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


def _record_cgroups(run: Path, cgroups: Sequence[Path]) -> None:
    (run / "cgroups").write_text("".join(f"{cgroup}\n" for cgroup in cgroups), "utf-8")


def _end_cgroups(run: Path) -> None:
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

    _await(
        gone,
        timeout=60,
        failure=lambda: f"cgroups still in use: {[str(c) for c in cgroups if c.exists()]}",
    )
    record.unlink()


# ------------------------------------------------------------------------------------------------
# A machine's disk


def _is_mounted(path: Path) -> bool:
    lines = Path("/proc/self/mountinfo").read_text("utf-8").splitlines()
    return any(line.split(" ")[4] == os.fspath(path) for line in lines)


def _delete(directory: Path) -> None:
    if directory.exists():
        _host("chattr", "-R", "-f", "-i", directory, check=False)
        _host("rm", "-rf", "--one-file-system", directory)


_MEMORY = 4 << 30
"""Bytes of free memory with which disks are kept in it: all of them together take less."""

_ENGINES = ("/var/lib/docker", "/var/lib/containers")
"""What lies beside the overlay: above one, Docker and Podman would copy an image whole for each container."""


def _make_disk(pristine: Path, run: Path) -> Path:
    """Give a machine a disk: an overlay or, where the cache can't carry one, a copy."""
    disk, written = run / "root", run / "written"
    for directory in (disk, written):
        directory.mkdir()
    keep_in_memory(written)
    for name in ("upper", "work", *(Path(path).name for path in _ENGINES)):
        (written / name).mkdir()
        # the mode of "upper" becomes that of "/" in the machine
        (written / name).chmod(0o755)
    options = f"lowerdir={pristine},upperdir={written / 'upper'},workdir={written / 'work'}"
    if not _host("mount", "-t", "overlay", "-o", options, "sshfs-lab", disk, check=False):
        _host("cp", "-a", "--reflink=auto", f"{pristine}/.", disk)
    return disk


def keep_in_memory(directory: Path) -> None:
    """Mount memory on a directory, if there is enough of it, and if the kernel's tmpfs knows immutable files.

    Nothing of a machine outlives its tests, and much of what they do is to write files and remove them again. An ext4
    without a journal is slow at just that: it looks for inodes that were not removed lately, one by one.
    """
    (available,) = re.findall(r"^MemAvailable: +(\d+) kB$", Path("/proc/meminfo").read_text("utf-8"), re.MULTILINE)
    if int(available) << 10 < _MEMORY:
        return
    _host("mount", "-t", "tmpfs", "-o", "mode=0755", "sshfs-lab", directory)
    if _host("chattr", "+i", directory, check=False):
        _host("chattr", "-i", directory)
    else:
        _host("umount", directory)


def _discard(run: Path) -> None:
    """Remove a machine's processes, cgroups and disk."""
    _end_cgroups(run)
    for place in (run / "root", run / "written"):
        if _is_mounted(place) and not _host("umount", place, check=False):
            _host("umount", "--lazy", place)
        assert not _is_mounted(place), f"{place} can't be unmounted"
    _delete(run)


def _sweep(runs: Path) -> None:
    """Remove what test runs left that were killed; a live one holds its lock."""
    for run in runs.iterdir():
        with _locked(run / "lock", wait=False) as free:
            if free:
                _discard(run)


# ------------------------------------------------------------------------------------------------
# Machines


class Machine:
    """A Debian host.

    Its network is its own and holds only the loopback interface: every port is free, and nothing
    leaves the host. Docker has no bridge: run containers with ``--network=none``. sshd listens on
    port 22; the user alice (uid 1000, password "correct horse battery") accepts the key
    ``/root/keys/id_ed25519``.

    As a context manager it makes the disk, and destroys everything at the end. ``boot`` must be
    called by a thread that lives as long as the machine: the kernel ends the machine with it, so
    that a killed test run leaves none.
    """

    def __init__(self, release: str = "bookworm") -> None:
        """Prepare a machine of a release; nothing is made yet."""
        self.release = release
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
            with _locked(CACHE / "runs.lock"):
                runs.mkdir(exist_ok=True)
                _sweep(runs)
                # the name serves as a hostname too, which those of mkdtemp do not always
                self._run_directory = runs / f"sshfs-lab-{secrets.token_hex(4)}"
                self._run_directory.mkdir()
                self._cleanup.enter_context(_locked(self._run_directory / "lock"))
            self._disk = _make_disk(pristine, self._run_directory)
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
        _await(
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
                _discard(self._run_directory)
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
    def until(self, condition: str, *, timeout: float = ..., pause: float = ...) -> Result: ...

    @overload
    def until(self, condition: Callable[[], T], *, timeout: float = ..., pause: float = ...) -> T: ...

    def until(self, condition: str | Callable[[], object], *, timeout: float = 300, pause: float = 0.1) -> object:
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

        return _await(attempt, timeout=timeout, pause=pause, failure=failure)

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
        result = _bounded(
            # the limit is kept inside: nsenter has to outlive what it started, or the remains wait
            # for the host's PID 1 to be reaped, and the machine can't end before
            (*joined, *namespaces, *_limit(timeout), *words),
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
        _end_cgroups(run)
        # nothing stronger: killed itself, nspawn would leave the machine running
        mortal = ("setpriv", "--pdeathsig", "TERM", "--")
        if Path("/run/systemd/system").is_dir():
            # where PID 1 owns the tree of cgroups, it is asked
            scope = ("systemd-run", "--scope", "--quiet", "--collect", "--property=Delegate=yes")
            return (*mortal, *scope, f"--unit={run.name}", "--")
        cgroups = _make_cgroups(run.name)
        _record_cgroups(run, cgroups)
        join = 'for cgroup in $1; do echo $$ > "$cgroup/cgroup.procs"; done; shift; exec "$@"'
        return ("sh", "-e", "-c", join, "sh", " ".join(map(str, cgroups)), *mortal)

    def _record_scope(self) -> None:
        """Note the cgroups that PID 1 of the host has given us, for whoever cleans up."""
        assert self._nspawn
        run = self.disk.parent
        places = _cgroups_of(str(self._nspawn.pid)).values()
        above = {parent for place in places for parent in (place, *place.parents)}
        scopes = [cgroup for cgroup in above if cgroup.name == f"{run.name}.scope"]
        if scopes:
            _record_cgroups(run, scopes)

    def _nspawn_options(self) -> tuple[str, ...]:
        fixed = (
            "--quiet --boot --keep-unit --register=no --link-journal=no --console=pipe "
            "--hostname=lab --private-network --capability=all --bind=/dev/fuse"
        )
        # without keyrings runc starts no container
        calls = "--system-call-filter=@keyring bpf"
        place = (f"--directory={self.disk}", f"--machine={self.disk.parent.name}")
        engines = (f"--bind={self.disk.with_name('written') / Path(path).name}:{path}" for path in _ENGINES)
        return (*fixed.split(), calls, *place, *engines)

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

        return _await(attempt, timeout=LIMIT, failure=failure)

    def _join_files(self) -> tuple[str, ...]:
        """Return the files that take a command into the machine's cgroups.

        Entering namespaces does not: Podman would start containers next to the machine, and where
        cgroups are delegated by namespace, PID 1 inside could not move them.
        """
        places = []
        for place in _cgroups_of(str(self._leader)).values():
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
