# SPDX-License-Identifier: MIT
"""How gunicorn is told to serve, read as gunicorn reads it."""

import gc
import importlib
import logging
import os
import socket
import ssl
import stat
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
from gunicorn.app.wsgiapp import WSGIApplication
from gunicorn.arbiter import Arbiter
from gunicorn.workers.workertmp import WorkerTmp
from support.certificates import certificate, signed
from support.waiting import LIMIT_SECONDS

pytestmark = pytest.mark.usefixtures("own_logging")

Load = Callable[[], ModuleType]


class Bound:
    """gunicorn's main process, where it was told to listen."""

    def __init__(self, *address: object) -> None:
        self.address = address


@pytest.fixture
def load(monkeypatch: pytest.MonkeyPatch) -> Load:
    """Give a way to read the configuration anew; what it does to the environment ends with the test."""
    monkeypatch.setenv("NOTIFY_SOCKET", "")

    def load() -> ModuleType:
        monkeypatch.delitem(sys.modules, "sshfs_plugin.gunicorn_conf", raising=False)
        return importlib.import_module("sshfs_plugin.gunicorn_conf")

    return load


@pytest.fixture
def manager(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, load: Load) -> Iterator[socket.socket]:
    """Give the socket at which systemd listens."""
    del load
    address = str(tmp_path / "notify")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listening:
        listening.bind(address)
        listening.setblocking(False)
        monkeypatch.setenv("NOTIFY_SOCKET", address)
        yield listening


@pytest.fixture
def configured(load: Load, monkeypatch: pytest.MonkeyPatch) -> Callable[[], Any]:
    """Give a way to have gunicorn itself read the configuration."""

    def configured() -> Any:
        load()
        monkeypatch.setattr(sys, "argv", ["gunicorn", "-c", "python:sshfs_plugin.gunicorn_conf"])
        return WSGIApplication("%(prog)s [OPTIONS]").cfg

    return configured


def test_gunicorn_itself_accepts_the_settings_and_finds_the_application(configured: Callable[[], Any]) -> None:
    config = configured()
    assert config.worker_class.__name__ == "Worker"
    assert config.wsgi_app == "sshfs_plugin.app:create_app()"
    assert config.umask == 0o077
    assert config.address == ["/run/docker-volume-sshfs/sshfs.sock"], "root's alone, where systemd gives no socket"


def test_a_clock_that_is_set_does_not_end_the_worker_with_all_its_calls(
    configured: Callable[[], Any], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("SSHFS_PLUGIN_RUNTIME", str(tmp_path))
    config = configured()
    worker = SimpleNamespace(tmp=WorkerTmp(config), aborted=False)
    worker.tmp.notify()
    ended: list[int] = []
    main = SimpleNamespace(
        timeout=config.timeout,
        WORKERS={os.getpid(): worker},
        log=logging.getLogger(__name__),
        kill_worker=lambda process, _signal: ended.append(process),
    )
    set_forward = SimpleNamespace(time=lambda: time.time() + 3600, monotonic=time.monotonic)
    monkeypatch.setattr("gunicorn.arbiter.time", set_forward)
    Arbiter.murder_workers(main)
    worker.tmp.close()
    assert not ended


def test_number_of_threads_is_a_setting_and_workers_are_not(load: Load, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WEB_CONCURRENCY", "7")
    monkeypatch.setenv("SSHFS_PLUGIN_THREADS", "24")
    settings = load()
    assert (settings.workers, settings.threads) == (1, 24)
    assert settings.worker_connections > settings.threads


def test_what_both_processes_share_is_never_marked_by_the_garbage_collector(load: Load) -> None:
    settings = load()
    settings.pre_fork(None, None)
    try:
        assert gc.get_freeze_count() > len(sys.modules)
        assert not any(shared is settings.__dict__ for shared in gc.get_objects())
    finally:
        gc.unfreeze()


def test_setting_that_makes_no_sense_ends_the_service_for_good(
    load: Load, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("SSHFS_PLUGIN_THREADS", "many")
    monkeypatch.setattr("sshfs_plugin.host.journal.JOURNAL", Path("/nowhere"))
    with pytest.raises(SystemExit) as ended:
        load()
    assert ended.value.code == os.EX_CONFIG
    assert "SSHFS_PLUGIN_THREADS must be a number of at least 8, not 'many'" in capsys.readouterr().err


def test_ready_is_reported_by_the_worker_and_not_before(load: Load, manager: socket.socket) -> None:
    settings = load()
    assert "NOTIFY_SOCKET" not in os.environ, "gunicorn would report ready too early"
    with pytest.raises(BlockingIOError):
        manager.recv(100)
    settings.post_worker_init(object())
    assert manager.recv(100) == b"READY=1"
    assert os.environ["NOTIFY_SOCKET"], "the status is reported later"


def test_without_systemd_nobody_is_told(load: Load) -> None:
    settings = load()
    settings.post_worker_init(object())
    assert "NOTIFY_SOCKET" not in os.environ


def test_directory_of_the_workers_file_is_made_before_there_is_a_worker(
    load: Load, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("SSHFS_PLUGIN_RUNTIME", str(tmp_path / "by-hand" / "run"))
    settings = load()
    for _ in range(2):
        settings.on_starting(Bound("/run/by-hand/sshfs.sock"))
    assert stat.S_IMODE(Path(settings.worker_tmp_dir).stat().st_mode) == 0o700


def test_gunicorns_own_messages_go_where_ours_go(
    load: Load, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("SSHFS_PLUGIN_RUNTIME", str(tmp_path))
    settings = load()
    gunicorn = logging.getLogger("gunicorn.error")
    gunicorn.addHandler(logging.StreamHandler())
    gunicorn.propagate = False
    settings.on_starting(Bound("/run/docker/plugins/sshfs.sock"))
    logging.getLogger().addHandler(caplog.handler)
    gunicorn.error("worker failed to boot")
    assert caplog.messages == ["worker failed to boot"]
    assert gunicorn.handlers == []


def refuses_to_start(settings: ModuleType, caplog: pytest.LogCaptureFixture, *where: str | tuple[str, int]) -> None:
    """See that the service ends, at these sockets, as for a mistake of its settings."""
    logging.getLogger().addHandler(caplog.handler)
    with pytest.raises(SystemExit) as ended:
        settings.on_starting(Bound(*where))
    assert ended.value.code == os.EX_CONFIG


def test_an_address_that_others_can_reach_ends_the_service_as_a_mistake_of_its_settings(
    load: Load, caplog: pytest.LogCaptureFixture
) -> None:
    settings = load()
    refuses_to_start(settings, caplog, ("192.0.2.7", 8000))
    assert "the plugin will not be served at tcp://192.0.2.7:8000" in caplog.text


def test_a_port_without_the_tls_that_docker_was_told_of_ends_the_service_as_a_mistake_of_its_settings(
    load: Load, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("SSHFS_PLUGIN_ROOT", str(tmp_path))
    monkeypatch.setenv("SSHFS_PLUGIN_RUNTIME", str(tmp_path))
    described = tmp_path / "etc/docker/plugins/sshfs.json"
    described.parent.mkdir(parents=True)
    described.write_text('{"Addr": "https://127.0.0.1:9443"}')
    refuses_to_start(load(), caplog, ("127.0.0.1", 9443))
    assert "the plugin will not be served at tcp://127.0.0.1:9443 without TLS" in caplog.text
    described.unlink()
    load().on_starting(Bound(("127.0.0.1", 9443)))


def test_a_unix_socket_beside_one_with_tls_ends_the_service_as_a_mistake_of_its_settings(
    load: Load, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    certificate(tmp_path / "tls")
    monkeypatch.setenv("SSHFS_PLUGIN_TLS", str(tmp_path / "tls"))
    monkeypatch.setenv("SSHFS_PLUGIN_RUNTIME", str(tmp_path))
    settings = load()
    settings.on_starting(Bound(("127.0.0.1", 9443)))
    refuses_to_start(settings, caplog, ("127.0.0.1", 9443), "/run/docker-volume-sshfs/sshfs.sock")
    assert "the plugin will not be served at unix:///run/docker-volume-sshfs/sshfs.sock" in caplog.text


def test_a_certificate_that_is_missing_ends_the_service_as_a_mistake_of_its_settings(
    load: Load, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    certificate(tmp_path / "tls")
    (tmp_path / "tls" / "ca.pem").unlink()
    monkeypatch.setenv("SSHFS_PLUGIN_TLS", str(tmp_path / "tls"))
    monkeypatch.setenv("SSHFS_PLUGIN_RUNTIME", str(tmp_path))
    settings = load()
    refuses_to_start(settings, caplog, ("127.0.0.1", 9443))
    assert "the plugin cannot be served with TLS" in caplog.text


def test_an_authority_without_a_usage_of_its_key_signs_for_clients_with_each_python(load: Load, tmp_path: Path) -> None:
    files = tmp_path / "tls"
    signed(files)

    def strict() -> ssl.SSLContext:
        """Make a context as gunicorn does with Python 3.13 and later."""
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=files / "ca.pem")
        context.verify_flags |= ssl.VERIFY_X509_STRICT
        context.verify_mode = ssl.CERT_REQUIRED
        context.load_cert_chain(files / "cert.pem", files / "key.pem")
        return context

    client = ssl.create_default_context(cafile=files / "ca.pem")
    client.verify_flags &= ~ssl.VERIFY_X509_STRICT
    client.load_cert_chain(files / "cert.pem", files / "key.pem")
    ours, theirs = socket.socketpair()
    ours.settimeout(LIMIT_SECONDS)
    theirs.settimeout(LIMIT_SECONDS)

    def call() -> None:
        with client.wrap_socket(theirs, server_hostname="127.0.0.1") as connection:
            connection.sendall(b"hello")

    calling = threading.Thread(target=call)
    calling.start()
    with load().ssl_context(None, strict).wrap_socket(ours, server_side=True) as connection:
        assert connection.recv(5) == b"hello"
    calling.join()
