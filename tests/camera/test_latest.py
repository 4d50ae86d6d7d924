from __future__ import annotations

import threading

import pytest

from camera import LatestSlot, SlotClosedError


class Item:
    def __init__(self, number: int) -> None:
        self.number = number
        self.releases = 0

    def release(self) -> None:
        self.releases += 1


def test_newest_wins_and_the_loser_is_released() -> None:
    slot: LatestSlot[Item] = LatestSlot()
    items = [Item(number) for number in range(3)]
    for item in items:
        slot.put(item)
    assert slot.get(0) is items[2]
    assert [item.releases for item in items] == [1, 1, 0]
    assert slot.dropped == 2
    assert slot.get(0) is None


def test_close_keeps_the_last_item_and_then_tells_the_cause() -> None:
    slot: LatestSlot[Item] = LatestSlot()
    last, late = Item(1), Item(2)
    slot.put(last)
    cause = RuntimeError("cable")
    slot.close(cause)
    slot.close(RuntimeError("second"))
    slot.put(late)
    assert late.releases == 1
    assert slot.get(0) is last
    with pytest.raises(SlotClosedError) as caught:
        slot.get(10)
    assert caught.value.__cause__ is cause


def test_close_wakes_a_waiting_reader() -> None:
    slot: LatestSlot[Item] = LatestSlot()
    outcome: list[str] = []
    waiting = threading.Event()

    def read() -> None:
        waiting.set()
        try:
            slot.get(60)
        except SlotClosedError:
            outcome.append("closed")

    reader = threading.Thread(target=read)
    reader.start()
    waiting.wait()
    slot.close()
    reader.join(10)
    assert outcome == ["closed"]


def test_every_item_is_taken_or_released_exactly_once_under_load() -> None:
    slot: LatestSlot[Item] = LatestSlot()
    items = [Item(number) for number in range(5000)]
    taken: list[Item] = []

    def produce() -> None:
        for item in items:
            slot.put(item)
        slot.close()

    producer = threading.Thread(target=produce)
    producer.start()
    while True:
        try:
            item = slot.get(10)
        except SlotClosedError:
            break
        if item is not None:
            taken.append(item)
    producer.join(10)
    numbers = [item.number for item in taken]
    assert numbers == sorted(numbers)
    assert items[-1] in taken
    assert slot.dropped == len(items) - len(taken) == sum(item.releases for item in items)
    assert all(item.releases == 0 for item in taken)
