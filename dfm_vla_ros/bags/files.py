"""Which files a bag has, in their order, unpacked."""

from __future__ import annotations

import re
import tempfile
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml
from backports import zstd

from dfm_vla_ros.bags.faults import BagError, Faults

METADATA = "metadata.yaml"
SUFFIXES = (".mcap", ".db3")
PACKED = tuple(f"{suffix}.zstd" for suffix in SUFFIXES)
BLOCK = 1 << 20


@dataclass(frozen=True)
class Listing:
    """The files of a bag.

    Attributes:
        paths: in the order of time.
        messages: how many there must be; None if nothing tells.
        topics: what was recorded, though it be empty: topic -> type.
    """

    paths: list[Path]
    messages: int | None = None
    topics: dict[str, str] = field(default_factory=dict)


def list_files(path: Path, faults: Faults) -> Listing:
    """Find the files of a bag; a listing that is missing or wrong is noted.

    Raises:
        BagError: there are none.
    """
    if path.is_file() and path.name.endswith((*SUFFIXES, *PACKED)):
        return Listing([path])
    if not path.exists():
        raise BagError(f"{path} does not exist: give the folder of a bag, or its .mcap file")
    if not path.is_dir():
        raise BagError(f"{path} is no bag: give its folder, or a file ending in .mcap or .db3")
    found = _by_name(path)
    listing = _listing(path, faults)
    if listing is None and not found:
        raise BagError(f"{path} is no bag: it holds neither {METADATA} nor .mcap or .db3 files")
    if listing is None:
        return Listing(found)
    missing = [listed for listed in listing.paths if not listed.is_file()]
    for listed in missing:
        faults.add(listed.name, "missing", f"is listed in {METADATA} and missing")
    there = [listed for listed in listing.paths if listed not in missing]
    if not there and not found:
        raise BagError(f"{path} has lost all of its files: {', '.join(p.name for p in missing)}")
    return Listing(there or found, listing.messages, listing.topics)


def _by_name(folder: Path) -> list[Path]:
    """Return the data files of a folder; bag_10 comes after bag_9."""
    files = [file for file in folder.iterdir() if file.name.endswith((*SUFFIXES, *PACKED))]

    def key(file: Path) -> list[tuple[int, str]]:
        return [(int(part or -1), text) for text, part in re.findall(r"(\D*)(\d*)", file.name)]

    return sorted(files, key=key)


def _listing(folder: Path, faults: Faults) -> Listing | None:
    """Return what metadata.yaml says, or None if it is of no use."""
    path = folder / METADATA
    if not path.exists():
        faults.add(METADATA, "missing", "is missing: was the recorder killed?")
        return None
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
        return _parse(folder, content["rosbag2_bagfile_information"])
    except (OSError, UnicodeDecodeError, yaml.YAMLError, KeyError, TypeError, ValueError) as error:
        reason = " ".join(str(error).split())
        faults.add(METADATA, "corrupt", f"cannot be read, files are taken by name: {reason}")
        return None


def _parse(folder: Path, content: dict[str, Any]) -> Listing:
    topics = [entry["topic_metadata"] for entry in content["topics_with_message_count"]]
    return Listing(
        [folder / Path(name).name for name in content["relative_file_paths"]],
        int(content["message_count"]),
        {topic["name"]: topic["type"] for topic in topics},
    )


def unpack(path: Path, stack: ExitStack, faults: Faults) -> Path:
    """Return ``path``, or what a file that is compressed as a whole holds, up to a tear."""
    if not path.name.endswith(PACKED):
        return path
    folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="dfm_vla_bag_"))
    unpacked = Path(folder) / path.name.removesuffix(".zstd")
    with path.open("rb") as source, unpacked.open("wb") as target:
        unpacker = zstd.ZstdDecompressor()
        try:
            while not unpacker.eof and (block := source.read(BLOCK)):
                target.write(unpacker.decompress(block))
        except zstd.ZstdError as error:
            faults.add(
                path.name, "packed", f"cannot be unpacked beyond byte {source.tell()}: {error}"
            )
        else:
            if not unpacker.eof:
                faults.add(
                    path.name, "packed", f"ends at byte {source.tell()}, within its packing"
                )
    return unpacked
