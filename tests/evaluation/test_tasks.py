from __future__ import annotations

import itertools
from pathlib import Path

import pytest

from edge_mnv2.errors import RequestError
from edge_mnv2.evaluation.tasks import Truth, choose_truth, decoder_options, evaluate
from edge_mnv2.zoo.architectures import Task
from edge_mnv2.zoo.model import DecoderOptions, Model, load_model
from tests.evaluation.fakes import classifier, png, segmenter, write_picture

A, M, L = Path("a"), Path("m"), Path("l")
MODELS: dict[Task, str] = {
    "detect": "ssdlite-mnv2-coco",
    "segment": "deeplabv3-mnv2-voc",
    "classify": "mobilenet-v2-imagenet",
}


@pytest.fixture(scope="module")
def models() -> dict[Task, Model]:
    return {task: load_model(name) for task, name in MODELS.items()}


@pytest.mark.parametrize(
    ("task", "truth", "path"),
    [
        ("detect", Truth(annotations=A), A),
        ("segment", Truth(masks=M), M),
        ("classify", Truth(labels=L), L),
    ],
)
def test_each_task_takes_its_own(models: dict[Task, Model], task: Task, truth: Truth, path: Path) -> None:
    assert choose_truth(models[task], truth) == path


@pytest.mark.parametrize(
    ("task", "own", "words"),
    [
        ("detect", {"annotations": A}, "ssdlite-mnv2-coco detects objects: .* --annotations, a COCO"),
        ("segment", {"masks": M}, "deeplabv3-mnv2-voc segments: .* --masks, a folder of PNG files"),
        ("classify", {"labels": L}, "mobilenet-v2-imagenet classifies: .* --labels, a file of lines"),
    ],
)
def test_what_is_missing_or_of_another_task_is_said(
    models: dict[Task, Model], task: Task, own: dict[str, Path], words: str
) -> None:
    everything = {"annotations": A, "masks": M, "labels": L}
    for count in range(4):
        for given in itertools.combinations(everything.items(), count):
            if dict(given) != own:
                with pytest.raises(RequestError, match=words):
                    choose_truth(models[task], Truth(**dict(given)))


def test_predictors_report_what_is_measured() -> None:
    assert decoder_options("detect") == DecoderOptions(threshold=0.01)
    assert decoder_options("segment") == DecoderOptions(masks=True)
    assert decoder_options("classify") == DecoderOptions(threshold=None, top_k=5)


def test_the_models_own_number_of_classes_counts(models: dict[Task, Model], tmp_path: Path) -> None:
    (tmp_path / "masks").mkdir()
    write_picture(tmp_path / "a.png", [[20, 0]])
    (tmp_path / "masks" / "a.png").write_bytes(png([[20, 0]]))
    model = models["segment"]
    found = evaluate(segmenter(model.labels), model, tmp_path, tmp_path / "masks")
    assert found.iou["tvmonitor"] == 1.0  # type: ignore[union-attr]
    (tmp_path / "masks" / "a.png").write_bytes(png([[21, 0]]))
    with pytest.raises(RequestError, match="classes 0 to 20"):
        evaluate(segmenter(model.labels), model, tmp_path, tmp_path / "masks")
    (tmp_path / "labels.txt").write_text("a.png 999")
    fake = classifier({20: [999]})
    assert evaluate(fake, models["classify"], tmp_path, tmp_path / "labels.txt").top1 == 1.0  # type: ignore[union-attr]
    (tmp_path / "labels.txt").write_text("a.png 1000")
    with pytest.raises(RequestError, match="classes 0 to 999"):
        evaluate(fake, models["classify"], tmp_path, tmp_path / "labels.txt")
