"""The pass that trains a unified refiner: next tokens, prefixes of several lengths."""

from __future__ import annotations

import pytest
import torch
from networks import TOKENS, action_tokens, prefix_ids, unified

from dfm_vla_ros.errors import FlowError

KINDS = [
    ("causal", True, False),
    ("causal", True, True),
    ("causal", False, False),
    ("bidirectional", True, False),
]


@pytest.mark.parametrize(("attention", "shift", "causal"), KINDS)
def test_that_padding_in_front_of_a_prefix_changes_nothing(
    attention: str, shift: bool, causal: bool
) -> None:
    refiner = unified(attention=attention, shift=shift)
    ids, tokens = prefix_ids(), action_tokens(3).transpose(0, 1)
    short = ids[1:, 5:]
    expected = [refiner(ids[:1], tokens[:1], causal), refiner(short, tokens[1:], causal)]
    padded = torch.cat([ids[:1], torch.nn.functional.pad(short, (5, 0), value=3)])
    found = refiner(padded, tokens, causal, padding=torch.tensor([0, 5]))
    torch.testing.assert_close(found, torch.cat(expected), atol=1e-5, rtol=0)


def test_that_one_causal_pass_gives_what_decoding_token_by_token_gives() -> None:
    refiner = unified()
    ids, tokens = prefix_ids(), action_tokens(2).transpose(0, 1)
    together = refiner(ids, tokens, causal=True)
    for replica in range(2):
        cache = refiner.prefill(ids)
        for place in range(TOKENS):
            logits = refiner.next_logits(tokens[:, replica], place, 1, cache)
            torch.testing.assert_close(
                logits[:, 0], together[:, replica, place], atol=1e-5, rtol=0
            )


@pytest.mark.parametrize("switches", [{"shift": False}, {"attention": "bidirectional"}])
def test_that_a_network_that_cannot_decode_from_left_to_right_is_not_trained_to(
    switches: dict[str, object],
) -> None:
    with pytest.raises(FlowError, match="only a causal network with shift"):
        unified(**switches)(prefix_ids(), action_tokens(1).transpose(0, 1), causal=True)
