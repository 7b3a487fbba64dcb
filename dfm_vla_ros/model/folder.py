"""What all checkpoint folders share: written whole, read strictly, identified by a hash."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal, TypeVar

import dacite
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from dfm_vla_ros.errors import DfmVlaError
from dfm_vla_ros.flow.distances import OrderedDistance
from dfm_vla_ros.flow.paths import MaskedPath, MetricPath, MixturePath
from dfm_vla_ros.flow.paths import Path as FlowPath
from dfm_vla_ros.flow.schedules import MetricSchedule
from dfm_vla_ros.flow.solvers import SolverConfig

WEIGHTS = "model.safetensors"
INDEX = "model.safetensors.index.json"
PICKLED = (".bin", ".pt", ".pth", ".ckpt")
SHARD_BYTES = 5_000_000_000


class CheckpointError(DfmVlaError):
    """A checkpoint folder that is incomplete, damaged or not of one piece."""


class WeightFiles:
    """The weights in a folder: ``model.safetensors``, or shards named by its index."""

    def __init__(self, folder: Path) -> None:
        """Read the headers of all files.

        Raises:
            CheckpointError: there are none, one is missing, truncated or lacks what the index
                says, or the weights are pickled.
        """
        self.folder = Path(folder)
        index = self.folder / INDEX
        self._named = _read_index(index) if index.is_file() else None
        if self._named is None and not (self.folder / WEIGHTS).is_file():
            raise CheckpointError(_absent(self.folder))
        names = {WEIGHTS} if self._named is None else set(self._named.values())
        self.paths = [self.folder / name for name in sorted(names)]
        self._files = {path: _open(path) for path in self.paths}
        self._where = {key: file for file in self._files.values() for key in file.keys()}  # noqa: SIM118
        for key in sorted(set(self._named or ()) - set(self._where)):
            raise CheckpointError(
                f"weight {key} is not in {self.folder / self._named[key]}, where {index} has it: "
                "copy the checkpoint again"
            )

    def keys(self) -> set[str]:
        """Return the names of all weights."""
        return set(self._where)

    def shape(self, key: str) -> tuple[int, ...]:
        """Return the shape of a weight without reading it."""
        return tuple(self._where[key].get_slice(key).get_shape())

    def dtype(self, key: str) -> str:
        """Return the type of a weight as the file names it, such as BF16."""
        return self._where[key].get_slice(key).get_dtype()

    def __getitem__(self, key: str) -> Tensor:
        return self._where[key].get_tensor(key)

    def rows(self, key: str, numbers: Tensor) -> Tensor:
        """Return the rows ``numbers`` of a matrix, reading no more than from first to last."""
        low, high = int(numbers.min()), int(numbers.max())
        return self._where[key].get_slice(key)[low : high + 1][numbers - low]

    def check(self, expected: Mapping[str, Iterable[int]], optional: Iterable[str] = ()) -> None:
        """Compare names and shapes with ``expected``.

        Raises:
            CheckpointError: a weight is missing (unless ``optional``), superfluous or misshapen.
        """
        for key in sorted((set(expected) ^ self.keys()) - set(optional)):
            state = "missing from" if key in expected else "not expected in"
            raise CheckpointError(f"weight {key} is {state} {self.folder}: {_REMEDY}")
        for key in sorted(set(expected) & self.keys()):
            if self.shape(key) != tuple(expected[key]):
                raise CheckpointError(
                    f"weight {key} has shape {self.shape(key)} in {self.folder}, config.json "
                    f"makes it {tuple(expected[key])}: {_REMEDY}"
                )


_REMEDY = "weights and config.json are of different checkpoints"


def _absent(folder: Path) -> str:
    pickled = sorted(p.name for p in Path(folder).glob("*") if p.suffix in PICKLED)
    if pickled:
        return (
            f"{folder} has {pickled[0]}, which may run code when it is read, and no "
            f"{WEIGHTS}: save the weights with safetensors.torch.save_file where you trust them"
        )
    return f"{Path(folder) / WEIGHTS} is missing: copy the checkpoint again"


def _read_index(path: Path) -> dict[str, str]:
    try:
        named = json.loads(path.read_text(encoding="utf-8"))["weight_map"]
        names = {str(key): str(value) for key, value in named.items()}
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise CheckpointError(f"{path}: {error!r}: copy the checkpoint again") from error
    for name in set(names.values()):
        if Path(name).name != name or Path(name).suffix != ".safetensors":
            raise CheckpointError(f"{path} names {name!r}; only safetensors beside it are read")
    return names


def _open(path: Path) -> safe_open:
    try:
        return safe_open(path, framework="pt", device="cpu")
    except (OSError, SafetensorError) as error:
        raise CheckpointError(f"{path}: {error}: copy the checkpoint again") from error


def assign(
    module: nn.Module,
    weights: Iterator[tuple[str, Tensor]],
    convert: Callable[[Tensor], Tensor],
) -> None:
    """Make each of ``weights`` a parameter or buffer of ``module``, which may be on meta."""
    for key, value in weights:
        path, _, leaf = key.rpartition(".")
        parent = module.get_submodule(path)
        value = convert(value) if value.is_floating_point() else value
        if leaf in parent._parameters:
            parent._parameters[leaf] = nn.Parameter(value, requires_grad=False)
        else:
            parent._buffers[leaf] = value


def save_weights(folder: Path, tensors: Mapping[str, Tensor], shard: int = SHARD_BYTES) -> None:
    """Write ``tensors`` to one file, or to shards of at most ``shard`` bytes with an index."""
    parts: list[dict[str, Tensor]] = [{}]
    size = 0
    for key, value in tensors.items():
        size += value.numel() * value.element_size()
        if parts[-1] and size > shard:
            parts.append({})
            size = value.numel() * value.element_size()
        parts[-1][key] = value.detach().clone(memory_format=torch.contiguous_format)
    if len(parts) == 1:
        save_file(parts[0], folder / WEIGHTS, metadata={"format": "pt"})
        return
    names = [f"model-{i + 1:05}-of-{len(parts):05}.safetensors" for i in range(len(parts))]
    for name, part in zip(names, parts, strict=True):
        save_file(part, folder / name, metadata={"format": "pt"})
    total = sum(v.numel() * v.element_size() for part in parts for v in part.values())
    where = {key: name for name, part in zip(names, parts, strict=True) for key in part}
    content = {"metadata": {"total_size": total}, "weight_map": where}
    (folder / INDEX).write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


CONFIG = "config.json"
Config = TypeVar("Config")
Method = Literal["flow", "autoregressive", "masked", "remasked", "one_step", "regression"]


@dataclass(frozen=True)
class PathConfig:
    """The path that the weights were trained on.

    Attributes:
        scale: of the distance, d = scale |i - j| / (K - 1).
        c: of the metric schedule.
        alpha: of the metric schedule.
        kind: ``metric`` for ordered tokens, ``mixture`` (from uniform noise) for those without
            order, ``masked`` from MASK; then the numbers above mean nothing.
    """

    scale: float = 32.0
    c: float = 3.0
    alpha: float = 1.0
    kind: Literal["metric", "mixture", "masked"] = "metric"

    def build(self, vocabulary_size: int) -> FlowPath:
        """Return the path over K = ``vocabulary_size`` tokens."""
        if self.kind == "mixture":
            return MixturePath(vocabulary_size)
        if self.kind == "masked":
            return MaskedPath(vocabulary_size)
        values = torch.linspace(0, 1, vocabulary_size)
        distance = OrderedDistance(values, scale=self.scale)
        return MetricPath(distance, MetricSchedule(self.c, self.alpha))


@dataclass(frozen=True)
class DecoderConfig:
    """How a chunk is refined unless the caller says otherwise.

    Attributes:
        method: what the network was trained for: ``flow`` along the path (with the rates of a
            velocity head where it has one), ``autoregressive``, ``masked`` (a kept token stays),
            ``remasked``, ``one_step`` or ``regression``. Those without a path's time have
            ``refinement_steps + validation_steps`` evaluations or as many as they need.
        refinement_steps: along the path.
        validation_steps: closing ones.
        target: how tokens are taken from the posterior.
        early_stop_within: end once no prediction moved by more tokens than this; None: never.
    """

    refinement_steps: int = 14
    validation_steps: int = 2
    target: str = "median"
    early_stop_within: int | None = None
    method: Method = "flow"

    def solver(self) -> SolverConfig:
        """Return these settings as the solver's."""
        early = self.early_stop_within is not None
        fields = {key: value for key, value in asdict(self).items() if key != "method"}
        return SolverConfig(**fields, early_stop=early)


def read_content(folder: Path) -> dict[str, Any]:
    """Return ``config.json`` of ``folder``.

    Raises:
        CheckpointError: it is missing or no JSON object.
    """
    path = Path(folder) / CONFIG
    if not path.is_file():
        raise CheckpointError(f"no checkpoint at {folder}: {CONFIG} is missing")
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise CheckpointError(f"{path}: {error}") from error
    if not isinstance(content, dict):
        raise CheckpointError(f"{path} holds no JSON object")
    return content


def read_config(folder: Path, kind: str, config: type[Config]) -> Config:
    """Return ``config.json`` as ``config``; a key that it does not know is an error.

    Raises:
        CheckpointError: it is missing, malformed or of another kind of checkpoint.
    """
    content = read_content(folder)
    found = content.get("kind", "small")
    if found != kind:
        raise CheckpointError(f"{folder} holds a checkpoint of kind {found!r}, expected {kind!r}")
    try:
        return dacite.from_dict(config, content, dacite.Config(strict=True, cast=[tuple]))
    except (ValueError, TypeError, dacite.DaciteError, CheckpointError) as error:
        raise CheckpointError(f"{Path(folder) / CONFIG}: {error}") from error


def write_config(folder: Path, config: Any, readme: str) -> None:
    """Write ``config.json`` and ``README.md``."""
    text = json.dumps(asdict(config), indent=1)
    (Path(folder) / CONFIG).write_text(text + "\n", encoding="utf-8")
    (Path(folder) / "README.md").write_text(readme, encoding="utf-8")


@contextmanager
def written_whole(folder: Path) -> Iterator[Path]:
    """Yield a folder to write into, which takes the place of ``folder`` when all went well."""
    folder = Path(folder)
    partial = folder.with_name(folder.name + ".partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    try:
        yield partial
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise
    if folder.exists():
        shutil.rmtree(folder)
    partial.rename(folder)


def check_hashes(folder: Path, expected: Mapping[str, str], found: Mapping[str, Any]) -> None:
    """Compare tokenizers with what ``config.json`` says of them.

    Raises:
        CheckpointError: one has another hash.
    """
    for name, digest in expected.items():
        tokenizer = found.get(name)
        if tokenizer is None or tokenizer.hash != digest:
            other = "missing" if tokenizer is None else tokenizer.hash[:12]
            raise CheckpointError(
                f"the {name} tokenizer in {folder} has hash {other}, {CONFIG} names "
                f"{digest[:12]}: tokenizers and weights are of different checkpoints"
            )


def folder_hash(folder: Path) -> str:
    """Return the sha256, hex, of all that decides what the policy does (README.md does not)."""
    folder = Path(folder)
    weights = [*folder.rglob("*.safetensors"), *folder.glob("*.index.json")]
    if not weights:
        raise CheckpointError(
            f"{folder / 'model.safetensors'} is missing: copy the checkpoint again"
        )
    tokenizers = [path for path in folder.glob("tokenizer/*") if path.is_file()]
    digest = hashlib.sha256()
    for path in sorted([folder / CONFIG, *weights, *tokenizers]):
        if not path.is_file():
            raise CheckpointError(f"{path} is missing: copy the checkpoint again")
        digest.update(path.relative_to(folder).as_posix().encode())
        with path.open("rb") as file:
            digest.update(hashlib.file_digest(file, "sha256").digest())
    return digest.hexdigest()
