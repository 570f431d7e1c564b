# SPDX-License-Identifier: MIT
"""The commands with their arguments, and how errors are shown; each command's own module does its work."""

import io
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, TextIO

import click  # noqa: TID251 (this is the place, with terminal.py)

from sshfs_plugin import errors
from sshfs_plugin.cli import completion, terminal
from sshfs_plugin.cli.exits import Exit, exit_for
from sshfs_plugin.options.values import fingerprint
from sshfs_plugin.volume import LARGEST_PORT

NAME = "docker-volume-sshfs"


class _WithErrors(click.Group):
    """Shows an error as one line and ends with its exit code."""

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except errors.PluginError as error:
            terminal.say(f"{NAME}: {error}", error=True)
            ctx.exit(exit_for(error))
        except KeyboardInterrupt:
            ctx.exit(Exit.INTERRUPTED)


def _suggesting(suggestions: Callable[[], list[str]]) -> Callable[[click.Context, click.Parameter, str], list[str]]:
    def complete(_context: click.Context, _parameter: click.Parameter, begun: str) -> list[str]:
        return [text for text in suggestions() if text.casefold().startswith(begun.casefold())]

    return complete


def _fingerprint(_context: click.Context, _parameter: click.Parameter, text: str | None) -> str:
    try:
        return "" if text is None else fingerprint(text)
    except ValueError as reason:
        raise click.BadParameter(str(reason)) from None


def _is_confirmed(question: str, otherwise: str) -> bool:
    """Ask a question of yes or no.

    Args:
        question: The question.
        otherwise: What to do where nobody can answer.

    Raises:
        Unanswered: The input has ended.
        KeyboardInterrupt: Somebody has interrupted the command.
    """
    try:
        return click.confirm(question)
    except click.Abort as abort:
        terminal.say(error=True)  # the cursor stands behind the question
        if isinstance(abort.__context__, KeyboardInterrupt):
            raise KeyboardInterrupt from None
        raise errors.Unanswered("nobody has answered, so nothing was changed", otherwise) from None


_server = click.argument("host", shell_complete=_suggesting(completion.servers))
_port = click.option(
    "-p", "--port", type=click.IntRange(1, LARGEST_PORT), help="The port of the SSH server, if not 22."
)


@click.group(NAME, cls=_WithErrors, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name=NAME)
def command_line() -> None:
    """Look after Docker volumes that are directories on SSH servers."""


@command_line.command()
@click.argument("where", required=False, shell_complete=_suggesting(completion.volumes))
@click.option(
    "-o",
    "options",
    metavar="OPTION[=VALUE]",
    multiple=True,
    shell_complete=_suggesting(completion.options_to_type),
    help="An option as after docker volume create -o; may be repeated.",
)
@_port
@click.option("--write", is_flag=True, help="Make a file in the directory, too, and remove it again.")
@click.pass_context
def check(ctx: click.Context, where: str | None, options: tuple[str, ...], port: int | None, write: bool) -> None:
    """Try whether a server can serve a volume, check by check.

    WHERE is user@host:/dir, or the name of a volume. Nothing is remembered, and without --write nothing is written.
    """
    from sshfs_plugin.cli import check, targets

    if where is None and not options:
        raise click.UsageError("say user@host:/dir, the name of a volume, or -o sshcmd=user@host:/dir", ctx)
    settings = targets.settings_for_root()
    check.check(settings, targets.volume(settings, where, options, port), writes=write)


@command_line.command()
@click.argument("name", required=False, shell_complete=_suggesting(completion.volumes))
@click.option("--json", "as_json", is_flag=True, help="For programs.")
@click.option(
    "--compare",
    "other",
    type=click.File(encoding="utf-8"),
    metavar="FILE",
    help="Show only how the options of volumes differ from what status --json says on another host; - reads it from "
    "stdin.",
)
@click.pass_context
def status(ctx: click.Context, name: str | None, as_json: bool, other: TextIO | None) -> None:
    """Show volumes, their health and their last errors."""
    from sshfs_plugin.cli import compare, status, targets

    if other:
        if name is not None or as_json:
            raise click.UsageError("--compare goes with neither a NAME nor --json", ctx)
        ctx.exit(compare.compare(targets.settings_for_root(), other))
    ctx.exit(status.status(targets.settings_for_root(), name, as_json=as_json))


@command_line.command()
@click.option("--json", "as_json", is_flag=True, help="For programs.")
@click.pass_context
def doctor(ctx: click.Context, as_json: bool) -> None:
    """Look for whatever is wrong on this host, and say how to cure it.

    Nothing is changed, and no server is asked.
    """
    from sshfs_plugin.cli import doctor, targets

    ctx.exit(doctor.doctor(targets.settings_for_root(), as_json=as_json))


@command_line.command()
@click.option(
    "--output",
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="FILE",
    help="Write them to a file, which is replaced as a whole.",
)
def metrics(output: Path | None) -> None:
    """Show volumes, mounts, checks and failures as Prometheus reads them.

    node_exporter reads files in its textfile directory whose names end in .prom.
    """
    from sshfs_plugin.cli import metrics, targets

    metrics.metrics(targets.settings_for_root(), output)


@command_line.command()
@click.argument("name", shell_complete=_suggesting(completion.volumes))
@click.option("--force", is_flag=True, help="Also if it is in use or hangs: whoever uses it loses it.")
def release(name: str, force: bool) -> None:
    """Unmount a volume that nobody uses.

    With --force a container that can't be stopped, since it waits for a server that does not answer, can be again.
    """
    from sshfs_plugin.cli import release, targets

    release.release(targets.settings_for_root(), name, by_force=force)


@command_line.group("host-key")
def host_key() -> None:
    """Show, trust or forget the host key of a server.

    HOST is a name or address, user@host:/dir or [host]:port.
    """


@host_key.command()
@_server
@_port
@click.pass_context
def show(ctx: click.Context, host: str, port: int | None) -> None:
    """Show what is known of HOST and what it shows now."""
    from sshfs_plugin.cli import host_keys, targets

    ctx.exit(host_keys.show(targets.settings_for_root(), targets.server(host, port)))


@host_key.command()
@_server
@_port
@click.option(
    "--fingerprint",
    "expected",
    metavar="SHA256:...",
    callback=_fingerprint,
    help="Trust the key with this fingerprint and no other, without a question.",
)
@click.option("--yes", is_flag=True, help="Trust what HOST shows, without a question.")
@click.pass_context
def trust(ctx: click.Context, host: str, port: int | None, expected: str, yes: bool) -> None:
    """Trust the host keys that HOST shows, once they are confirmed."""
    from sshfs_plugin.cli import host_keys, targets

    def confirm() -> bool:
        return yes or _is_confirmed(
            "Are these what ssh-keygen -lf prints on the server itself?",
            "say --fingerprint with that of the right key, or --yes to trust what it shows",
        )

    ctx.exit(host_keys.trust(targets.settings_for_root(), targets.server(host, port), expected, confirm))


@host_key.command()
@_server
@_port
@click.pass_context
def forget(ctx: click.Context, host: str, port: int | None) -> None:
    """Forget what this plugin knows of HOST."""
    from sshfs_plugin.cli import host_keys, targets

    ctx.exit(host_keys.forget(targets.settings_for_root(), targets.server(host, port)))


_remote = click.argument("name", shell_complete=_suggesting(completion.remotes))


@command_line.group()
def remote() -> None:
    """Show or check the servers that files on this host describe.

    The file of NAME is /etc/docker-volume-sshfs/remotes.d/NAME.conf.
    """


@remote.command("list")
@click.pass_context
def list_remotes(ctx: click.Context) -> None:
    """List the remotes with their servers and volumes."""
    from sshfs_plugin.cli import remotes, targets

    ctx.exit(remotes.show_all(targets.settings_for_root()))


@remote.command("show")
@_remote
def show_remote(name: str) -> None:
    """Show what the file of NAME says."""
    from sshfs_plugin.cli import remotes, targets

    remotes.show(targets.settings_for_root(), name)


@remote.command("check")
@_remote
@click.pass_context
def check_remote(ctx: click.Context, name: str) -> None:
    """Try whether NAME can serve a volume, check by check, and each of its volumes can be made."""
    from sshfs_plugin.cli import remotes, targets

    ctx.exit(remotes.check(targets.settings_for_root(), name))


@command_line.command()
@click.argument("name", required=False, shell_complete=_suggesting(completion.option_names))
def options(name: str | None) -> None:
    """Explain the options that a volume can have, or one of them."""
    from sshfs_plugin.cli import options

    if name is None:
        options.show_all()
    else:
        options.show(name)


_plugin = click.argument("name", default="vieux/sshfs")


@command_line.group()
def alias() -> None:
    """Let Docker find this plugin under another plugin's name, too.

    NAME is vieux/sshfs if it is not said; without a tag it stands for NAME:latest as well.
    """


@alias.command("add")
@_plugin
def add_alias(name: str) -> None:
    """Answer as NAME, once the plugin of that name is removed."""
    from sshfs_plugin.cli import alias, targets

    alias.add(targets.settings_for_root(), name)


@alias.command("remove")
@_plugin
def remove_alias(name: str) -> None:
    """Answer as NAME no more."""
    from sshfs_plugin.cli import alias, targets

    alias.remove(targets.settings_for_root(), name)


@alias.command("list")
def list_aliases() -> None:
    """List the names besides sshfs."""
    from sshfs_plugin.cli import alias, targets

    alias.show(targets.settings_for_root())


_existing_directory = click.Path(exists=True, file_okay=False, resolve_path=True, path_type=Path)


@command_line.command("import-vieux")
@click.option("--dry-run", is_flag=True, help="Show what would be done; no server is asked and nothing is written.")
@click.option(
    "--state",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="The state file, if it is not that of the installed plugin or /var/lib/docker/plugins/sshfs-state.json.",
)
@click.option(
    "--keys",
    type=_existing_directory,
    help="The directory on this host that was the plugin's sshkey.source, if the plugin is not installed any more.",
)
@click.option("--no-check", is_flag=True, help="Ask no server now, but each before it is mounted (check=mount).")
@click.pass_context
def import_vieux(ctx: click.Context, dry_run: bool, state: Path | None, keys: Path | None, no_check: bool) -> None:
    """Make the volumes that the plugin vieux/sshfs, or a fork of it, has.

    Volumes that are there already stay as they are, so it can be run again. Its state file is only read.
    """
    from sshfs_plugin.cli import import_vieux, targets

    settings = targets.settings_for_root()
    ctx.exit(import_vieux.import_vieux(settings, state, keys, checked=not no_check, dry_run=dry_run))


def main() -> None:
    """Carry out the command line."""
    _open_what_was_closed()
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            # names of files and servers may have letters that the terminal does not have
            stream.reconfigure(errors="replace")
    command_line.main(prog_name=NAME)


def _open_what_was_closed() -> None:
    """Give the streams that whoever runs the command has closed somewhere to go: its work is wanted all the same.

    Python has None in their place, on which click and input() fail. In the order of their numbers each gets its own
    back, so that no other file has the number of a stream to which something may be written.
    """
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            setattr(sys, name, Path(os.devnull).open(mode, encoding="utf-8"))  # noqa: SIM115 (it stays open)
