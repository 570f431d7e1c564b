# SPDX-License-Identifier: MIT
"""The counting rules, against what Docker and Podman are known to do."""

import random

from sshfs_plugin.holders import Client, Holder, Holders
from sshfs_plugin.volume import MountID

WEB = MountID("a" * 64)
DATABASE = MountID("b" * 64)
PODMAN_ID = MountID("podman's one")


def docker(*mount_ids: MountID) -> Holders:
    """Return the holders after Docker has mounted for these IDs and has got its replies."""
    holders = Holders()
    for mount_id in mount_ids:
        holders = holders.mounted(mount_id, Client.DOCKER).confirmed(mount_id)
    return holders


def podman(times: int) -> Holders:
    holders = Holders()
    for _ in range(times):
        holders = holders.mounted(PODMAN_ID, Client.PODMAN).confirmed(PODMAN_ID)
    return holders


def test_holders_when_nobody_has_mounted_are_none() -> None:
    assert Holders().count == 0
    assert not Holders().live
    assert Holders().recorded() == Holders()


def test_mounted_when_two_containers_mount_counts_two_ids() -> None:
    holders = docker(WEB, DATABASE)
    assert holders.count == 2
    assert holders.live


def test_mounted_when_given_a_holder_leaves_the_old_value_as_it_was() -> None:
    before = docker(WEB)
    before.mounted(DATABASE, Client.DOCKER)
    assert before.count == 1


def test_unmounted_when_one_of_two_leaves_keeps_the_other() -> None:
    holders = docker(WEB, DATABASE).unmounted(WEB)
    assert list(holders.by_id) == [DATABASE]
    assert holders.live


def test_unmounted_when_docker_cp_mounted_a_live_id_again_keeps_it_for_the_container() -> None:
    holders = docker(WEB, WEB)
    assert holders.by_id[WEB].count == 2
    after_docker_cp = holders.unmounted(WEB)
    assert after_docker_cp.live
    assert not after_docker_cp.unmounted(WEB).live


def test_unmounted_when_nobody_knows_the_id_changes_nothing() -> None:
    assert docker(WEB).unmounted(DATABASE) == docker(WEB)
    assert Holders().unmounted(WEB) == Holders()


def test_unmounted_when_podman_mounted_several_times_gives_all_up_since_it_counts_for_itself() -> None:
    holders = podman(3)
    assert holders.by_id[PODMAN_ID] == Holder(client=Client.PODMAN, count=1)
    assert not holders.unmounted(PODMAN_ID).live


def test_recorded_when_no_reply_was_sent_invents_no_holder() -> None:
    assert Holders().mounted(WEB, Client.DOCKER).recorded() == Holders()
    assert Holders().mounted(PODMAN_ID, Client.PODMAN).recorded() == Holders()


def test_recorded_when_the_second_mount_of_an_id_was_not_answered_has_the_first() -> None:
    holders = docker(WEB).mounted(WEB, Client.DOCKER)
    assert holders.by_id[WEB].count == 2
    assert holders.recorded() == docker(WEB)


def test_confirmed_when_the_reply_was_sent_is_recorded() -> None:
    assert docker(WEB).recorded().by_id == {WEB: Holder(client=Client.DOCKER, count=1)}


def test_confirmed_when_given_up_meanwhile_or_confirmed_already_changes_nothing() -> None:
    assert Holders().confirmed(WEB) == Holders()
    assert docker(WEB).confirmed(WEB) == docker(WEB)


def test_unmounted_when_the_reply_to_a_second_mount_is_not_sent_yet_leaves_no_more_unconfirmed_than_held() -> None:
    holders = Holders().mounted(WEB, Client.DOCKER).mounted(WEB, Client.DOCKER).unmounted(WEB)
    assert holders.by_id[WEB] == Holder(client=Client.DOCKER, count=1, unconfirmed=1)


def test_unmounted_when_a_client_left_before_the_reply_gives_up_the_mount_that_was_not_answered() -> None:
    assert docker(WEB).mounted(WEB, Client.DOCKER).unmounted(WEB) == docker(WEB)
    assert docker(WEB, WEB).unmounted(WEB) == docker(WEB)


def test_inherited_when_docker_came_back_counts_each_id_once_and_expects_nothing_of_them() -> None:
    holders = docker(WEB, WEB, DATABASE).inherited_from_docker()
    assert holders.count == 2
    assert holders.by_id[WEB] == Holder(client=Client.DOCKER, count=1, inherited=True)
    assert not holders.live


def test_inherited_when_docker_came_back_leaves_podman_alone() -> None:
    holders = podman(1).mounted(WEB, Client.DOCKER).inherited_from_docker()
    assert holders.by_id[PODMAN_ID] == podman(1).by_id[PODMAN_ID]
    assert holders.live


def test_inherited_when_taken_up_again_is_a_live_holder_that_counts_once() -> None:
    holders = docker(WEB, WEB).inherited_from_docker().mounted(WEB, Client.DOCKER)
    assert holders.confirmed(WEB).by_id[WEB] == Holder(client=Client.DOCKER, count=1)
    assert not holders.unmounted(WEB).live


def test_inherited_when_the_reply_that_takes_it_up_is_lost_is_held_by_nobody() -> None:
    holders = docker(WEB).inherited_from_docker().mounted(WEB, Client.DOCKER)
    assert not holders.unanswered(WEB).live


def test_holder_has_another_mount_exactly_if_both_are_known_to_differ() -> None:
    holders = Holders().mounted(WEB, Client.DOCKER, "0:51")
    assert holders.have_other_than("0:52")
    assert not holders.have_other_than("0:51")
    assert not Holders().mounted(WEB, Client.DOCKER).have_other_than("0:52"), "of this one it is not known"
    assert not Holders().have_other_than("0:52")


def test_inherited_when_taken_up_again_has_the_mount_of_that_moment() -> None:
    holders = Holders().mounted(WEB, Client.DOCKER, "0:51").inherited_from_docker()
    assert holders.have_other_than("0:52")
    assert not holders.mounted(WEB, Client.DOCKER, "0:52").have_other_than("0:52")


def test_podman_s_mount_has_the_mount_of_that_moment_since_no_container_has_an_earlier_one() -> None:
    holders = Holders().mounted(PODMAN_ID, Client.PODMAN, "0:51").confirmed(PODMAN_ID)
    assert holders.have_other_than("0:52")
    assert not holders.mounted(PODMAN_ID, Client.PODMAN, "0:52").have_other_than("0:52")


def test_inherited_when_given_back_without_being_taken_up_is_gone() -> None:
    assert docker(WEB, WEB).inherited_from_docker().unmounted(WEB) == Holders()


def repeatable(seed: int) -> random.Random:
    return random.Random(seed)  # noqa: S311 (nothing here is secret)


def test_counts_whatever_comes_in_whichever_order_are_never_negative_and_invent_nothing() -> None:
    rng = repeatable(20240517)
    for _ in range(200):
        holders = Holders()
        for _ in range(rng.randint(1, 40)):
            mount_id = MountID(rng.choice("abc"))
            client = Client.PODMAN if mount_id == "c" else Client.DOCKER
            match rng.randint(0, 9):
                case 0:
                    holders = holders.inherited_from_docker()
                case 1 | 2 | 3 | 4:
                    holders = holders.mounted(mount_id, client)
                case 5 | 6:
                    holders = holders.confirmed(mount_id)
                case _:
                    holders = holders.unmounted(mount_id)
            for holder in holders.by_id.values():
                assert holder.count >= 1
                assert 0 <= holder.unconfirmed <= holder.count
                assert holder.client is Client.DOCKER or holder.count == 1
            recorded = holders.recorded()
            assert recorded.recorded() == recorded
            assert all(holder.count >= 1 and not holder.unconfirmed for holder in recorded.by_id.values())
            assert set(recorded.by_id) <= set(holders.by_id)


def test_counts_when_every_mount_is_given_back_end_at_nobody() -> None:
    rng = repeatable(20240518)
    for _ in range(200):
        owed = [MountID(rng.choice("abc")) for _ in range(rng.randint(1, 20))]
        holders = docker(*owed)
        rng.shuffle(owed)
        for mount_id in owed:
            assert holders.live
            holders = holders.unmounted(mount_id)
        assert holders == Holders()


def test_unanswered_takes_away_what_the_mount_has_added() -> None:
    assert Holders().mounted(WEB, Client.DOCKER).unanswered(WEB) == Holders()
    assert docker(WEB).mounted(WEB, Client.DOCKER).unanswered(WEB) == docker(WEB)
    assert Holders().mounted(PODMAN_ID, Client.PODMAN).unanswered(PODMAN_ID) == Holders()


def test_unanswered_when_given_up_meanwhile_or_taken_over_by_a_new_docker_changes_nothing() -> None:
    assert Holders().unanswered(WEB) == Holders()
    inherited = docker(WEB).inherited_from_docker()
    assert inherited.unanswered(WEB) == inherited


def test_unanswered_when_podman_has_mounted_again_leaves_the_hold_to_the_later_mount() -> None:
    twice = Holders().mounted(PODMAN_ID, Client.PODMAN).mounted(PODMAN_ID, Client.PODMAN)
    assert twice.unanswered(PODMAN_ID).confirmed(PODMAN_ID) == podman(1)
    assert podman(1).mounted(PODMAN_ID, Client.PODMAN).unanswered(PODMAN_ID) == podman(1)
