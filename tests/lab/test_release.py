# SPDX-License-Identifier: MIT
"""A release from the side of those who install it: the repository, its signature, and the page on installing."""

from pathlib import Path

from .documents import block, script
from .host import PACKAGE, Host
from .repository import DIRECTORY, KEYRING, SOURCE, offered


def test_the_commands_of_the_page_on_installing_work_as_written(host: Host, newer: Path) -> None:
    version = host.version()
    host.apt(f"purge {PACKAGE}")
    with offered(host) as repository:
        said = host.machine.sh('cd /root && sh -c "$1" 2>&1', script("docs/installing.md")).stdout
        assert "failed=0" in said, said
        assert host.version() == version
        assert host.machine.run("docker", "volume", "ls")
        repository.release(newer)
        trust(host)
        host.apt("update")
        host.apt("upgrade")
        assert host.version() == version, "the pin holds"


def test_the_source_that_a_release_prints_is_the_one_that_it_offers(host: Host) -> None:
    with offered(host) as repository:
        said = repository.release(host.package)
        offered_source = host.machine.read(f"{DIRECTORY}/{PACKAGE}.sources")
        assert said.endswith(offered_source)
        assert offered_source == block("docs/installing.md", "Types: deb")


def test_a_newer_release_is_an_upgrade_and_the_older_one_stays_on_offer(host: Host, newer: Path) -> None:
    version = host.version()
    with offered(host) as repository:
        repository.release(newer)
        trust(host)
        host.apt("update")
        host.apt("upgrade")
        assert host.version() == f"9:{version}"
        host.apt(f"install --allow-downgrades {PACKAGE}={version}")
        assert host.version() == version


def test_a_release_that_can_not_be_signed_leaves_the_repository_as_it_was(host: Host, newer: Path) -> None:
    machine, look = host.machine, f"cd {DIRECTORY} && find . | sort && sha256sum *"
    with offered(host) as repository:
        before = machine.sh(look).stdout
        # of the same version with other bytes, as a package that was built again elsewhere
        machine.push(newer, f"/root/{host.package.name}")
        words = ("--key", "nobody@example.org", "--url", "https://example.org/debian", DIRECTORY)
        failed = machine.run(repository.script, *words, f"/root/{host.package.name}", check=False)
        assert failed.stderr.splitlines()[-1] == (
            "release: there is no secret key nobody@example.org that can sign: "
            "gpg --list-secret-keys shows those that there are"
        )
        assert machine.sh(look).stdout == before


MAKE_KEY = "gpg --quiet --batch --homedir $1 --passphrase '' --quick-generate-key $2 ed25519 sign never"


def test_a_release_publishes_the_one_key_that_has_signed_it(host: Host) -> None:
    """For gpg takes a part of an address for the whole, and knows the keys of other people, too."""
    machine, home = host.machine, "/root/releases"
    release = "GNUPGHOME=$1 $2 --key releases@example.org --url https://example.org/debian $3 $4"
    with offered(host) as repository:
        words = (home, repository.script, DIRECTORY, f"/root/{host.package.name}")
        try:
            machine.sh("mkdir -m 700 $1 $1/other", home)
            machine.sh(MAKE_KEY, home, "releases@example.org")
            machine.sh(MAKE_KEY, f"{home}/other", "old-releases@example.org")
            machine.sh("gpg --homedir $1/other --export | gpg --quiet --homedir $1 --import", home)
            machine.sh(release, *words)
            published = machine.run("gpg", "--with-colons", "--show-keys", f"{DIRECTORY}/{PACKAGE}.asc").stdout
            assert [line.split(":")[9] for line in published.splitlines() if line.startswith("uid:")] == [
                "releases@example.org"
            ]
            machine.sh(MAKE_KEY, home, "beta-releases@example.org")
            refused = machine.sh(release, *words, check=False)
            assert refused.returncode == 1
            several = "release: several secret keys are called releases@example.org: say which by its fingerprint, "
            assert refused.stderr.splitlines()[-1].startswith(several)
        finally:
            machine.sh("for home in $1/other $1; do gpgconf --homedir $home --kill all; done; rm -rf $1", home)


def test_a_stranger_s_signature_is_refused(host: Host, newer: Path) -> None:
    version = host.version()
    with offered(host) as repository:
        trust(host)
        repository.release(newer)  # with another key
        refused = host.machine.run("apt-get", "update", check=False)
        assert refused.returncode != 0
        assert "is not signed" in refused.stderr
        host.apt("upgrade")
        assert host.version() == version


def test_a_list_that_was_changed_after_it_was_signed_is_refused(host: Host) -> None:
    with offered(host):
        trust(host)
        host.machine.sh(f"cd {DIRECTORY} && sed -i 's/^Description:/& forged/' Packages && gzip -kf Packages")
        refused = host.machine.run("apt-get", "update", check=False)
        assert refused.returncode != 0
        assert "unexpected size" in refused.stderr


def trust(host: Host) -> None:
    """Take the repository's key and address as they are now."""
    for path in (KEYRING, SOURCE):
        host.machine.run("curl", "-fsS", "-o", path, f"https://example.org/debian/{Path(path).name}")
