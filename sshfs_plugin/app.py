# SPDX-License-Identifier: MIT
"""The composition root: it makes all parts from the settings, and of them the application that gunicorn serves."""

import logging
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import flask  # noqa: TID251 (for its type alone)

from sshfs_plugin.discovery.aliases import Aliases
from sshfs_plugin.driver.counters import Counters
from sshfs_plugin.driver.driver import Driver
from sshfs_plugin.driver.locks import Slots
from sshfs_plugin.events import Event
from sshfs_plugin.host import journal
from sshfs_plugin.host.own_mounts import OwnMount
from sshfs_plugin.http import api, listening
from sshfs_plugin.mounts.supervisor import Supervisor
from sshfs_plugin.mounts.supervisors import supervisor
from sshfs_plugin.preflight.deferred import DeferredPreflight
from sshfs_plugin.settings import Settings
from sshfs_plugin.ssh.credentials import Keyring
from sshfs_plugin.ssh.known_hosts import KnownHosts
from sshfs_plugin.state.records import HolderRecords, VolumeRecords

log = logging.getLogger(__name__)

LOOK_EVERY_SECONDS = 15.0
ANSWER_SECONDS = 5.0
QUICK_THREADS = 32
"""Threads that are kept for Get and List: slow calls, running or waiting, never have them."""


def create_app() -> flask.Flask:
    """Make the application for this host and start looking after its volumes.

    Raises:
        StateError: The records can't be read.
        ValueError: A setting makes no sense.
    """
    settings = Settings.from_environment()
    state = OwnMount(settings.state)
    counters, chosen = Counters(), supervisor(settings)
    preflight = DeferredPreflight(
        keyring=Keyring.of(settings), known_hosts=KnownHosts.of(settings), observer=counters.check
    )
    driver = Driver(
        volumes=VolumeRecords.of(settings),
        holder_records=HolderRecords(settings.holders),
        preflight=preflight,
        supervisor=chosen,
        counters=counters,
    )
    driver.load()
    threading.Thread(target=_look_after, args=(driver, chosen, settings, state), name="look-after", daemon=True).start()
    slow_calls, quick = settings.threads // 2, min(QUICK_THREADS, settings.threads // 4)
    slow_slots = Slots(slow_calls, waiting=settings.threads - slow_calls - quick)
    return api.create_app(driver, slow_slots=slow_slots, tell=journal.status)


def _look_after(driver: Driver, supervisor: Supervisor, settings: Settings, state: OwnMount) -> None:
    pause = threading.Event()
    told = ""
    is_restarted = False
    while True:
        with _errors_logged("looking for what Docker finds"):
            told = _tell_what_is_in_the_way(settings, told)
        # not at once: a client whose Mount was answered just before a restart may not use the mount yet
        pause.wait(LOOK_EVERY_SECONDS)
        with _errors_logged("looking after the volumes"):
            driver.look_after(ANSWER_SECONDS)
        with _errors_logged("looking at the own mounts"):
            if not is_restarted and state.is_outdated:
                log.warning("%s can be written to again: the service is started anew to see that", settings.state)
                is_restarted = supervisor.restart_service()


@contextmanager
def _errors_logged(doing: str) -> Iterator[None]:
    """Log an error and go on: if the thread ended, nobody would notice."""
    try:
        yield
    except Exception:
        log.exception("%s failed", doing)


def _tell_what_is_in_the_way(settings: Settings, told: str) -> str:
    """Log what Docker finds in place of this service, unless it is what was logged before, and return it."""
    other = "; ".join(str(each) for each in Aliases.of(settings).hiding(listening.addresses()))
    if other and other != told:
        log.warning("%s", other, extra=Event.HIDDEN_FROM_DOCKER.fields)
    return other
