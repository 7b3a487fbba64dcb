"""Puts messages that come nearly in order in order, with little memory."""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

Item = TypeVar("Item")


def in_order(
    items: Iterable[Item],
    key: Callable[[Item], int],
    window_ns: int,
    rank: Callable[[Item], int] = lambda _: 0,
) -> Iterator[Item]:
    """Yield ``items`` by time.

    Args:
        items: at most ``window_ns`` from their order. One that is further back means that time
            went back: what came before it goes first.
        key: time of an item [ns].
        window_ns: how long an item waits for earlier ones.
        rank: order of items of one time; those of one rank keep theirs.
    """
    waiting: list[tuple[int, int, int, Item]] = []
    newest_ns = -(2**63)
    for number, item in enumerate(items):
        at_ns = key(item)
        if at_ns < newest_ns - window_ns:
            while waiting:
                yield heapq.heappop(waiting)[3]
            newest_ns = at_ns
        newest_ns = max(newest_ns, at_ns)
        heapq.heappush(waiting, (at_ns, rank(item), number, item))
        while waiting[0][0] < newest_ns - window_ns:
            yield heapq.heappop(waiting)[3]
    while waiting:
        yield heapq.heappop(waiting)[3]
