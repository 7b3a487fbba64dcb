"""``dfm-vla bench memory``: what a process that loads a checkpoint and acts once takes.

The peak is the kernel's of this process: own memory and the pages of the mapped weight files that
it touched, which the kernel can drop and read again. On a GPU also the allocator's peak.
"""

from __future__ import annotations

import argparse
import json
import resource
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dfm_vla_ros.options import positive_count

if TYPE_CHECKING:
    from dfm_vla_ros.policy.policy import Policy

KIB_PER_GB = 1e9 / 1024


def add_parser(subparsers: argparse._SubParsersAction) -> None:
    """Add ``bench memory``."""
    parser = subparsers.add_parser(
        "memory",
        help="peak memory of loading a checkpoint and making one chunk",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--checkpoint", type=Path, required=True)
    parser.add_argument("--device", default="cpu", help="cpu or cuda")
    parser.add_argument("--precision", choices=("float32", "bfloat16", "int8"))
    parser.add_argument("--refinement", type=positive_count, default=1, help="refinement steps")
    parser.add_argument("--below-gb", type=float, help="exit status 1 if the peak is not below")
    parser.add_argument("--json", type=Path, help="write the result there")
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Load, act, print; the exit status is in the options' help."""
    from dfm_vla_ros.policy.policy import Policy

    began = time.monotonic()
    policy = Policy.load(
        options.checkpoint,
        options.device,
        refinement_steps=options.refinement,
        validation_steps=1,
        precision=options.precision,
    )
    content: dict[str, Any] = {"load_s": time.monotonic() - began, "chunk_s": _act(policy)}
    content |= {
        "peak_gb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / KIB_PER_GB,
        **{name: _status_gb(key) for name, key in (("own_gb", "RssAnon"), ("file_gb", "RssFile"))},
        "gpu_gb": _gpu_gb(options.device),
    }
    print(
        f"loaded in {content['load_s']:.1f} s, a chunk in {content['chunk_s']:.1f} s; peak "
        f"{content['peak_gb']:.2f} GB; at the end {content['own_gb']:.2f} GB own, "
        f"{content['file_gb']:.2f} GB of mapped files; on the GPU {content['gpu_gb']:.2f} GB"
    )
    if options.json is not None:
        options.json.parent.mkdir(parents=True, exist_ok=True)
        options.json.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    highest = max(content["peak_gb"], content["gpu_gb"])
    return int(options.below_gb is not None and highest >= options.below_gb)


def _act(policy: Policy) -> float:
    """Make one chunk of a moment of grey images; return how long it took [s]."""
    from dfm_vla_ros.policy.types import grey_observation

    joints, sentence = len(policy.tokenizer.joint_names), next(iter(policy.tasks.values()))
    moment = grey_observation(policy.cameras, policy.image_size, joints, sentence)
    began = time.monotonic()
    policy.act(moment)
    return time.monotonic() - began


def _status_gb(key: str) -> float:
    """Return a line of the kernel's account of this process [GB]."""
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    line = next(line for line in lines if line.startswith(f"{key}:"))
    return int(line.split()[1]) / KIB_PER_GB


def _gpu_gb(device: str) -> float:
    import torch

    return torch.cuda.max_memory_allocated() / 1e9 if device.startswith("cuda") else 0.0
