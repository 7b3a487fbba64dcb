"""What a client and the server of a policy say to each other, checked when made and on receipt.

A client says :class:`Hello`, the server :class:`About`; then an :class:`ActRequest` is answered by
an :class:`ActReply`, a :class:`Health` by an :class:`Alive`, and anything by a :class:`Failure`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Annotated, Any, get_type_hints

import numpy as np
from numpy.typing import NDArray

from dfm_vla_ros.errors import ProtocolError

Check = Callable[[Any, str], Any]
LONGEST_TEXT = 4096
MOST = 1024
"""Entries of a tuple or mapping."""


def shown(value: object) -> str:
    """Return a value as an error shows it."""
    if isinstance(value, np.ndarray):
        return f"{value.dtype} {value.shape}"
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:60]}..."


def refused(where: str, value: object, expected: str) -> ProtocolError:
    """Return the error that names the field, its value and what is allowed."""
    return ProtocolError(f"{where} is {shown(value)}, expected {expected}")


def integer(low: int, high: int) -> Check:
    """Return the check of a whole number from ``low`` to ``high``."""

    def check(value: Any, where: str) -> int:
        if isinstance(value, bool) or not isinstance(value, int | np.integer):
            raise refused(where, value, f"a whole number from {low} to {high}")
        if not low <= value <= high:
            raise refused(where, value, f"{low} to {high}")
        return int(value)

    return check


def seconds(value: Any, where: str) -> float:
    """Check a finite duration of at least 0 s."""
    if isinstance(value, bool) or not isinstance(value, int | float | np.floating):
        raise refused(where, value, "seconds")
    if not 0 <= value < np.inf:
        raise refused(where, value, "finite seconds of at least 0")
    return float(value)


def text(value: Any, where: str) -> str:
    """Check a string."""
    if not isinstance(value, str):
        raise refused(where, value, "a string")
    if len(value) > LONGEST_TEXT:
        raise refused(where, value, f"at most {LONGEST_TEXT} characters, not {len(value)}")
    return value


def tuple_of(entry: Check, length: int | None = None) -> Check:
    """Return the check of a tuple; lists, which msgpack has instead, become tuples."""

    def check(value: Any, where: str) -> tuple[Any, ...]:
        wanted = f"at most {MOST} entries" if length is None else f"{length} entries"
        if not isinstance(value, tuple | list):
            raise refused(where, value, f"a list of {wanted}")
        if len(value) > MOST or length not in (None, len(value)):
            raise refused(where, value, f"{wanted}, not {len(value)}")
        return tuple(entry(part, f"{where}[{index}]") for index, part in enumerate(value))

    return check


def mapping_of(entry: Check) -> Check:
    """Return the check of a mapping from strings."""

    def check(value: Any, where: str) -> dict[str, Any]:
        if not isinstance(value, Mapping):
            raise refused(where, value, f"a mapping of at most {MOST} entries")
        if len(value) > MOST:
            raise refused(where, value, f"at most {MOST} entries, not {len(value)}")
        return {
            text(key, f"a key of {where}"): entry(part, f"{where}[{key!r}]")
            for key, part in value.items()
        }

    return check


def image(value: Any, where: str) -> NDArray[np.uint8]:
    """Check an RGB image, uint8 (H, W, 3)."""
    sound = isinstance(value, np.ndarray) and value.dtype == np.uint8
    if not sound or value.ndim != 3 or value.shape[2] != 3 or not value.size:
        raise refused(where, value, "uint8 (H, W, 3)")
    return value


def floats(dimensions: int) -> Check:
    """Return the check of finite float64 numbers in that many dimensions."""
    expected = "float64 (" + ", ".join(("T", "D")[-dimensions:]) + ")"

    def check(value: Any, where: str) -> NDArray[np.float64]:
        sound = isinstance(value, np.ndarray) and value.dtype == np.float64
        if not sound or value.ndim != dimensions:
            raise refused(where, value, expected)
        if not np.isfinite(value).all():
            index = tuple(int(i) for i in np.argwhere(~np.isfinite(value))[0])
            place = f"{where}[{', '.join(map(str, index))}]"
            raise refused(place, float(value[index]), "a finite number")
        return value

    return check


PROTOCOL = 1
"""Version of the messages; :class:`Hello` and :class:`Failure` are the same in all versions."""

Count = Annotated[int, integer(0, 2**62)]
Steps = Annotated[int, integer(1, 65535)]
Seconds = Annotated[float, seconds]
Text = Annotated[str, text]
Texts = Annotated[tuple[str, ...], tuple_of(text)]
Named = Annotated[dict[str, str], mapping_of(text)]
Sizes = Annotated[
    dict[str, tuple[int, int]],
    mapping_of(tuple_of(integer(1, 65535), length=2)),
]
Images = Annotated[dict[str, NDArray[np.uint8]], mapping_of(image)]
Vector = Annotated[NDArray[np.float64], floats(1)]
Rows = Annotated[NDArray[np.float64], floats(2)]


@cache
def checks_of(kind: type) -> dict[str, Check]:
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
