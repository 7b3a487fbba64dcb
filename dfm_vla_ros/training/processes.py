"""The processes of a run: one, or those that ``accelerate launch`` started."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta

import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from accelerate.utils import DistributedDataParallelKwargs, InitProcessGroupKwargs

from dfm_vla_ros.training.config import TrainConfig
from dfm_vla_ros.training.schema import ConfigError

PATIENCE = timedelta(hours=3)
"""The first process evaluates while the others wait."""


def make_accelerator(config: TrainConfig) -> Accelerator:
    """Return what knows the device and the other processes.

    Raises:
        ConfigError: there is no GPU, or the batch cannot be shared out.
    """
    if config.device == "cuda" and not torch.cuda.is_available():
        raise ConfigError("device is cuda, but torch finds no GPU: set device=cpu")
    torch.set_num_threads(config.threads)
    if not torch.distributed.is_initialized():
        AcceleratorState._reset_state(reset_partial_state=True)  # of an earlier run
    accelerator = Accelerator(
        cpu=config.device == "cpu" or not torch.cuda.is_available(),
        mixed_precision="no",  # the loop's own autocast
        kwargs_handlers=[
            InitProcessGroupKwargs(timeout=PATIENCE),
            DistributedDataParallelKwargs(broadcast_buffers=False),
        ],
    )
    share = accelerator.num_processes * config.accumulate
    if config.batch % share:
        raise ConfigError(
            f"batch is {config.batch}: give a multiple of processes * accumulate, {share}"
        )
    return accelerator


def total(accelerator: Accelerator, value: float | torch.Tensor) -> float:
    """Return the sum of ``value`` over all processes."""
    if accelerator.num_processes == 1:
        return float(value)
    part = torch.as_tensor(value, dtype=torch.float64, device=accelerator.device)
    return float(accelerator.reduce(part, "sum"))


class Stop:
    """Whether SIGINT or SIGTERM came: the run then ends after the step, with its state saved."""

    def __init__(self) -> None:
        """None came."""
        self.signal: int | None = None

    @contextmanager
    def listening(self) -> Iterator[None]:
        """Note the first signal meanwhile; the second has its usual effect."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}

        def note(number: int, frame: object) -> None:
            self.signal = number
            signal.signal(number, before[number])

        for number in before:
            signal.signal(number, note)
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)
