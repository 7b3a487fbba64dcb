"""Which topics of a bag are the cameras, the joints and the task."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from dfm_vla_ros.bags.reading import Bag
from dfm_vla_ros.bags.storage import CHUNKS, POLICY_STATUS, TASK_STATUS, TOPICS
from dfm_vla_ros.errors import BagError
from dfm_vla_ros.observing.cameras import TRANSPORTS
from dfm_vla_ros.observing.observer import JOINT_STATE
from dfm_vla_ros.observing.sources import (
    ARM_TOPICS,
    COMMANDED,
    MEASURED,
    TRIGGER,
    WHOLE,
    ObserverSettings,
    urdf_names,
)
from dfm_vla_ros.robot.joints import CAMERAS

STATUSES = (TASK_STATUS, POLICY_STATUS, CHUNKS)
NAMES = (*CAMERAS, WHOLE, *ARM_TOPICS, COMMANDED, *STATUSES)
"""What a topic can be given for."""
BY_KIND = {transport.kind: name for name, transport in TRANSPORTS.items()}


@dataclass(frozen=True)
class TopicChoice:
    """What the user knows about a bag's topics.

    Attributes:
        given: one of NAMES -> topic in the bag.
        namespace: of all topics that are not given.
        action_from: "commanded_joint_states", or "joint_states" where nobody says what is
            commanded: a robot that is led by hand or by a teacher's arms.
        joint_states: names and scale of an arm's driver, see ``ObserverSettings``.
    """

    given: Mapping[str, str] = field(default_factory=dict)
    namespace: str = ""
    action_from: str = COMMANDED
    joint_states: Mapping[str, Any] = field(default_factory=urdf_names)


@dataclass(frozen=True)
class Topics:
    """What the topics of a bag are.

    Attributes:
        feeds: topic in the bag -> the Observer's name for it.
        statuses: topic in the bag -> one of STATUSES.
        trigger: topic of the camera that makes frames.
        settings: of the Observer.
    """

    feeds: Mapping[str, str]
    statuses: Mapping[str, str]
    trigger: str
    settings: ObserverSettings

    @property
    def all(self) -> Collection[str]:
        """Every topic that is needed of the bag."""
        return {*self.feeds, *self.statuses}


def find_topics(bag: Bag, choice: TopicChoice, settings: ObserverSettings) -> Topics:
    """Find cameras, joints and statuses in a bag.

    Raises:
        BagError: one is not there, or of a type that it cannot be.
    """
    finder = _Finder(bag, choice)
    cameras = {camera: finder.camera(camera) for camera in CAMERAS}
    joints = finder.joints()
    finder.check()
    transports = {camera: BY_KIND[bag.topics[topic]] for camera, topic in cameras.items()}
    feeds = {
        topic: f"{camera}_camera/{TRANSPORTS[transports[camera]].suffix}"
        for camera, topic in cameras.items()
    }
    feeds.update(joints)
    by_arm = WHOLE not in joints.values()
    found = Topics(
        feeds,
        finder.statuses(),
        cameras[TRIGGER],
        replace(
            settings,
            transport=transports,
            joint_states={**choice.joint_states, "arm_joint_states": by_arm},
            commands=choice.action_from == COMMANDED,
        ),
    )
    bag.check(found.all)
    return found


class _Finder:
    """Looks topics up and collects what is missing."""

    def __init__(self, bag: Bag, choice: TopicChoice) -> None:
        self._bag, self._choice = bag, choice
        self._missing: list[str] = []
        unknown = [name for name in choice.given if name not in NAMES]
        if unknown:
            raise BagError(
                f"there is no source {unknown[0]!r}: give a topic for {', '.join(NAMES)}"
            )

    def camera(self, camera: str) -> str:
        named = [
            self._absolute(f"{camera}_camera/{transport.suffix}")
            for transport in TRANSPORTS.values()
        ]
        return self._pick(camera, named, tuple(BY_KIND))

    def joints(self) -> dict[str, str]:
        """Return topic -> what the observer calls it."""
        choice = self._choice
        arms = {
            topic: name
            for name in ARM_TOPICS
            if (topic := choice.given.get(name) or self._absolute(name)) in self._bag.topics
        }
        whole = choice.given.get(WHOLE) or self._absolute(WHOLE)
        if WHOLE not in choice.given and whole not in self._bag.topics and len(arms) == 2:
            measured = arms
        else:
            measured = {self._pick(WHOLE, [whole], (JOINT_STATE,)): WHOLE}
        if choice.action_from == MEASURED:
            return measured
        commanded = self._pick(COMMANDED, [self._absolute(COMMANDED)], (JOINT_STATE,))
        return {**measured, commanded: COMMANDED}

    def statuses(self) -> dict[str, str]:
        """Return what there is of them."""
        found = {}
        for name in STATUSES:
            topic = self._choice.given.get(name) or self._absolute(name)
            if self._bag.topics.get(topic) == TOPICS[name]:
                found[topic] = name
        return found

    def _absolute(self, name: str) -> str:
        namespace = self._choice.namespace.strip("/")
        return f"/{namespace}/{name}" if namespace else f"/{name}"

    def _pick(self, name: str, usual: list[str], kinds: tuple[str, ...]) -> str:
        given = self._choice.given.get(name)
        candidates = [given] if given else usual
        found = next((topic for topic in candidates if topic in self._bag.topics), None)
        if found is None:
            self._missing.append(f"{candidates[0]} ({name})")
            return ""
        if self._bag.topics[found] not in kinds:
            raise BagError(
                f"{self._bag.path}: {found} is of type {self._bag.topics[found]}, {name} must be "
                f"{' or '.join(kinds)}: give --topic {name}=..."
            )
        return found

    def check(self) -> None:
        """Refuse a bag that lacks something."""
        if not self._missing:
            return
        held = "; ".join(f"{topic} ({kind})" for topic, kind in sorted(self._bag.topics.items()))
        hint = (
            "; a robot without an executor needs --action-from joint_states"
            if any(COMMANDED in missing for missing in self._missing)
            else ""
        )
        raise BagError(
            f"{self._bag.path} lacks {', '.join(self._missing)}: give --topic NAME=TOPIC or "
            f"--namespace{hint}. It holds {held or 'nothing'}"
        )
