"""What a client and the server of a policy say to each other, checked when made and on receipt.

A client says :class:`Hello`, the server :class:`About`; then an :class:`ActRequest` is answered by
an :class:`ActReply`, a :class:`Health` by an :class:`Alive`, and anything by a :class:`Failure`.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Annotated, get_type_hints

import numpy as np
from numpy.typing import NDArray

from dfm_vla_ros.remote import checks
from dfm_vla_ros.remote.errors import ProtocolError

PROTOCOL = 1
"""Version of the messages; :class:`Hello` and :class:`Failure` are the same in all versions."""

Count = Annotated[int, checks.integer(0, 2**62)]
Steps = Annotated[int, checks.integer(1, 65535)]
Seconds = Annotated[float, checks.seconds]
Text = Annotated[str, checks.text]
Texts = Annotated[tuple[str, ...], checks.tuple_of(checks.text)]
Named = Annotated[dict[str, str], checks.mapping_of(checks.text)]
Sizes = Annotated[
    dict[str, tuple[int, int]],
    checks.mapping_of(checks.tuple_of(checks.integer(1, 65535), length=2)),
]
Images = Annotated[dict[str, NDArray[np.uint8]], checks.mapping_of(checks.image)]
Vector = Annotated[NDArray[np.float64], checks.floats(1)]
Rows = Annotated[NDArray[np.float64], checks.floats(2)]


@cache
def checks_of(kind: type) -> dict[str, checks.Check]:
    """Return the check of each field of a kind of message."""
    hints = get_type_hints(kind, include_extras=True)
    return {name: hint.__metadata__[0] for name, hint in hints.items()}


@dataclass(frozen=True)
class Message:
    """What all messages have in common.

    Raises:
        ProtocolError: a field is of another type or out of bounds.
    """

    def __post_init__(self) -> None:
        """Check every field; lists become tuples."""
        for name, check in checks_of(type(self)).items():
            value = check(getattr(self, name), f"{type(self).__name__}.{name}")
            object.__setattr__(self, name, value)


@dataclass(frozen=True)
class Hello(Message):
    """The first word of a client.

    Attributes:
        protocol: version it speaks.
        client: who it is, for the log.
    """

    protocol: Count
    client: Text


@dataclass(frozen=True)
class About(Message):
    """What the policy is and asks for.

    Attributes:
        protocol: version the server speaks.
        checkpoint_hash: of the folder, hex.
        cameras: views that a request must have.
        image_sizes: camera -> (height, width) that the network sees [px]; others are cut and
            resized.
        state_names: the P numbers of ``ActRequest.state`` and ``commanded``.
        action_names: the D numbers of an action.
        horizon: steps T of a reply.
        execute_steps: of these to execute before the next request.
        control_period_s: between the steps [s].
        tasks: task -> sentence that the checkpoint was trained on.
    """

    protocol: Count
    checkpoint_hash: Text
    cameras: Texts
    image_sizes: Sizes
    state_names: Texts
    action_names: Texts
    horizon: Steps
    execute_steps: Steps
    control_period_s: Seconds
    tasks: Named


@dataclass(frozen=True, eq=False)
class ActRequest(Message):
    """One moment; its fields are those of ``policy.types.Observation``.

    Attributes:
        images: camera -> (H, W, 3) uint8 RGB, any size.
        state: (P,) float64 measured.
        commanded: (P,) float64 commanded at this moment.
        instruction: the language goal.
        seed: of the refinement; the same request and seed give the same actions.
    """

    images: Images
    state: Vector
    commanded: Vector
    instruction: Text
    seed: Count


@dataclass(frozen=True, eq=False)
class ActReply(Message):
    """What to do next.

    Attributes:
        actions: (T, D) float64 targets of the next T control steps.
        seconds: that the policy took [s].
        evaluations: of the network.
    """

    actions: Rows
    seconds: Seconds
    evaluations: Count


@dataclass(frozen=True)
class Health(Message):
    """Asks for :class:`Alive`."""


@dataclass(frozen=True)
class Alive(Message):
    """The server is well.

    Attributes:
        calls: requests answered since it began, of all clients.
        seconds: since it began [s].
    """

    calls: Count
    seconds: Seconds


@dataclass(frozen=True)
class Failure(Message):
    """Nothing was done.

    Attributes:
        code: see ``remote.errors``.
        message: what is wrong and what to do.
    """

    code: Text
    message: Text


def check_request(about: About, request: ActRequest) -> None:
    """Raise ProtocolError unless a policy like ``about`` can use ``request``."""
    missing = [camera for camera in about.cameras if camera not in request.images]
    if missing:
        raise ProtocolError(
            f"ActRequest.images has no {missing[0]!r}; the policy needs {about.cameras}"
        )
    for name in ("state", "commanded"):
        count = len(getattr(request, name))
        if count != len(about.state_names):
            raise ProtocolError(
                f"ActRequest.{name} has {count} numbers, expected {len(about.state_names)}: "
                f"{', '.join(about.state_names)}"
            )


def check_reply(about: About, reply: ActReply) -> None:
    """Raise ProtocolError unless ``reply`` is (horizon, D)."""
    expected = (about.horizon, len(about.action_names))
    if reply.actions.shape != expected:
        raise ProtocolError(f"ActReply.actions is {reply.actions.shape}, expected {expected}")
