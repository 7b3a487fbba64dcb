"""Tokenizers without torch: actions, proprioception, text. Each is one JSON file with a hash."""

from dfm_vla_ros.tokens.codec import ActionCodec, DecodeReport
from dfm_vla_ros.tokens.loading import load_action_tokenizer

__all__ = ["ActionCodec", "DecodeReport", "load_action_tokenizer"]
