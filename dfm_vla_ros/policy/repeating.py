"""Chunks once more: a checkpoint loaded to decode as another policy did."""

from __future__ import annotations

from pathlib import Path

import torch

from dfm_vla_ros.model.folder import folder_hash
from dfm_vla_ros.model.loading import load_checkpoint
from dfm_vla_ros.policy.policy import Policy
from dfm_vla_ros.policy.settings import parse


def load_like(folder: Path | str, decoding: str, device: str = "cpu", threads: int = 1) -> Policy:
    """Return the policy in ``folder`` with the settings of ``Policy.decoding``.

    Args:
        folder: a checkpoint, the same or another.
        decoding: of the policy that is repeated.
        device: "cpu" or "cuda".
        threads: CPU threads of torch.

    Raises:
        DecodingError: the settings are not understood.
        CheckpointError, TokenizerError: the folder is incomplete or not of one piece.
    """
    settings = parse(decoding)
    torch.set_num_threads(threads)
    checkpoint = load_checkpoint(folder, device, settings.precision)
    digest = folder_hash(Path(folder))
    return Policy(checkpoint, digest, settings.decoder, device, settings.caching)
