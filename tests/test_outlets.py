"""The outputs of a loop: replaced one by one while others go on."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from camera import SourceInfo
from edge_mnv2.errors import OutputPathError, SinkError
from edge_mnv2.outlets import Outlets, OutputBox
from edge_mnv2.results import FrameResult
from edge_mnv2.sinks.base import SinkSpec
from tests.samples import frame_result

LIVE = SourceInfo("camera", live=True, fps=10, frames=None, size=(64, 48))
FILE = SourceInfo("clip.mp4", live=False, fps=10, frames=None, size=(64, 48))


class Recorder:
    """A sink that remembers; `written` is set with each result."""

    def __init__(self) -> None:
        self.results: list[FrameResult] = []
        self.is_closed = False
        self.written = threading.Event()

    def write(self, result: FrameResult) -> None:
        self.results.append(result)
        self.written.set()

    def close(self) -> None:
        self.is_closed = True


def spec(name: str, sink: Recorder, settings: object = None) -> SinkSpec:
    return SinkSpec(name=name, open=lambda _: sink, wants_canvas=False, settings=settings)  # type: ignore[arg-type]  # any hashable


def always(*specs: SinkSpec) -> Callable[[SourceInfo], list[SinkSpec]]:
    return lambda _: list(specs)


@pytest.mark.parametrize("info", [LIVE, FILE])
def test_an_output_of_the_same_description_goes_on(info: SourceInfo) -> None:
    kept, gone, new, unused = Recorder(), Recorder(), Recorder(), Recorder()
    outlets = Outlets(info, always(spec("a", kept), spec("b", gone)))
    outlets.write(frame_result())
    outlets.replace(always(spec("a", unused), spec("c", new)))
    outlets.write(frame_result())
    outlets.close()
    assert (len(kept.results), len(gone.results), len(new.results), len(unused.results)) == (2, 1, 1, 0)
    assert [sink.is_closed for sink in (kept, gone, new, unused)] == [True, True, True, False]
    assert outlets.failures == []


def test_other_settings_make_another_output() -> None:
    old, new = Recorder(), Recorder()
    outlets = Outlets(FILE, always(spec("a", old, "small")))
    outlets.replace(always(spec("a", new, "large")))
    assert old.is_closed
    outlets.write(frame_result())
    outlets.close()
    assert (len(old.results), len(new.results)) == (0, 1)


def test_one_that_cannot_be_opened_leaves_the_others_alone() -> None:
    def refuse(_: int) -> Recorder:
        raise OutputPathError("x cannot be written: choose another path.")

    kept = Recorder()
    outlets = Outlets(FILE, always(spec("a", kept)))
    wrong = SinkSpec(name="x", open=refuse, wants_canvas=False)
    outlets.replace(always(spec("a", kept), wrong))
    outlets.write(frame_result())
    assert len(kept.results) == 1
    outlets.close()
    assert outlets.failures == ["x cannot be written: choose another path."]
    with pytest.raises(OutputPathError):
        Outlets(FILE, always(spec("a", kept), wrong))


def test_descriptions_that_are_refused_change_nothing(tmp_path: Path) -> None:
    def refuse(_: SourceInfo) -> list[SinkSpec]:
        raise OutputPathError("two outputs in one file.")

    kept = Recorder()
    outlets = Outlets(LIVE, always(spec("a", kept)))
    outlets.replace(refuse)
    outlets.write(frame_result())
    outlets.close()
    assert len(kept.results) == 1


def test_a_retired_output_that_blocks_holds_nobody_up() -> None:
    release = threading.Event()

    class Blocked(Recorder):
        def write(self, result: FrameResult) -> None:
            super().write(result)
            release.wait(60)

    blocked, new = Blocked(), Recorder()
    outlets = Outlets(LIVE, always(spec("a", blocked)))
    outlets.write(frame_result())
    assert blocked.written.wait(30)
    outlets.replace(always(spec("b", new)))
    outlets.write(frame_result())
    assert new.written.wait(30)
    release.set()
    outlets.close()
    assert blocked.is_closed


def test_drops_of_outputs_that_are_gone_still_count() -> None:
    class Broken(Recorder):
        def write(self, result: FrameResult) -> None:
            raise SinkError("the disk is full.")

    outlets = Outlets(FILE, always(spec("a", Broken())))
    outlets.write(frame_result())
    outlets.write(frame_result())
    assert outlets.drops() == {"a": 2}
    outlets.replace(always())
    assert outlets.drops() == {"a": 2}
    outlets.close()
    assert outlets.failures == ["the disk is full."]


def test_what_was_dropped_never_becomes_less_while_outputs_are_replaced() -> None:
    release, stop = threading.Event(), threading.Event()

    class Blocked(Recorder):
        def write(self, result: FrameResult) -> None:
            super().write(result)
            release.wait(60)

    blocked = Blocked()
    outlets = Outlets(LIVE, always(spec("a", blocked)))
    outlets.write(frame_result())
    assert blocked.written.wait(30)
    for _ in range(200):
        outlets.write(frame_result())
    dropped = outlets.drops()["a"]
    assert dropped > 0
    seen: list[dict[str, int]] = []
    polled = threading.Event()

    def poll() -> None:
        while not stop.is_set():
            seen.append(outlets.drops())
            polled.set()

    poller = threading.Thread(target=poll)
    poller.start()
    try:
        outlets.replace(always(spec("a", Recorder(), "other")))
        polled.clear()
        assert polled.wait(30)
        release.set()
        outlets.close()
    finally:
        release.set()
        stop.set()
        poller.join(30)
    seen.append(outlets.drops())
    counts = [drops.get("a", 0) for drops in seen]
    assert min(counts) == dropped
    assert counts == sorted(counts)


def test_the_box_hands_out_the_newest_once() -> None:
    box = OutputBox()
    assert box.take() is None
    first, second = always(), always()
    box.put(first)
    box.put(second)
    assert box.take() is second
    assert box.take() is None


def test_a_canvas_is_wanted_where_one_output_wants_it() -> None:
    outlets = Outlets(FILE, always(spec("a", Recorder())))
    assert not outlets.wants_canvas
    sink = Recorder()
    outlets.replace(always(SinkSpec(name="v", open=lambda _: sink, wants_canvas=True)))
    assert outlets.wants_canvas
    outlets.write(frame_result())
    outlets.close()
    assert sink.results[0].canvas is not None
