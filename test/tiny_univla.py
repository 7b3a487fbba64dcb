"""A tiny Emu3 as UniVLA would save it, and the tiny unified checkpoint that it becomes."""

from __future__ import annotations

import base64
import json
from pathlib import Path

import numpy as np
import torch
from transformers import Emu3VQVAE, Emu3VQVAEConfig

from dfm_vla_ros.model.folder import save_weights
from dfm_vla_ros.model.unified import UnifiedConfig, UnifiedRefiner, make_backbone
from dfm_vla_ros.model.unified_checkpoint import UnifiedCheckpoint, UnifiedCheckpointConfig
from dfm_vla_ros.model.vision import FsqConfig, FsqTokenizer
from dfm_vla_ros.robot.joints import CAMERAS, JOINT_NAMES
from dfm_vla_ros.tokens.action import ActionTokenizer
from dfm_vla_ros.tokens.bins import ProprioceptionTokenizer
from dfm_vla_ros.tokens.ids import ImageSlot
from dfm_vla_ros.tokens.presets import small_layout
from dfm_vla_ros.tokens.text import TextTokenizer

INSTRUCTION = "place the block on the plate"
# UniVLA's configs/moe_fast_video.json with a narrow network; the vocabulary is the real one.
UNIVLA_CONFIG = {
    "architectures": ["Emu3MoE"],
    "model_type": "Emu3",
    "action_experts": False,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 5120,
    "rms_norm_eps": 1e-05,
    "rope_scaling": None,
    "rope_theta": 1000000.0,
    "tie_word_embeddings": False,
    "torch_dtype": "float32",
    "vocab_size": 184622,
}
VISION = {
    "codebook_size": 32768,
    "base_channels": 32,
    "channel_multiplier": [1, 1, 1, 2],
    "num_res_blocks": 1,
    "hidden_size": 64,
}
BAAI_VISION = {
    "model_type": "Emu3VisionVQ",
    "codebook_size": 32768,
    "embed_dim": 4,
    "z_channels": 4,
    "double_z": False,
    "in_channels": 3,
    "out_channels": 3,
    "temporal_downsample_factor": 4,
    "ch": 32,
    "ch_mult": [1, 1, 1, 2],
    "num_res_blocks": 1,
    "attn_resolutions": [3],
    "dropout": 0.0,
}


def action_tokenizer(vocabulary: int = 64) -> ActionTokenizer:
    """Return uniform bins for five steps of the 14 joints: 70 tokens."""
    joints = len(JOINT_NAMES)
    return ActionTokenizer(
        JOINT_NAMES, np.full((5, joints), 0.002), np.full(joints, np.nan), vocabulary, 0.1
    )


def joint_tokenizer() -> ProprioceptionTokenizer:
    """Return 256 bins within +-3.2."""
    bounds = np.full(len(JOINT_NAMES), 3.2)
    return ProprioceptionTokenizer(JOINT_NAMES, -bounds, bounds, 256)


def unified_checkpoint(seed: int = 0, **switches: object) -> UnifiedCheckpoint:
    """Return a small Llama over a compact vocabulary, with the small image tokenizer."""
    torch.manual_seed(seed)
    fsq = FsqConfig(image_size=32, hidden=8)
    action, joints = action_tokenizer(), joint_tokenizer()
    text = TextTokenizer.fit([INSTRUCTION], length=6)
    slots = [ImageSlot(camera, fsq.grid, fsq.grid) for camera in CAMERAS]
    layout = small_layout(
        text.vocabulary_size, fsq.vocabulary_size, action.vocabulary_size, slots, 256
    )
    sizes = {
        "architecture": "llama",
        "vocabulary_size": layout.vocabulary_size,
        "width": 32,
        "mlp_width": 48,
        "layers": 2,
        "heads": 4,
        "key_value_heads": 2,
        "max_positions": 512,
    }
    config = UnifiedCheckpointConfig(
        UnifiedConfig(**{**sizes, **switches}), fsq, CAMERAS, {"place_block": INSTRUCTION}
    )
    refiner = UnifiedRefiner(
        config.refiner, layout.action_ids, action.token_count, layout.special["mask"]
    )
    with torch.no_grad():
        for weight in refiner.parameters():
            if weight.ndim == 2:
                weight *= 4.0
    parts = (refiner.eval(), FsqTokenizer(fsq).eval(), action, joints, text, layout)
    return UnifiedCheckpoint(config, *parts)


def save_univla(folder: Path, shard: int = 10_000_000) -> None:
    """Write a random narrow Emu3 as UniVLA's trainer would, in shards."""
    torch.manual_seed(0)
    c = UNIVLA_CONFIG
    backbone = make_backbone(
        UnifiedConfig(
            width=c["hidden_size"],
            mlp_width=c["intermediate_size"],
            layers=c["num_hidden_layers"],
            heads=c["num_attention_heads"],
            key_value_heads=c["num_key_value_heads"],
        )
    )
    with torch.no_grad():
        for weight in backbone.parameters():
            if weight.ndim == 2:
                weight *= 5.0
    folder.mkdir(parents=True)
    save_weights(folder, backbone.state_dict(), shard)
    (folder / "config.json").write_text(json.dumps(UNIVLA_CONFIG))
    save_text(folder)


def save_text(folder: Path) -> None:
    """Write the first 256 ranks of Emu3's text tokenizer: single bytes, printable ones first."""
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    order = printable + [byte for byte in range(256) if byte not in printable]
    lines = (f"{base64.b64encode(bytes([b])).decode()} {i}\n" for i, b in enumerate(order))
    (folder / "emu3.tiktoken").write_text("".join(lines))


def random_vqvae() -> Emu3VQVAE:
    """Return a narrow Emu3VQVAE whose codes differ from place to place."""
    torch.manual_seed(1)
    network = Emu3VQVAE(Emu3VQVAEConfig(**VISION)).eval()
    with torch.no_grad():
        for buffer in network.buffers():
            if buffer.is_floating_point():  # statistics of batch normalisation
                buffer.uniform_(0.5, 1.5)
        network.quantize.embedding.weight.normal_()
    return network


def baai_name(key: str) -> str:
    """Return BAAI's name of a weight, written from its modules rather than from the rules."""
    for half in ("encoder", "decoder"):
        key = key.replace(f"{half}.middle_block.attn_norm.", f"{half}.mid.attn_1.norm.")
        key = key.replace(f"{half}.middle_block.", f"{half}.mid.")
    key = key.replace("down_block.down.", "down.").replace("up_block.up.", "up.")
    parts = key.split(".")
    if "attn_norms" in parts:
        at = parts.index("attn_norms")
        parts[at : at + 2] = ["attn", parts[at + 1], "norm"]
    short = {"q_proj": "q", "k_proj": "k", "v_proj": "v", "out_proj": "proj_out"}
    return ".".join(short.get(part, part) for part in parts)


def save_vision(folder: Path, naming: str) -> None:
    """Write the image tokenizer as transformers or BAAI would."""
    network = random_vqvae()
    folder.mkdir(parents=True)
    tensors = dict(network.state_dict())
    config = {"model_type": "emu3_vqgan", **VISION}
    if naming == "baai":
        config = BAAI_VISION
        projected = ("q_proj.weight", "k_proj.weight", "v_proj.weight", "out_proj.weight")
        tensors = {
            baai_name(key): value[:, :, None, None] if key.endswith(projected) else value
            for key, value in tensors.items()
        }
    elif naming == "whole":
        tensors = {f"model.vqmodel.{key}": value for key, value in tensors.items()}
        tensors["model.text_model.norm.weight"] = torch.ones(3)
        config = {"model_type": "emu3", "vq_config": config}
    save_weights(folder, tensors)
    (folder / "config.json").write_text(json.dumps(config))
