"""A run from its config to its checkpoints."""

from __future__ import annotations

from pathlib import Path

import torch
from accelerate import Accelerator

from dfm_vla_ros.model.folder import read_content
from dfm_vla_ros.training.config import TrainConfig
from dfm_vla_ros.training.image_codes import Encoder, open_cache
from dfm_vla_ros.training.loop import Trainer
from dfm_vla_ros.training.preparing import prepare
from dfm_vla_ros.training.processes import make_accelerator
from dfm_vla_ros.training.run_folder import RunFolder
from dfm_vla_ros.training.small import SmallTrainable
from dfm_vla_ros.training.trainable import Evaluate, Trainable


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
        from dfm_vla_ros.training import unified

        return unified.make_trainable(config, folder, accelerator)
    # The first process trains the image tokenizer and fills the cache; the others read them.
    with accelerator.main_process_first():
        return make_small(config, folder, accelerator.device)


def make_small(config: TrainConfig, folder: RunFolder, device: torch.device) -> SmallTrainable:
    """Return a small refiner with its frames as tokens."""
    checkpoint, frames, sources = prepare(config, folder.image_tokenizer, device)
    codes = None
    if checkpoint.image_tokenizer is not None:
        vision, cameras = checkpoint.image_tokenizer, checkpoint.config.cameras
        cache = open_cache(config, vision)
        encoder = Encoder(vision.to(device), cameras, cache, config.augmentation, config.seed)
        codes = encoder.all(sources)
        vision.to("cpu")
    return SmallTrainable(config, checkpoint, frames, codes, device)
