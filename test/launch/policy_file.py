"""The SROS2 policy, read: which names each enclave may use, and how."""

from __future__ import annotations

import xml.etree.ElementTree as ET

from dfm_vla_ros.resources import resource_path

FILE = "config/security/policies/dfm_vla_ros.policy.xml"
RULES = {
    "topics": ("topic", {"publish", "subscribe"}),
    "services": ("service", {"request", "reply"}),
    "actions": ("action", {"call", "execute"}),
}
"""Element, its items, and what an attribute may allow: sros2's policy.xsd, version 0.2.0."""


def root() -> ET.Element:
    """Return the file's root element."""
    return ET.parse(resource_path(FILE)).getroot()


def profiles() -> dict[str, ET.Element]:
    """Return the profile of each node."""
    return {profile.get("node"): profile for profile in root().iter("profile")}


def allowed(profile: ET.Element, kind: str) -> set[str]:
    """Return the full names that a profile allows: ``kind`` is publish, request, execute..."""
    names = set()
    for rules in profile:
        if rules.get(kind) == "ALLOW":
            names |= {full(item.text, profile.get("node")) for item in rules}
    return names


def full(name: str, node: str) -> str:
    """Return a name in the root namespace, as sros2 expands it."""
    if name.startswith("/"):
        return name
    return f"/{node}{name[1:]}" if name.startswith("~") else f"/{name}"
