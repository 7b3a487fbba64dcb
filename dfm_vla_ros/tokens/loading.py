"""Opens the action tokenizer of a checkpoint folder, whatever its kind."""

from __future__ import annotations

from pathlib import Path

from dfm_vla_ros.tokens.action import ActionTokenizer, MaatTokenizer
from dfm_vla_ros.tokens.codec import FILE, ActionCodec
from dfm_vla_ros.tokens.dct import DctTokenizer
from dfm_vla_ros.tokens.fast import FastTokenizer
from dfm_vla_ros.tokens.specification import TokenizerError, read_json

ACTION_KINDS: dict[str, type[ActionCodec]] = {
    codec.kind: codec for codec in (ActionTokenizer, MaatTokenizer, DctTokenizer, FastTokenizer)
}


def load_action_tokenizer(folder: Path | str) -> ActionCodec:
    """Return the tokenizer in ``tokenizer/action.json`` of the checkpoint ``folder``.

    Raises:
        TokenizerError: the file is missing, malformed or of a kind that is not known.
    """
    path = Path(folder) / FILE
    kind = read_json(path).get("kind")
    if kind not in ACTION_KINDS:
        raise TokenizerError(
            f"{path} holds a tokenizer of kind {kind!r}, known are {', '.join(ACTION_KINDS)}"
        )
    return ACTION_KINDS[kind].load(Path(folder))
