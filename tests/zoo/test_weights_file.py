from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from edge_mnv2.errors import WeightsError
from edge_mnv2.networks.classifier import ClassifierSpec
from edge_mnv2.networks.deeplabv3 import DeepLabSpec
from edge_mnv2.networks.mobilenet_v2 import IMAGENET_SCALING
from edge_mnv2.networks.ssdlite import SsdLiteSpec
from edge_mnv2.zoo.architectures import Spec
from edge_mnv2.zoo.catalogue import CATALOGUE
from edge_mnv2.zoo.labels import DATA_DIR, read_labels
from edge_mnv2.zoo.weights_file import load_weights, save_weights

SPEC = SsdLiteSpec(3, (300, 200), 0.75)


@settings(deadline=None)
@given(
    hnp.arrays(np.float32, hnp.array_shapes(max_dims=4, max_side=4), elements=st.floats(-500, 500, width=32))
)
def test_float16_with_residual_keeps_twenty_bits(
    tmp_path_factory: pytest.TempPathFactory, array: np.ndarray
) -> None:
    path = tmp_path_factory.mktemp("weights") / "w.npz"
    save_weights(path, SPEC, {1: "a", 2: "ö"}, {"layer/weights": array})
    found = load_weights(path)
    assert (found.spec, found.labels) == (SPEC, {1: "a", 2: "ö"})
    np.testing.assert_allclose(found.arrays()["layer/weights"], array, rtol=2**-20, atol=1e-7)


@pytest.mark.parametrize(
    "spec",
    [
        SPEC,
        SsdLiteSpec(91, last_channels=448),
        DeepLabSpec(21),
        DeepLabSpec(4, (257, 385), 0.5, 1, 8, IMAGENET_SCALING),
        ClassifierSpec(),
        ClassifierSpec(7, (96, 128), 1.4, IMAGENET_SCALING, "symmetric"),
    ],
)
def test_every_network_is_read_as_it_was_written(tmp_path: Path, spec: Spec) -> None:
    save_weights(tmp_path / "w.npz", spec, {}, {})
    assert load_weights(tmp_path / "w.npz").spec == spec


@pytest.mark.parametrize("change", [{"schema": 2}, {"architecture": "ssdlite9"}, {"more": 1}, {"size": None}])
def test_a_file_of_a_newer_version_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, change: dict[str, object]
) -> None:
    dumps = json.dumps

    def newer(content: dict[str, object], **options: object) -> str:
        return dumps(content | change if "architecture" in content else content, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(json, "dumps", newer)
    save_weights(tmp_path / "w.npz", SPEC, {}, {})
    with pytest.raises(WeightsError, match=r"w\.npz was written by a newer version of edge-mnv2: upgrade"):
        load_weights(tmp_path / "w.npz")


def test_the_same_content_gives_the_same_file(tmp_path: Path) -> None:
    arrays = {"b": np.ones(3, np.float32), "a": np.zeros((2, 2), np.float32)}
    save_weights(tmp_path / "1.npz", SPEC, {2: "x", 1: "y"}, arrays)
    save_weights(tmp_path / "2.npz", SPEC, {1: "y", 2: "x"}, dict(reversed(arrays.items())))
    assert (tmp_path / "1.npz").read_bytes() == (tmp_path / "2.npz").read_bytes()


@pytest.mark.parametrize("value", [np.nan, np.inf, 70_000.0])
def test_what_float16_cannot_hold_is_refused_and_nothing_written(tmp_path: Path, value: float) -> None:
    with pytest.raises(WeightsError, match="layer/biases"):
        save_weights(tmp_path / "w.npz", SPEC, {}, {"layer/biases": np.array([value], np.float32)})
    assert list(tmp_path.iterdir()) == []


def test_every_damaged_byte_is_found(tmp_path: Path) -> None:
    save_weights(tmp_path / "w.npz", SPEC, {1: "a"}, {"layer/weights": np.ones((2, 2), np.float32)})
    whole = (tmp_path / "w.npz").read_bytes()
    digest = load_weights(tmp_path / "w.npz").digest
    path = tmp_path / "damaged.npz"
    found = 0
    for position in range(len(whole)):
        for flip in (0x01, 0x55, 0xFF):
            path.write_bytes(whole[:position] + bytes([whole[position] ^ flip]) + whole[position + 1 :])
            try:
                # A byte that nothing reads, such as a time stamp in the archive, may change.
                assert load_weights(path).digest == digest
            except WeightsError:
                found += 1
    assert found > len(whole)


def test_a_changed_weight_with_a_valid_archive_is_found_by_its_hash(tmp_path: Path) -> None:
    save_weights(tmp_path / "w.npz", SPEC, {}, {"layer/weights": np.ones((2, 2), np.float32)})
    with np.load(tmp_path / "w.npz") as archive:
        stored = {name: archive[name] for name in archive.files}
    stored["layer/weights"] = np.zeros((2, 2), np.float16)
    np.savez(tmp_path / "w.npz", **stored)
    with pytest.raises(WeightsError, match="SHA-256"):
        load_weights(tmp_path / "w.npz")


def test_foreign_and_truncated_files_are_named(tmp_path: Path) -> None:
    (tmp_path / "text.npz").write_text("hello")
    np.savez(tmp_path / "foreign.npz", a=np.zeros(3))
    np.savez(tmp_path / "meta.npz", meta=np.array(json.dumps([1, 2])))
    whole = (DATA_DIR / "ssdlite-mnv2-coco.npz").read_bytes()
    (tmp_path / "cut.npz").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "empty.npz").touch()
    for name in ("text", "foreign", "meta", "cut", "empty", "missing"):
        with pytest.raises(WeightsError, match=rf"{name}\.npz"):
            load_weights(tmp_path / f"{name}.npz")


def test_what_is_embedded_is_whole_and_stored_as_float16() -> None:
    embedded = [card for card in CATALOGUE if card.embedded]
    assert len(embedded) == 3
    for card in embedded:
        assert card.embedded is not None
        found = load_weights(DATA_DIR / card.embedded)
        assert (found.spec, len(found.labels)) == (card.spec, len(read_labels(card.labels).by_class(0)))
        with np.load(DATA_DIR / card.embedded) as archive:
            kinds = {archive[name].dtype for name in archive.files if name != "meta"}
        assert kinds == {np.dtype(np.float16)}
