# SPDX-License-Identifier: MIT
"""The sentences that users read."""

import inspect

import pytest

from sshfs_plugin import errors

KNOWN = ("sshcmd", "password", "password_file", "IdentityFile", "port")


def test_error_reads_as_sentence_and_cure() -> None:
    error = errors.HostUnreachable("cannot connect to nas port 22", "is it on?")
    assert str(error) == "cannot connect to nas port 22: is it on?"
    assert (error.sentence, error.hint) == ("cannot connect to nas port 22", "is it on?")


def test_error_when_it_has_no_cure_is_the_sentence_alone() -> None:
    assert str(errors.MountError("sshfs is gone")) == "sshfs is gone"


def test_error_when_a_server_has_its_say_holds_nothing_that_a_terminal_would_obey() -> None:
    error = errors.LoginRefused("it takes \x1b]0;pwned\x07", "ask\nits \udcff log")
    assert str(error) == "it takes ?]0;pwned?: ask?its ? log"


def test_every_error_is_one_that_the_api_reports_as_a_sentence() -> None:
    own = [kind for _, kind in inspect.getmembers(errors, inspect.isclass) if kind.__module__ == errors.__name__]
    assert own
    assert [kind for kind in own if not issubclass(kind, errors.PluginError)] == []


@pytest.mark.parametrize(
    ("typed", "meant"),
    [
        ("pasword", "password"),
        ("PASSWRD", "password"),
        ("identityfile_", "IdentityFile"),
        ("sshcmnd", "sshcmd"),
        ("prot", "port"),
        ("readonly", "ro"),
        ("ssh_key", "IdentityFile"),
        ("Path", "directory"),
    ],
)
def test_unknown_option_when_a_known_one_is_near_asks_whether_that_was_meant(typed: str, meant: str) -> None:
    assert (
        str(errors.UnknownOption(typed, KNOWN, "the man page")) == f"unknown option '{typed}': did you mean '{meant}'?"
    )


def test_unknown_option_when_none_is_near_points_to_the_list() -> None:
    assert str(errors.UnknownOption("compression", KNOWN, "the man page")) == (
        "unknown option 'compression': the man page lists the options that a volume can have"
    )


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (errors.InvalidOption("port", "must be a number"), "option 'port' must be a number"),
        (
            errors.RefusedOption("ProxyCommand", "it would run a command"),
            "option 'ProxyCommand' is refused: it would run a command",
        ),
        (errors.VolumeNotFound("photos"), "volume 'photos' not found"),
        (errors.VolumeNotFound("a\nb"), "volume 'a\\nb' not found"),
        (
            errors.VolumeExists("photos", ["port", "uid"]),
            "volume 'photos' exists already and differs in 'port', 'uid': "
            "to change it, docker volume rm photos first: files on the server stay as they are",
        ),
        (
            errors.VolumeInUse("photos"),
            "volume 'photos' is still in use by a running container or a process on this host: stop it and try again",
        ),
        (
            errors.VolumeBusy("photos"),
            "volume 'photos' is busy with another call that has not finished: try again in a moment",
        ),
        (
            errors.ServerBusy("nas port 22"),
            "too many volumes are connecting to nas port 22 at once: try again in a moment",
        ),
        (
            errors.PluginBusy("journalctl -u docker-volume-sshfs"),
            "the sshfs plugin is busy with too many slow calls: try again in a moment; "
            "journalctl -u docker-volume-sshfs tells which servers are slow",
        ),
    ],
)
def test_error_says_what_failed_on_what(error: errors.PluginError, text: str) -> None:
    assert str(error) == text


@pytest.mark.parametrize(
    ("lines", "said"),
    [
        ([], ""),
        (["  Permission denied. ", "", "\t"], "Permission denied."),
        (["first", "second"], "first; second"),
        (["x" * 300], "x" * 300),
        (["x" * 301], "... " + "x" * 300),
        (["a banner"] * 10_000 + ["Permission denied."], "... " + "a banner; " * 28 + "Permission denied."),
    ],
)
def test_the_last_words_of_others_are_kept_as_far_as_they_fit(lines: list[str], said: str) -> None:
    assert errors.last_words(lines) == said


def test_no_error_is_of_any_length_that_a_server_likes() -> None:
    error = errors.LoginRefused("a" * 100_000, "b" * 100_000)
    assert str(error) == f"{'a' * errors.LONGEST_PART}...: {'b' * errors.LONGEST_PART}..."
