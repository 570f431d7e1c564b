# SPDX-License-Identifier: MIT
"""Checking volumes and mounting them: in which order, how often, and with how many others at one server."""

import logging
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from sshfs_plugin import errors
from sshfs_plugin.deadline import Deadline
from sshfs_plugin.driver.counters import Counters
from sshfs_plugin.driver.locks import Locks, SharedFailures, admission, reachability
from sshfs_plugin.driver.registry import Entry
from sshfs_plugin.mounts.failures import unmounted_by_hand
from sshfs_plugin.mounts.supervisor import Supervisor
from sshfs_plugin.preflight.deferred import DeferredPreflight
from sshfs_plugin.preflight.port import asking_for_port
from sshfs_plugin.ssh.credentials import Login
from sshfs_plugin.volume import CheckAt, Unusable, Volume

if TYPE_CHECKING:
    from sshfs_plugin.preflight.preflight import Prepared

log = logging.getLogger(__name__)

CHECK_HOLDS_SECONDS = 30.0
"""For how long a volume's preflight need not be made again once it has passed."""

WORTH_CHECKING_SECONDS = 2.0
"""How much time a preflight after a failed mount needs: with less it would report its lack of time, and no cause."""

AGAIN_SECONDS = 1.0
"""How long to wait before a server that has turned a check or a mount away is asked once more."""

_TURNED_AWAY = errors.TurnedAway, errors.MountTurnedAway
"""What is found of a server at which too many log in just now: those of other hosts as well, and of other volumes that
go through the same jump host.
"""

ANSWER_SECONDS = 2.0
"""How long a mount may take to answer before it is mounted anew: one that is well does at once, and what is done about
one that is not needs the rest of the caller's time.
"""

EARLY_SECONDS = 300.0
"""For how long after this host's start its servers may still be starting."""

_NOT_UP_YET = errors.HostUnresolved, errors.HostUnreachable, errors.TurnedAway, errors.ServerSilent
"""What is found of a server that is starting: the last two when its sshd does already, and can't serve yet."""

TRY_EVERY_SECONDS = 5.0
SPARE_SECONDS = 10.0
"""How much of a caller's time is left to the last attempt."""


class Mounter:
    """Checks and mounts volumes, each under its lock, which the caller holds.

    Args:
        preflight: Makes the checks.
        supervisor: Mounts.
        locks: Those of servers and logins.
        counters: Are told of it.
        up_seconds: Tells for how long this host has been up.
    """

    def __init__(
        self,
        *,
        preflight: DeferredPreflight,
        supervisor: Supervisor,
        locks: Locks,
        counters: Counters,
        up_seconds: Callable[[], float],
    ) -> None:
        self._preflight, self._supervisor, self._locks, self._counters = preflight, supervisor, locks, counters
        self._up_seconds = up_seconds
        self._shared_failures = SharedFailures()

    def check_new(self, entry: Entry, asked: float, deadline: Deadline) -> None:
        """Make the preflight of a volume that is being created, unless it wants none.

        Args:
            entry: The volume.
            asked: When the call came.
            deadline: When the caller gives up.

        Raises:
            InvalidOption, CredentialsError, PreflightError: A check has failed.
            ServerBusy: Too many calls were before it.
            BeingUpgraded: No check can be made just now.
            StateError: A host key could not be recorded.
        """
        volume = entry.volume
        if volume.check is CheckAt.CREATE:
            prepared = self._preflight.prepare(volume)
            with self._logging_in(volume, prepared.login, asked, deadline) as logged_in:
                _asking_again(lambda: prepared.run(deadline, creating=True, logged_in=logged_in), deadline)
            entry.passed(prepared.login, CHECK_HOLDS_SECONDS)

    def mount(self, entry: Entry, attempted_at: float, deadline: Deadline) -> str:
        """Mount a volume as :meth:`_ensure_mounted` does; just after this host's start, wait for its server.

        Docker starts the containers that are to be started with it once, and not again if a Mount fails.

        Args:
            entry: The volume.
            attempted_at: When this attempt was asked for: when the call came, then when each further one begins.
                Failures of others that began later count for it, and its duration is measured from here.
            deadline: When the caller gives up.
        """
        while True:
            try:
                return self._ensure_mounted(entry, attempted_at, deadline)
            except _NOT_UP_YET as error:
                if deadline.left() < SPARE_SECONDS + TRY_EVERY_SECONDS or not self._is_early(entry.volume):
                    raise
                log.warning(
                    "tried again in %.0f seconds, since this host has just started: %s", TRY_EVERY_SECONDS, error
                )
                entry.failed(error)
            time.sleep(TRY_EVERY_SECONDS)
            attempted_at = time.monotonic()

    def _is_early(self, volume: Volume) -> bool:
        """Tell whether this host has just started, with a volume that it had before."""
        up = self._up_seconds()
        age = (datetime.now(UTC) - volume.created_at).total_seconds()
        # negative where the clock is not set yet
        return up < EARLY_SECONDS and not 0 <= age <= up

    def _ensure_mounted(self, entry: Entry, attempted_at: float, deadline: Deadline) -> str:
        """Mount a volume unless it is mounted and its server answers; return the device of the mount."""
        name = entry.name
        if isinstance(entry.record, Unusable):
            raise entry.record.error
        device = self._supervisor.device(name)
        was_mounted = bool(device)
        if device and self._supervisor.answers(name, deadline.left(ANSWER_SECONDS)):
            entry.answering, entry.left_until = True, 0.0
            return device
        volume, prepared = entry.volume, None
        login = self._recent_login(entry, is_mounted=was_mounted)
        if not login:
            # before a slot at the server is taken, since files on this host may take long to read
            prepared = self._prepared(volume)
            login = prepared.login if prepared else self._preflight.login(volume)
        entry.is_starting = not was_mounted
        try:
            # one that is mounted joins no connection any more: its relay makes one of its own
            if prepared and self._check(entry, prepared, attempted_at, deadline, unless_joinable=not was_mounted):
                self._start(entry, login, deadline)
            else:
                self._start_or_find_cause(entry, login, attempted_at, deadline)
        finally:
            entry.is_starting = False
        device = self._supervisor.device(name)
        if not device:
            if self._supervisor.is_kept(name):  # a purge of the package has left it so, without what its unit reads
                raise unmounted_by_hand(name)
            raise errors.MountFailed(
                f"volume '{name}' was mounted, and its sshfs ended at once",
                f"{self._supervisor.log(name)} tells why; try again",
            )
        entry.answering, entry.left_until = True, 0.0
        if not was_mounted:  # else it was waited for a server that does not answer, which is no duration of a mount
            self._counters.mounted(time.monotonic() - attempted_at)
        return device

    def _recent_login(self, entry: Entry, *, is_mounted: bool) -> Login | None:
        """Return the login with which a recent preflight has passed; None if one is to be made."""
        login = entry.passed_login
        if is_mounted and self._supervisor.outage(entry.name):
            return None  # the relay will log in once more, and the last check was perhaps before the loss
        if login and any(each.agent for each in (login, *login.jumps)):
            # it may hang by now, and ssh would wait for it without limit
            return self._preflight.login(entry.volume)
        return login

    def _start_or_find_cause(self, entry: Entry, login: Login, attempted_at: float, deadline: Deadline) -> None:
        """Mount a volume without a preflight; if that fails, make the one that was left out, and mount once more.

        It finds the cause, or removes it: a host key that was forgotten is accepted anew.
        """
        try:
            self._start(entry, login, deadline)
        except errors.MountError:
            if deadline.left() < WORTH_CHECKING_SECONDS or not (prepared := self._prepared(entry.volume)):
                raise
            self._check(entry, prepared, attempted_at, deadline, unless_joinable=False)
            self._start(entry, prepared.login, deadline)

    def _prepared(self, volume: Volume) -> "Prepared | None":
        """Begin a preflight; return None if the volume wants none, or none can be made in the middle of an upgrade.

        Docker starts the containers that are to be started with it once, and it may be upgraded just then, too.
        """
        if volume.check is CheckAt.NEVER:
            return None
        try:
            return self._preflight.prepare(volume)
        except errors.BeingUpgraded as why:
            log.warning("mounted without a check: %s", why)
            return None

    def _check(
        self, entry: Entry, prepared: "Prepared", attempted_at: float, deadline: Deadline, *, unless_joinable: bool
    ) -> bool:
        """Make the rest of a preflight, unless a connection to join will do; return whether it was made."""
        volume, login = entry.volume, prepared.login
        if unless_joinable and self._can_join(volume, login):
            return False
        with self._logging_in(volume, login, attempted_at, deadline) as logged_in:
            if unless_joinable and self._can_join(volume, login):  # another volume has had it made meanwhile
                return False
            _asking_again(lambda: prepared.run(deadline, logged_in=logged_in), deadline)
        entry.passed(login, CHECK_HOLDS_SECONDS)
        return True

    def _start(self, entry: Entry, login: Login, deadline: Deadline) -> None:
        """Mount a volume; if that fails, the preflight that has passed before counts no longer."""
        try:
            _asking_again(lambda: self._start_once(entry.volume, login, deadline), deadline)
        except errors.MountError:
            entry.passed_until = 0.0
            raise

    def _start_once(self, volume: Volume, login: Login, deadline: Deadline) -> None:
        """Mount a volume, with a slot of its server, or of those that join its connections."""
        slots = self._locks.joining if self._can_join(volume, login) else self._locks.at_server
        with slots(volume.remote.server, deadline):
            self._supervisor.start(volume, login, deadline)

    def _can_join(self, volume: Volume, login: Login) -> bool:
        return self._supervisor.connections.can_be_joined(volume, login)

    @contextmanager
    def _logging_in(
        self, volume: Volume, login: Login, attempted_at: float, deadline: Deadline
    ) -> Iterator[Callable[[], None]]:
        """Hold the slot of a login and one of its server, or raise the shared failure of a call that was before.

        Yields:
            The function that gives both back. Call it when the server has let the login in: later checks may wait for
            its disk.
        """
        server, key = volume.remote.server, admission(volume, login)

        def is_out_of_reach(error: errors.PluginError) -> bool:
            # only if the deadline has not cut the attempt short: then the others would fail like this one
            return (
                isinstance(error, errors.HostUnresolved | errors.HostUnreachable)
                and deadline.left() >= volume.connect_seconds
            )

        with ExitStack() as slots:
            slots.enter_context(self._locks.logging_in(key, deadline))
            slots.enter_context(self._locks.at_server(server, deadline))
            with (
                asking_for_port(volume),  # outside, since it is about this volume alone
                self._shared_failures.attempt(reachability(volume), attempted_at, is_out_of_reach),
                self._shared_failures.attempt(key, attempted_at, _is_refusal),
            ):
                yield slots.close


def _asking_again(ask: Callable[[], None], deadline: Deadline) -> None:
    """Ask a server for something, and once more if it turns that away."""
    try:
        ask()
    except _TURNED_AWAY as error:
        if deadline.left() < AGAIN_SECONDS + WORTH_CHECKING_SECONDS:
            raise
        log.warning("tried once more: %s", error)
        time.sleep(AGAIN_SECONDS)
        ask()


def _is_refusal(error: errors.PluginError) -> bool:
    """Tell whether a failure ends all calls that wait for the same login: servers ban who is refused often."""
    return isinstance(error, errors.LoginRefused)
