"""What the policy node reports on ``/diagnostics``."""

from __future__ import annotations

import numpy as np
import torch

from dfm_vla_ros.nodes.chunk_maker import ChunkMaker
from dfm_vla_ros.nodes.diagnostics import Level, Report
from dfm_vla_ros.nodes.inference import Inference
from dfm_vla_ros.nodes.policy_status import StatusTopic
from dfm_vla_ros.nodes.watch import Watch

MEGABYTE = 1e6


class PolicyReports:
    """Collects the health of the node's parts."""

    def __init__(
        self, watch: Watch, inference: Inference, chunks: ChunkMaker, status: StatusTopic
    ) -> None:
        """Report of these."""
        self._watch, self._inference = watch, inference
        self._chunks, self._status = chunks, status

    def collect(self) -> list[Report]:
        """Return the reports of now."""
        sources = [self._source(name) for name in self._watch.sources]
        return [*sources, self._calls(), self._goal(), self._checkpoint(), *self._gpu()]

    def _source(self, name: str) -> Report:
        source, now = self._watch.sources[name], self._watch.now()
        complaint = self._watch.complaint_of(name, now)
        age_s = source.age_s(now)
        values = {
            "rate [Hz]": source.rate_hz(now),
            "age [s]": age_s if np.isfinite(age_s) else "no message",
            "messages refused": source.refused,
        }
        if not complaint:
            return Report(name, values=values)
        # Without a goal nobody needs it yet.
        level = Level.WARN if self._chunks.goal is None else Level.ERROR
        return Report(name, level, complaint, values)

    def _calls(self) -> Report:
        chunks, times = self._chunks, list(self._chunks.times)
        values = {
            "median [s]": float(np.median(times)) if times else 0.0,
            "95th percentile [s]": float(np.percentile(times, 95)) if times else 0.0,
            "chunks": chunks.published,
            "dropped": chunks.dropped,
            "failed": chunks.failed,
        }
        if self._inference.policy is None:
            return Report("inference", Level.STALE, "no policy is loaded", values)
        return Report("inference", values=values)

    def _goal(self) -> Report:
        goal, message = self._chunks.goal, self._status.message
        if goal is None:
            return Report("goal", message=message or "none")
        values = {"instruction": goal.instruction, "id": goal.id, "chunks": goal.chunks}
        level = Level.WARN if message else Level.OK
        return Report("goal", level, message or "running", values)

    def _checkpoint(self) -> Report:
        policy = self._inference.policy
        if policy is None:
            return Report("checkpoint", Level.STALE, "no policy is loaded")
        hashes = {"sha256": policy.checkpoint_hash, "tokenizer sha256": policy.tokenizer.hash}
        return Report("checkpoint", values=hashes)

    def _gpu(self) -> list[Report]:
        """Return the GPU's memory, where one is used."""
        if not torch.cuda.is_initialized():
            return []
        values = {
            "memory allocated [MB]": torch.cuda.memory_allocated() / MEGABYTE,
            "memory reserved [MB]": torch.cuda.memory_reserved() / MEGABYTE,
        }
        return [Report("gpu", message=torch.cuda.get_device_name(), values=values)]
