"""Keys of a run that only a unified model has."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from dfm_vla_ros.training.schema import key


@dataclass(frozen=True)
class UnifiedTrainConfig:
    """Fine-tuning of a unified checkpoint, which ``init`` names."""

    attention: Literal["keep", "causal", "bidirectional", "full"] = key(
        "keep", "of the prefix; keep: as in the checkpoint. full allows one replica"
    )
    action_head: Literal["keep", "tied", "separate"] = key(
        "keep", "separate: rows of the head for the actions alone, which start as the model's"
    )
    action_rows: bool = key(
        True,
        "with lora: train the embeddings of the action ids too, which may have meant other things",
    )
    frozen: Literal["keep", "bf16", "fp32"] = key(
        "keep", "with lora: precision of the frozen weights; keep: as in the checkpoint"
    )
    held_frames: int = key(256, "of the held-out episodes that are measured, evenly spaced", low=1)
