"""The loop: batch, loss, step, average; saved, measured and logged on the way."""

from __future__ import annotations

import math
import signal
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager, nullcontext
from datetime import timedelta
from pathlib import Path

import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from accelerate.utils import DistributedDataParallelKwargs, InitProcessGroupKwargs
from torch import Tensor, nn
from torch.distributed.tensor import DTensor

from dfm_vla_ros.errors import DfmVlaError
from dfm_vla_ros.model.folder import read_content
from dfm_vla_ros.schema import ConfigError
from dfm_vla_ros.training.config import TrainConfig
from dfm_vla_ros.training.objectives import parts, stream
from dfm_vla_ros.training.optimiser import (
    Average,
    fill,
    make_optimisers,
    optimiser_state,
    rate_factor,
    restore_optimiser_state,
    set_rate,
    shard,
    trained,
    whole,
)
from dfm_vla_ros.training.run_folder import (
    Evaluate,
    Progress,
    Records,
    RunFolder,
    StateError,
    load_progress,
    load_tensors,
    save_state,
)
from dfm_vla_ros.training.small import make_small
from dfm_vla_ros.training.trainable import Batch, Trainable


class TrainingFailed(DfmVlaError):
    """The loss or its gradient is not finite."""


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


class StopSignal:
    """Whether SIGINT or SIGTERM came: the run then ends after the step, with its state saved."""

    def __init__(self) -> None:
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


class Prefetch:
    """Makes the batches of the next step in a thread while the network learns from the last.

    Attributes:
        waited_s: how long the callers of `take` have waited altogether [s].
    """

    def __init__(self, make: Callable[[int], list[Batch]], last: int) -> None:
        """Call ``make`` for steps up to ``last``."""
        self._make, self._last = make, last
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="batches")
        self._ahead: tuple[int, Future[list[Batch]]] | None = None
        self.waited_s = 0.0

    def take(self, step: int) -> list[Batch]:
        """Return the batches of ``step``, begin with the next; errors of ``make`` come here."""
        if self._ahead is None or self._ahead[0] != step:
            self._ahead = step, self._pool.submit(self._make, step)
        began = time.perf_counter()
        batches = self._ahead[1].result()
        self.waited_s += time.perf_counter() - began
        self._ahead = None
        if step < self._last:
            self._ahead = step + 1, self._pool.submit(self._make, step + 1)
        return batches

    def close(self) -> None:
        """End the thread."""
        self._pool.shutdown(wait=True, cancel_futures=True)


class Trainer:
    """Trains a `Trainable` to the end of its run.

    Attributes:
        progress: how far it is.
    """

    def __init__(
        self,
        config: TrainConfig,
        trainable: Trainable,
        folder: RunFolder,
        accelerator: Accelerator,
        evaluate: Evaluate | None = None,
    ) -> None:
        """Wrap the network for the processes, and take the state that is in ``folder``."""
        self.config, self.trainable, self.folder = config, trainable, folder
        self.accelerator = accelerator
        network = trainable.network.to(accelerator.device).train()
        self.sharded = config.sharding == "fsdp" and accelerator.num_processes > 1
        if self.sharded:
            shard(network, accelerator.device)
        self.optimisers = make_optimisers(network, config, trainable.matrices)
        self.module = network
        self.network = network if self.sharded else accelerator.prepare(network)
        self.average = Average(self.module, config.ema)
        self.progress = self._restored()
        self.records = Records(config, trainable, folder, accelerator, evaluate, self.progress)
        self._prefetch = Prefetch(self._batches, config.steps)
        self._stop = StopSignal()

    def run(self) -> None:
        """Take all steps that are left; raises TrainingFailed."""
        try:
            with self._stop.listening(), self.records:
                self._steps()
        finally:
            self.close()

    def _steps(self) -> None:
        progress, config = self.progress, self.config
        if progress.step == 0 and config.steps == 0:
            self._save()
        ended = 0 < config.max_seconds <= progress.seconds
        while progress.step < config.steps and not ended:
            began = time.monotonic()
            figures = self.step(progress.step + 1)
            progress.seconds += time.monotonic() - began
            self.records.step(figures, self.waited_s)
            ended = progress.step == config.steps or self._interrupted()
            if ended or self.records.due(progress.step):
                self._save(ended)

    def close(self) -> None:
        """End the thread that makes batches."""
        self._prefetch.close()

    @property
    def waited_s(self) -> float:
        """How long the network has waited for batches [s]."""
        return self._prefetch.waited_s

    def _interrupted(self) -> bool:
        """Return whether time is up or a signal came, the same in all processes."""
        limit, stop = self.config.max_seconds, self._stop.signal is not None
        ended = stop or 0 < limit <= self.progress.seconds
        if self.accelerator.num_processes == 1:
            return ended
        # Once a step, and only where processes could otherwise disagree.
        return total(self.accelerator, float(ended)) > 0

    def _batches(self, step: int) -> list[Batch]:
        c, a = self.config, self.accelerator
        shares = parts(c.seed, step, c.batch, a.process_index, a.num_processes, c.accumulate)
        return [self.trainable.batch(share) for share in shares]

    def step(self, step: int) -> dict[str, float]:
        """Take ``step``, the next one, and return its figures."""
        batches = self._prefetch.take(step)
        factor = rate_factor(self.config, step, self._seconds())
        set_rate(self.optimisers, factor)
        # What a network draws by itself (dropout) follows from seed and step as well.
        torch.manual_seed(stream(self.config.seed, step, "dropout"))
        loss = self._backward(batches)
        norm = self._clip()
        if not (math.isfinite(loss) and math.isfinite(norm)):
            self._fail(step, batches, loss, norm)
        for part in self.optimisers:
            part.step()
            part.zero_grad()
        self.average.follow(step)
        progress = self.progress
        progress.step = step
        progress.loss = loss if step == 1 else 0.98 * progress.loss + 0.02 * loss
        return {"loss": progress.loss, "lr_factor": factor, "gradient_norm": norm}

    def _seconds(self) -> float:
        """Return the training time, as the first process has it."""
        if self.config.max_seconds <= 0 or self.accelerator.num_processes == 1:
            return self.progress.seconds
        mine = self.progress.seconds if self.accelerator.is_main_process else 0.0
        return total(self.accelerator, mine)

    def _backward(self, batches: list[Batch]) -> float:
        """Add up the gradients of all parts; return the mean loss over all processes."""
        a = self.accelerator
        weight = total(a, sum(batch.weight for batch in batches))
        share = max(weight, 1.0) / a.num_processes
        losses = 0.0
        for number, batch in enumerate(batches):
            with self._synchronised(number == len(batches) - 1):
                with self._autocast():
                    loss = self.trainable.loss(self.network, batch.on(a.device)) / share
                loss.backward()
            losses += float(loss.detach())
        return total(a, losses) / a.num_processes

    def _synchronised(self, last: bool) -> AbstractContextManager[None]:
        if self.sharded:
            self.network.set_requires_gradient_sync(last)
        return nullcontext() if last or self.sharded else self.accelerator.no_sync(self.network)

    def _autocast(self) -> AbstractContextManager[None]:
        device, on = self.accelerator.device.type, self.config.precision == "bf16"
        return torch.autocast(device, torch.bfloat16, enabled=on)

    def _clip(self) -> float:
        """Bound the gradient; return its norm before."""
        norm = nn.utils.clip_grad_norm_([p for _, p in trained(self.module)], self.config.clip)
        return float(norm.full_tensor() if isinstance(norm, DTensor) else norm)

    def _fail(self, step: int, batches: list[Batch], loss: float, norm: float) -> None:
        """Save the batch and the state before the step, and give up."""
        folder, process = self.folder.failed(step), self.accelerator.process_index
        tensors = self._tensors()
        if self.accelerator.is_main_process:
            save_state(folder, self.progress, tensors)
        self.accelerator.wait_for_everyone()
        for number, batch in enumerate(batches):
            path = f"batch-{process}-{number}"
            save_state(folder / path, self.progress, {"batch": batch.tensors})
        raise TrainingFailed(
            f"loss {loss}, gradient norm {norm} at step {step}; the batch and the state before it "
            f"are in {folder}: look whether its numbers are sound, else lower lr or muon_lr and "
            "begin anew with --overwrite"
        )

    def _save(self, last: bool = True) -> None:
        """Measure, write the checkpoint, then commit the state: a kill in between repeats it."""
        self.module.eval()
        with self.average.applied(), torch.no_grad():
            figures = self.trainable.held_out(self.network)
        self.module.train()
        self.records.save(figures, self.average.whole(), last)
        tensors = self._tensors()
        if self.accelerator.is_main_process:
            self.records.commit(tensors)
        self.accelerator.wait_for_everyone()

    def _tensors(self) -> dict[str, dict[str, Tensor]]:
        return {
            "weights": {name: whole(parameter) for name, parameter in trained(self.module)},
            "average": self.average.whole() if self.config.ema > 0 else {},
            "optimiser": optimiser_state(self.module, self.optimisers),
        }

    def _restored(self) -> Progress:
        """Return how far the run in the folder is, with its weights, or the start."""
        last, fingerprint = self.folder.last, self.trainable.fingerprint
        if not last.is_dir():
            return Progress(fingerprint=fingerprint)
        progress = load_progress(last)
        if progress.fingerprint != fingerprint:
            raise StateError(
                f"the data are not those that {self.folder.path} was trained on: restore them, "
                "or begin anew with --overwrite"
            )
        saved = load_tensors(last, "weights")
        for name, parameter in trained(self.module):
            fill(parameter, saved[name])
        if self.config.ema > 0:
            self.average.restore(load_tensors(last, "average"))
        saved = load_tensors(last, "optimiser")
        restore_optimiser_state(self.module, self.optimisers, saved)
        return progress


def train(config: TrainConfig, evaluate: Evaluate | None = None, overwrite: bool = False) -> Path:
    """Run ``config``, or what is left of it, and return the folder of the last checkpoint.

    Args:
        config: of the run.
        evaluate: called with every checkpoint that is due for it.
        overwrite: whether to delete what a run has left in ``out`` first.

    Raises:
        ConfigError: ``out`` holds something else, or the settings do not fit the data.
        DatasetError, CheckpointError: a folder named in the config cannot be read.
        TrainingFailed: the loss is not finite; the batch and the state are saved.
    """
    accelerator = make_accelerator(config)
    folder = RunFolder(config.out)
    if accelerator.is_main_process:
        folder.begin(config, overwrite)
    accelerator.wait_for_everyone()
    trainable = make_trainable(config, folder, accelerator)
    Trainer(config, trainable, folder, accelerator, evaluate).run()
    if accelerator.is_main_process:
        folder.release()
    accelerator.end_training()
    return folder.checkpoint


def make_trainable(config: TrainConfig, folder: RunFolder, accelerator: Accelerator) -> Trainable:
    """Return what ``config`` trains: a small refiner, or a unified one that it starts from."""
    if config.init and read_content(Path(config.init)).get("kind") == "unified":
        from dfm_vla_ros.training.unified import make_unified

        return make_unified(config, folder, accelerator)
    # The first process trains the image tokenizer and fills the cache; the others read them.
    with accelerator.main_process_first():
        return make_small(config, folder, accelerator.device)
