"""What server and client of a policy share: addresses, messages, and their bytes.

The wire format is that of openpi's websocket policy server (Physical-Intelligence/openpi,
Apache-2.0), so that its clients can ask our policies: the server first sends its metadata, then
answers each binary frame by one; a text frame is an error. A frame is one msgpack object; an
array is a mapping of ``b"__ndarray__"``, ``b"data"``, ``b"dtype"`` and ``b"shape"``. No pickle.
"""

from __future__ import annotations

import ipaddress
import math
import os
import socket
import stat
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import msgpack
import numpy as np
from numpy.typing import NDArray

from dfm_vla_ros.errors import ConnectionFailed, ProtocolError

PROTOCOL = 2
DEFAULT_ADDRESS = "127.0.0.1:5560"
LARGEST = 64 * 2**20
"""Bytes of a message."""
LONGEST_TEXT = 4096
DTYPE_KINDS = "biuf"


@dataclass(frozen=True)
class Address:
    """A host and a port (0: any that is free), or the path of a local socket."""

    host: str = ""
    port: int = 0
    path: str = ""

    def __str__(self) -> str:
        """Return what :func:`parse_address` reads."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return self.path or f"{host}:{self.port}"

    @property
    def is_local(self) -> bool:
        """Whether no other machine can reach it."""
        if self.path or self.host == "localhost":
            return True
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return False

    def connect(self, timeout_s: float) -> socket.socket:
        """Return a connected socket.

        Raises:
            ConnectionFailed: nobody listens there, or nobody answers in time.
        """
        try:
            if not self.path:
                return socket.create_connection((self.host, self.port), timeout_s)
            sock = socket.socket(socket.AF_UNIX)
            sock.settimeout(timeout_s)
            sock.connect(self.path)
        except (OSError, ValueError) as error:
            raise ConnectionFailed(
                f"no policy at {self} ({error}): start dfm-vla serve --address {self}"
            ) from error
        return sock

    def listen(self, allow_remote: bool = False) -> socket.socket:
        """Return a listening socket; one that lies at a path is for its user alone.

        Raises:
            ConnectionFailed: the address is taken, or other machines could reach it.
        """
        if not self.is_local and not allow_remote:
            raise ConnectionFailed(
                f"{self} can be reached from other machines, and nothing is encrypted: use "
                f"{DEFAULT_ADDRESS} or the path of a socket, or allow it with --allow-remote"
            )
        try:
            if not self.path:
                family = socket.AF_INET6 if ":" in self.host else socket.AF_INET
                return socket.create_server((self.host, self.port), family=family)
            self._remove_stale()
            sock = socket.socket(socket.AF_UNIX)
            sock.bind(self.path)
            os.chmod(self.path, stat.S_IRUSR | stat.S_IWUSR)
            sock.listen()
        except (OSError, ValueError) as error:
            raise ConnectionFailed(f"cannot listen at {self}: {error}; choose another") from error
        return sock

    def _remove_stale(self) -> None:
        """Remove the socket that a dead server left at the path."""
        with socket.socket(socket.AF_UNIX) as probe:
            probe.settimeout(1.0)
            try:
                probe.connect(self.path)
            except ConnectionRefusedError:
                if Path(self.path).is_socket():
                    Path(self.path).unlink(missing_ok=True)
            except OSError:
                return  # nothing is there, or it is in use and bind says so


def parse_address(text: str) -> Address:
    """Return the address that ``text`` names.

    Raises:
        ConnectionFailed: it is neither HOST:PORT nor a path.
    """
    if "/" in (text := text.removeprefix("ws://")):
        return Address(path=text)
    host, _, port = text.rpartition(":")
    if not host or not port.isascii() or not port.isdigit() or int(port) > 65535:
        raise ConnectionFailed(
            f"address {text!r} is neither HOST:PORT with a port of 0 to 65535, such as "
            f"{DEFAULT_ADDRESS}, nor the path of a socket with a /, such as ./policy.sock"
        )
    return Address(host.removeprefix("[").removesuffix("]"), int(port))


@dataclass(frozen=True)
class About:
    """The server's metadata: what the policy is and asks for.

    Attributes:
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
        protocol: version of these messages.
    """

    checkpoint_hash: str
    cameras: tuple[str, ...]
    image_sizes: Mapping[str, tuple[int, int]]
    state_names: tuple[str, ...]
    action_names: tuple[str, ...]
    horizon: int
    execute_steps: int
    control_period_s: float
    tasks: Mapping[str, str]
    protocol: int = PROTOCOL

    @classmethod
    def read(cls, content: Mapping[str, Any]) -> About:
        """Return the metadata of a server.

        Raises:
            ProtocolError: it is another server's, or another version's.
        """
        if content.get("protocol") != PROTOCOL:
            raise ProtocolError(
                f"the server speaks version {content.get('protocol')!r}, this client {PROTOCOL}: "
                "install the same release on both sides"
            )
        if odd := set(content) ^ {part.name for part in fields(cls)}:
            raise ProtocolError(f"the server's metadata lack or have too much: {sorted(odd)}")
        given = {key: tuple(v) if isinstance(v, list) else v for key, v in content.items()}
        given["image_sizes"] = {key: tuple(v) for key, v in given["image_sizes"].items()}
        return cls(**given)


@dataclass(frozen=True, eq=False)
class ActRequest:
    """One moment.

    Attributes:
        images: camera -> (H, W, 3) uint8 RGB of any size; (3, H, W) is taken too.
        state: (P,) measured.
        commanded: (P,) commanded at this moment; as measured if it is left out.
        prompt: the language goal.
        seed: of the refinement; the same request and seed give the same actions.
    """

    images: Mapping[str, NDArray[np.uint8]]
    state: NDArray[np.float64]
    commanded: NDArray[np.float64]
    prompt: str
    seed: int = 0

    @classmethod
    def read(cls, content: Mapping[str, Any], about: About) -> ActRequest:
        """Return the request in an observation; keys that no policy here knows are ignored.

        Raises:
            ProtocolError: something that the policy asks for is missing or unusable.
        """
        images = content.get("images")
        if not isinstance(images, Mapping):
            raise refused("images", images, "a mapping from camera to image")
        if missing := [camera for camera in about.cameras if camera not in images]:
            raise ProtocolError(f"images has no {missing[0]!r}; the policy needs {about.cameras}")
        prompt, seed = content.get("prompt"), content.get("seed", 0)
        if not isinstance(prompt, str) or not 0 < len(prompt) <= LONGEST_TEXT:
            raise refused("prompt", prompt, f"a sentence of 1 to {LONGEST_TEXT} characters")
        if type(seed) is not int or not 0 <= seed <= 2**62:
            raise refused("seed", seed, "a whole number from 0 to 2**62")
        state = _vector("state", content.get("state"), about)
        commanded = content.get("commanded")
        return cls(
            {camera: _image(camera, images[camera]) for camera in about.cameras},
            state,
            state if commanded is None else _vector("commanded", commanded, about),
            prompt,
            seed,
        )


@dataclass(frozen=True, eq=False)
class ActReply:
    """What to do next.

    Attributes:
        actions: (T, D) float64 targets of the next T control steps.
        seconds: that the policy took [s].
        evaluations: of the network.
    """

    actions: NDArray[np.float64]
    seconds: float
    evaluations: int

    @classmethod
    def read(cls, content: Mapping[str, Any], about: About) -> ActReply:
        """Return the reply in a server's answer.

        Raises:
            ProtocolError: it is another answer, or its actions are not (T, D).
        """
        actions, expected = content.get("actions"), (about.horizon, len(about.action_names))
        if not isinstance(actions, np.ndarray) or actions.shape != expected:
            raise refused("actions", actions, f"numbers {expected}")
        timing, evaluations = content.get("policy_timing"), content.get("evaluations")
        spent_ms = timing.get("infer_ms") if isinstance(timing, Mapping) else None
        return cls(
            actions.astype(np.float64),
            spent_ms / 1000.0 if isinstance(spent_ms, float) else 0.0,
            evaluations if isinstance(evaluations, int) else 0,
        )

    def content(self) -> dict[str, Any]:
        """Return what is sent."""
        timing = {"infer_ms": self.seconds * 1000.0}
        return {
            "actions": self.actions,
            "evaluations": self.evaluations,
            "policy_timing": timing,
        }


def encode(message: About | ActRequest | Mapping[str, Any]) -> bytes:
    """Return a message as bytes.

    Raises:
        ProtocolError: it holds what msgpack cannot, or is larger than ``LARGEST``.
    """
    content = message if isinstance(message, Mapping) else _shallow(message)
    try:
        data: bytes = msgpack.packb(content, default=_packed)
    except TypeError as error:
        raise ProtocolError(f"a message cannot be sent: {error}") from error
    if len(data) > LARGEST:
        raise ProtocolError(
            f"a message has {len(data)} bytes, allowed are {LARGEST}: send smaller images"
        )
    return data


def decode(data: bytes) -> dict[str, Any]:
    """Return the mapping that is in ``data``; its arrays cannot be written to.

    Raises:
        ProtocolError: it is no msgpack of a mapping, or an array in it is damaged.
    """
    try:
        content = msgpack.unpackb(data, object_hook=_unpacked)
    except (ValueError, TypeError, RecursionError, msgpack.UnpackException) as error:
        raise ProtocolError(f"{len(data)} bytes are no usable msgpack: {error}") from error
    if not isinstance(content, dict):
        raise refused("a message", content, "a mapping")
    return content


def refused(where: str, value: object, expected: str) -> ProtocolError:
    """Return the error that names a field, its value and what is allowed."""
    shown = f"{value.dtype} {value.shape}" if isinstance(value, np.ndarray) else repr(value)
    return ProtocolError(f"{where} is {shown[:60]}, expected {expected}")


def _shallow(message: About | ActRequest) -> dict[str, Any]:
    if isinstance(message, About):
        return asdict(message)
    return {part.name: getattr(message, part.name) for part in fields(message)}


def _packed(value: object) -> Any:
    if isinstance(value, np.ndarray) and value.dtype.kind in DTYPE_KINDS:
        found = {b"data": value.tobytes(), b"dtype": value.dtype.str, b"shape": value.shape}
        return {b"__ndarray__": True, **found}
    if isinstance(value, np.generic) and value.dtype.kind in DTYPE_KINDS:
        return value.item()
    raise TypeError(f"{type(value).__name__} {value!r:.40}")


def _unpacked(found: dict[Any, Any]) -> Any:
    """Return the array or number that a mapping stands for, or the mapping."""
    if b"__npgeneric__" in found:
        return found.get(b"data")
    if b"__ndarray__" not in found:
        return found
    dtype, shape = np.dtype(str(found.get(b"dtype"))), found.get(b"shape")
    if dtype.kind not in DTYPE_KINDS:
        raise ValueError(f"an array of {dtype} cannot be sent")
    if not isinstance(shape, list) or not all(type(n) is int and n >= 0 for n in shape):
        raise ValueError(f"an array's shape is {shape!r:.40}")
    data, size = found.get(b"data"), math.prod(shape) * dtype.itemsize
    if not isinstance(data, bytes) or len(data) != size:
        raise ValueError(f"an array of {dtype} {shape} needs {size} bytes")
    return np.frombuffer(data, dtype).reshape(shape)


def _image(camera: str, value: Any) -> NDArray[np.uint8]:
    """Return an image (H, W, 3)."""
    sound = isinstance(value, np.ndarray) and value.dtype == np.uint8 and value.ndim == 3
    if sound and value.size and value.shape[2] != 3 and value.shape[0] == 3:
        value = np.ascontiguousarray(np.moveaxis(value, 0, 2))
    if not sound or not value.size or value.shape[2] != 3:
        raise refused(f"images[{camera!r}]", value, "uint8 (H, W, 3) with at least one pixel")
    return value


def _vector(name: str, value: Any, about: About) -> NDArray[np.float64]:
    """Return P finite numbers."""
    expected = f"{len(about.state_names)} numbers: {', '.join(about.state_names)}"
    try:
        numbers = np.array(value, dtype=np.float64)
    except (TypeError, ValueError, OverflowError) as error:
        raise refused(name, value, expected) from error
    if numbers.shape != (len(about.state_names),):
        raise refused(name, value, expected)
    if not np.isfinite(numbers).all():
        index = int(np.flatnonzero(~np.isfinite(numbers))[0])
        raise refused(f"{name}[{index}]", float(numbers[index]), "a finite number")
    return numbers
