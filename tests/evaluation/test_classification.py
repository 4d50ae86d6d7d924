from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from camera import BadFrameError
from edge_mnv2.errors import RequestError
from edge_mnv2.evaluation.classification import evaluate_classification, read_truth
from edge_mnv2.evaluation.tasks import decoder_options
from edge_mnv2.predictor import PredictorOptions, open_predictor
from edge_mnv2.results import Classification, SegmentationMap
from tests.evaluation.fakes import classifier, segmenter, write_picture

# What stands in these pictures of COCO by its annotations, as numbers of ImageNet's classes: toilet seat,
# African elephant, street sign (a stop sign), laptop.
REAL = {
    "000000331352.jpg": 861,
    "000000403385.jpg": 861,
    "000000458054.jpg": 861,
    "000000286994.jpg": 386,
    "000000314294.jpg": 386,
    "000000122745.jpg": 919,
    "000000297343.jpg": 919,
    "000000336587.jpg": 919,
    "000000403817.jpg": 620,
}


@pytest.fixture
def labels(tmp_path: Path) -> Path:
    return tmp_path / "labels.txt"


def test_an_example_by_hand(tmp_path: Path, labels: Path) -> None:
    """The fake tells the pictures apart by brightness: right, fifth, sixth, not at all, right."""
    ranks = {10: [7, 1, 2, 3, 4], 20: [1, 2, 3, 4, 7], 30: [1, 2, 3, 4, 5, 7], 40: [], 50: [0]}
    for value in ranks:
        write_picture(tmp_path / f"{value}.png", np.full((2, 2), value))
    labels.write_text("10.png 7\n20.png 7\n30.png 7\n40.png 7\n50.png 0\n")
    done: list[tuple[int, int | None]] = []
    found = evaluate_classification(
        classifier(ranks), 8, tmp_path, labels, lambda *counts: done.append(counts)
    )
    assert (found.top1, found.top5) == (2 / 5, 3 / 5)
    assert (found.images, found.ms_per_image) == (5, 2.0)
    assert done == [(number, 5) for number in range(1, 6)]


def test_names_may_have_blanks_and_lines_may_be_comments(labels: Path) -> None:
    text = "\ufeff# file class\n\n a b.png 3 \n\t\nsub/c.png\t0\r\nd 1.png   999\n#e.png 1\né 2 5\n"
    labels.write_text(text, encoding="utf-8", newline="")
    assert read_truth(labels, 1000) == {"a b.png": 3, "sub/c.png": 0, "d 1.png": 999, "é 2": 5}


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("a.png 1\nb.png\n", r"labels\.txt, line 2: .*not 'b\.png'"),
        ("\n#\n17\n", "line 3: .*not '17'"),
        ("a.png -1", "line 1"),
        ("a.png 1.0", "line 1"),
        ("a.png 1_0", "line 1"),
        ("a.png ٣", "line 1"),
        ("a.png,1", "line 1"),
        ("a.png 1 # cat", "line 1"),
        ("a.png " + "1" * 5000, r"line 1: .*not 'a\.png 1{74}'\."),
        ("a.png 9\nb.png 10", "line 2: the model has the classes 0 to 9, not 10"),
        ("a.png 1\nb.png 2\na.png 1", r"line 3: a\.png was named in line 1 already"),
        ("a.png 1\n./a.png 2", r"line 2: \./a\.png was named in line 1 already"),
        ("", "are empty"),
        ("# nothing\n\n", "are empty"),
    ],
)
def test_a_bad_line_is_named_by_its_number(labels: Path, text: str, words: str) -> None:
    labels.write_text(text, encoding="utf-8")
    with pytest.raises(RequestError, match=words):
        read_truth(labels, 10)


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path, labels: Path) -> None:
    labels.write_bytes(b"a\xff.png 1")
    for path in (labels, tmp_path / "nothing.txt", tmp_path):
        with pytest.raises(RequestError, match=f"{path.name} cannot be read"):
            read_truth(path, 10)


def test_missing_pictures_are_named_before_anything_is_run(tmp_path: Path, labels: Path) -> None:
    write_picture(tmp_path / "a.png", [[0]])
    long, impossible = "x" * 300, "b\0"
    labels.write_text(f"a.png 1\nb.png 1\nc.png 2\n{long} 1\n{impossible} 1\n")
    fake = classifier({0: [1]})
    with pytest.raises(
        RequestError, match=r"4 of 5 pictures named in \S+labels\.txt are not in \S+: b\.png, c"
    ):
        evaluate_classification(fake, 3, tmp_path, labels)
    assert fake.calls == 0
    (tmp_path / "a.png").write_bytes(b"")
    labels.write_text("a.png 1")
    with pytest.raises(BadFrameError, match=r"a\.png is empty"):
        evaluate_classification(fake, 3, tmp_path, labels)


def test_a_predictor_of_another_task_is_a_mistake_in_the_program(tmp_path: Path, labels: Path) -> None:
    write_picture(tmp_path / "a.png", [[0]])
    labels.write_text("a.png 1")
    with pytest.raises(TypeError, match=f"{SegmentationMap.__name__}, not {Classification.__name__}"):
        evaluate_classification(segmenter({}), 3, tmp_path, labels)


def test_the_embedded_model_knows_what_real_pictures_show(pictures: Path, labels: Path) -> None:
    labels.write_text("".join(f"{name} {class_id}\n" for name, class_id in REAL.items()))
    predictor = open_predictor(
        "mobilenet-v2-imagenet", PredictorOptions(precision="fp32", decoder=decoder_options("classify"))
    )
    try:
        found = evaluate_classification(predictor, 1000, pictures, labels)
    finally:
        predictor.close()
    assert (found.top1, found.top5) == (pytest.approx(5 / 9), pytest.approx(7 / 9))
