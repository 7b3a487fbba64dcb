"""The SROS2 policy is one that sros2 takes, and keeps the roles apart."""

from __future__ import annotations

from collections import Counter

from policy_file import RULES, allowed, profiles, root

COMMANDS = {
    "/left_arm_controller/joint_trajectory",
    "/right_arm_controller/joint_trajectory",
    "/both_arms_controller/joint_trajectory",
    "/left_arm/joint_command",
    "/right_arm/joint_command",
}


def test_that_it_has_the_structure_that_sros2_asks_for() -> None:
    policy = root()
    assert (policy.tag, policy.get("version")) == ("policy", "0.2.0")
    (enclaves,) = policy
    assert enclaves.tag == "enclaves"
    for enclave in enclaves:
        assert enclave.tag == "enclave"
        (group,) = enclave
        (profile,) = group
        assert (group.tag, profile.tag) == ("profiles", "profile")
        assert set(profile.attrib) == {"ns", "node"}
        assert enclave.get("path") == f"/dfm_vla_ros/{profile.get('node')}"


def test_that_every_rule_allows_names_one_by_one() -> None:
    for profile in profiles().values():
        for rules in profile:
            item, kinds = RULES[rules.tag]
            assert len(rules.attrib) == 1
            assert set(rules.attrib) <= kinds
            assert set(rules.attrib.values()) == {"ALLOW"}
            names = [entry.text for entry in rules]
            assert {entry.tag for entry in rules} == {item}
            assert max(Counter(names).values()) == 1
            assert not [name for name in names if "*" in name]


def test_that_only_the_executor_may_command_an_arm() -> None:
    publishers = {
        node for node, profile in profiles().items() if allowed(profile, "publish") & COMMANDS
    }
    assert publishers == {"executor_node"}


def test_that_only_the_policy_may_send_chunks_and_only_the_operator_goals() -> None:
    roles = profiles()
    chunks = {node for node in roles if "/action_chunk" in allowed(roles[node], "publish")}
    goals = {node for node in roles if "/execute_instruction" in allowed(roles[node], "call")}
    assert (chunks, goals) == ({"policy_node"}, {"operator"})


def test_that_what_the_operator_asks_for_is_served_by_a_node() -> None:
    roles = profiles()
    served = set().union(*(allowed(profile, "reply") for profile in roles.values()))
    assert allowed(roles["operator"], "request") <= served
