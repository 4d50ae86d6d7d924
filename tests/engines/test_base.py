from __future__ import annotations

import numpy as np
import pytest

from engines import FakeEngine, TensorMismatchError, TensorSpec, allocate_inputs
from engines.errors import EngineError

SPEC = TensorSpec("image", (1, 4, 6, 3), np.dtype(np.uint8))
GOOD = np.zeros((1, 4, 6, 3), np.uint8)


def fake() -> FakeEngine:
    return FakeEngine((SPEC,), {"out": np.arange(3, dtype=np.float32)})


@pytest.mark.parametrize(
    ("feeds", "words"),
    [
        ({}, ["['image']", "[]"]),
        ({"picture": GOOD}, ["['image']", "['picture']"]),
        ({"image": GOOD, "more": GOOD}, ["['image']", "['image', 'more']"]),
        ({"image": GOOD[0]}, ["image uint8 (1, 4, 6, 3)", "image uint8 (4, 6, 3)"]),
        ({"image": GOOD.astype(np.float32)}, ["uint8", "float32"]),
        ({"image": np.zeros((1, 6, 4, 3), np.uint8).transpose(0, 2, 1, 3)}, ["C-contiguous"]),
    ],
)
def test_wrong_feeds_name_expected_and_received(feeds: dict[str, np.ndarray], words: list[str]) -> None:
    with pytest.raises(TensorMismatchError) as caught:
        fake().run(feeds)
    for word in words:
        assert word in str(caught.value)


def test_fake_answers_and_counts_and_refuses_after_close() -> None:
    engine = fake()
    assert [spec.name for spec in engine.outputs] == ["out"]
    np.testing.assert_array_equal(engine.run({"image": GOOD})["out"], [0, 1, 2])
    assert engine.runs == 1
    engine.close()
    engine.close()
    with pytest.raises(EngineError, match="closed"):
        engine.run({"image": GOOD})


def test_fake_computes_from_its_feeds() -> None:
    spec = TensorSpec("sum", (), np.dtype(np.float32))
    engine = FakeEngine(
        (SPEC,),
        compute=lambda feeds: {"sum": np.float32(feeds["image"].sum())},
        output_specs=(spec,),
    )
    assert engine.run({"image": GOOD + 2})["sum"] == 2 * GOOD.size
    with pytest.raises(ValueError, match="either"):
        FakeEngine((SPEC,))


def test_allocated_inputs_fit() -> None:
    feeds = allocate_inputs((SPEC,))
    fake().run(feeds)
    assert feeds["image"].flags.c_contiguous
