"""The sentence that each task is asked for with: the first of CALVIN's validation annotations.

Source: github.com/mees/calvin, ``conf/annotations/new_playtable_validation.yaml``, word for word.
"""

from __future__ import annotations

from dfm_vla_ros.benchmarks.calvin.tasks import COLOURS


def _sentences() -> dict[str, str]:
    found = {}
    for colour in COLOURS:
        block = f"{colour}_block"
        for side in ("right", "left"):
            found[f"rotate_{block}_{side}"] = (
                f"take the {colour} block and rotate it to the {side}"
            )
            found[f"push_{block}_{side}"] = f"go push the {colour} block {side}"
        found[f"lift_{block}_table"] = f"grasp and lift the {colour} block"
        found[f"lift_{block}_slider"] = f"lift the {colour} block from the sliding cabinet"
        found[f"lift_{block}_drawer"] = f"Take the {colour} block from the drawer"
    return found


INSTRUCTIONS: dict[str, str] = {
    **_sentences(),
    "move_slider_left": "push the sliding door to the left side",
    "move_slider_right": "push the sliding door to the right side",
    "open_drawer": "pull the handle to open the drawer",
    "close_drawer": "push the handle to close the drawer",
    "place_in_slider": "store the grasped block in the sliding cabinet",
    "place_in_drawer": "store the grasped block in the drawer",
    "push_into_drawer": "slide the block that it falls into the drawer",
    "stack_block": "stack the grasped block",
    "unstack_block": "remove the stacked block",
    "turn_on_lightbulb": "use the switch to turn on the light bulb",
    "turn_off_lightbulb": "use the switch to turn off the light bulb",
    "turn_on_led": "press the button to turn on the led light",
    "turn_off_led": "press the button to turn off the led light",
}
