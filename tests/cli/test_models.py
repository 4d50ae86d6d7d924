"""`edge-mnv2 models ...` in processes of its own: what it prints, writes, and returns."""

from __future__ import annotations

import json
import re
import shutil
from collections import Counter
from dataclasses import replace
from pathlib import Path

import onnx
import onnxruntime
import pytest

from edge_mnv2.agreement import MIN_EVIDENCE
from edge_mnv2.networks.classifier import ClassifierSpec
from edge_mnv2.zoo.catalogue import CATALOGUE
from edge_mnv2.zoo.labels import DATA_DIR
from edge_mnv2.zoo.model import Model, load_model
from edge_mnv2.zoo.paper import row_of
from edge_mnv2.zoo.ranges_file import beside, find_ranges, load_ranges, save_ranges
from tests.conftest import Command

CLASSIFIER = "mobilenet-v2-imagenet"


def shapes_of(path: Path) -> dict[str, list[int]]:
    """Load a graph in ONNX Runtime and return the shapes of its inputs and outputs."""
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    return {tensor.name: tensor.shape for tensor in (*session.get_inputs(), *session.get_outputs())}


def operators(path: Path) -> Counter[str]:
    return Counter(node.op_type for node in onnx.load(str(path)).graph.node)


def tables(text: str) -> list[list[str]]:
    """Return the cells of each row of printed tables."""
    rows = [line for line in text.splitlines() if line.startswith(("│", "┃"))]
    return [[cell.strip() for cell in re.split("[│┃]", row)[1:-1]] for row in rows]


def words_of(text: str) -> str:
    """Return what is printed without tables' lines, and without the breaks inside their cells."""
    return " ".join(re.sub("[─-╿]", " ", text).split())


# Pictures of the development set whose best class leads clearly.
CLEAR = (37777, 58636, 87038, 286994, 303818, 314294, 331352, 511321)


@pytest.fixture
def folder(tmp_path: Path, pictures: Path) -> Path:
    """Real pictures with one clear subject each."""
    (tmp_path / "real").mkdir()
    assert len(CLEAR) >= MIN_EVIDENCE
    for number in CLEAR:
        shutil.copy(pictures / f"{number:012}.jpg", tmp_path / "real")
    return tmp_path / "real"


@pytest.fixture
def own(tmp_path: Path, empty_cache: Path) -> Model:
    """The embedded classifier under a name of its own, without ranges."""
    (tmp_path / "own.npz").symlink_to(DATA_DIR / f"{CLASSIFIER}.npz")
    return load_model(str(tmp_path / "own.npz"))


def test_the_list_names_every_model_and_where_its_weights_are(command: Command, empty_cache: Path) -> None:
    done = command("models", "list")
    assert (done.returncode, done.stderr) == (0, "")
    rows = {row[0]: row for row in tables(done.stdout)}
    for card in CATALOGUE:
        assert rows[card.name][-1] == ("embedded" if card.embedded else "not fetched")
        assert card.origin.package in done.stdout
    assert rows["deeplabv3-mnv2-voc"][1:4] == ["segment", "20", "513x513"]


def test_info_says_what_int8_is_worth(command: Command, own: Model, tmp_path: Path) -> None:
    embedded = command("models", "info", CLASSIFIER)
    assert embedded.returncode == 0
    ranges = find_ranges(load_model(CLASSIFIER))
    assert ranges is not None
    said = words_of(embedded.stdout)
    assert (
        f"int8 ranges by {ranges.method} on 128 pictures (agreement with float32: {ranges.method} 0." in said
    )
    assert "check on 48 pictures: good (top1_agreement 0." in said
    assert "3.4 M" in embedded.stdout
    bare = command("models", "info", "own.npz")
    assert bare.returncode == 0
    assert "no activation ranges: edge-mnv2 models calibrate" in bare.stdout


def test_the_table_has_every_network_of_the_paper(command: Command) -> None:
    done = command("models", "table")
    assert (done.returncode, done.stderr) == (0, "")
    rows = {row[0]: row for row in tables(done.stdout)}
    assert len([name for name in rows if name.startswith("classifier")]) == 30
    assert rows["classifier 1.40, 224x224, 1000 classes"][1:6] == [
        "6,059,840",
        "6,084,808",
        "6.9 M",
        "582.2 M",
        "585 M",
    ]
    assert rows["SSDLite 1.00, 320x320, 80 classes"][2:4] == ["4,311,637", "4.3 M"]
    assert "2750 M" in words_of(done.stdout)


@pytest.mark.parametrize(
    ("words", "shapes"),
    [
        (
            "classifier --width 0.35 --classes 7 --input-size 96x64",
            {"image": [1, 64, 96, 3], "logits": [1, 7]},
        ),
        (
            "deeplabv3 --width 0.5 --classes 3 --input-size 97 --output-stride 8",
            {"image": [1, 97, 97, 3], "logits": [1, 4, 13, 13]},
        ),
        (  # cells: 6x4, 3x2, 2x1, and 1 for each of the three last maps; 3 anchors in the first, then 6
            "ssdlite --width 1.4 --classes 2 --input-size 64x96",
            {"image": [1, 96, 64, 3], "box_encodings": [1, 138, 4], "class_logits": [1, 138, 3]},
        ),
        (
            "deeplabv3-mnv2-voc --input-size 129x65 --output-stride 32",
            {"image": [1, 65, 129, 3], "logits": [1, 21, 3, 5]},
        ),
    ],
)
def test_any_variant_is_built(
    command: Command, tmp_path: Path, words: str, shapes: dict[str, list[int]]
) -> None:
    done = command("models", "build", *words.split(), "--output", "new/g.onnx")
    assert (done.returncode, done.stdout, done.stderr) == (0, "new/g.onnx\n", "")
    assert shapes_of(tmp_path / "new" / "g.onnx") == shapes


def test_a_split_graph_comes_with_its_memory_before_and_after(command: Command, tmp_path: Path) -> None:
    done = command("models", "build", "classifier", "--split", 4, "-o", "g.onnx")
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("g.onnx\n")
    rows = {row[0]: row[1:] for row in tables(done.stdout)}
    assert rows[""] == ["counted", "measured"]
    for title, split in (("whole", 1), ("split by 4", 4)):
        counted, measured = (cell.removesuffix(" MiB") for cell in rows[title])
        mebibytes = row_of(ClassifierSpec(), split).peak_bytes / 2**20
        assert counted == f"{mebibytes:.2f}"
        assert measured == "-" or float(measured) == pytest.approx(mebibytes, rel=0.25)
    assert shapes_of(tmp_path / "g.onnx")["logits"] == [1, 1000]


def test_trained_weights_are_built_into_the_cache_or_a_file(
    command: Command, tmp_path: Path, empty_cache: Path
) -> None:
    for precision, quantised in (("fp32", False), ("int8", True)):
        done = command("models", "build", CLASSIFIER, "--precision", precision, "--input-size", 96)
        assert done.returncode == 0, done.stderr
        path = Path(done.stdout.strip())
        assert path.is_relative_to(empty_cache)
        assert ("QuantizeLinear" in operators(path)) == quantised
        assert shapes_of(path) == {"image": [1, 96, 96, 3], "logits": [1, 1000]}
    for flavour, clips in (("asymmetric", False), ("symmetric", True)):
        done = command("models", "build", CLASSIFIER, "-p", "int8", "--flavour", flavour, "-o", "g.onnx")
        assert (done.returncode, done.stdout) == (0, "g.onnx\n"), done.stderr
        found = operators(tmp_path / "g.onnx")
        assert found["QuantizeLinear"] > 50
        assert bool(found["Clip"]) == clips
    trained = command("models", "build", CLASSIFIER, "--split", 2, "--input-size", 64, "-o", "split.onnx")
    assert trained.returncode == 0, trained.stderr
    assert "split by 2" in trained.stdout
    assert sum("/sum_" in node.name for node in onnx.load(str(tmp_path / "split.onnx")).graph.node) == 16


def one_line(stderr: str) -> str:
    """Return the one line of an error, without its prefix."""
    assert stderr.count("\n") == 1, stderr
    assert stderr.startswith("edge-mnv2: error: ")
    return stderr.removeprefix("edge-mnv2: error: ").removesuffix("\n")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (f"build {CLASSIFIER} --precision int8 --split 2 -o g.onnx", "--split is for fp32"),
        (f"build {CLASSIFIER} --precision auto", "no precision 'auto': choose one of fp32, fp16, int8"),
        (f"build {CLASSIFIER} --width 0.5 -o g.onnx", "have a width and classes of their own"),
        (f"build {CLASSIFIER} --classes 5 -o g.onnx", "have a width and classes of their own"),
        (f"build {CLASSIFIER} --output-stride 8", "Only a segmentation (deeplabv3) has an output stride"),
        (f"build {CLASSIFIER} --split 4", "say where to write it with --output"),
        (f"build {CLASSIFIER} --dla 0", "--dla is for a TensorRT plan: add --engine tensorrt"),
        (f"build {CLASSIFIER} --engine tensorrt -o x.onnx", "of the options, only --precision, --dla,"),
        ("build classifier", "say where to write it with --output"),
        ("build classifier --precision int8 -o g.onnx", "no activation ranges for int8: build it in fp32"),
        ("build classifier --width 0.01 -o g.onnx", "width must lie between 0.1 and 4, not 0.01"),
        ("build classifier --width nan -o g.onnx", "width must lie between 0.1 and 4, not nan"),
        ("build classifier --classes 0 -o g.onnx", "classes must lie between 1 and 100000, not 0"),
        ("build deeplabv3 --classes 256 -o g.onnx", "classes must lie between 1 and 255, not 256"),
        ("build deeplabv3 --output-stride 4 -o g.onnx", "output stride must be 8, 16 or 32, not 4"),
        ("build ssdlite --input-size 31 -o g.onnx", "31x31 cannot be: a side has 32 to 4096 pixels"),
        ("build ssdlite --input-size 64x5000 -o g.onnx", "64x5000 cannot be: a side has 32 to 4096 pixels"),
        ("build ssdlite --input-size big -o g.onnx", "A size is WIDTHxHEIGHT, such as 513x289"),
        ("build ssdlite --split 0 -o g.onnx", "--split"),
        ("build ssdlite --flavour sour -o g.onnx", "--flavour"),
        ("build ssdlight -o g.onnx", "no model called 'ssdlight'. Did you mean ssdlite-mnv2-coco"),
        ("build missing.npz", "There is no weights file missing.npz"),
        ("build classifier -o few", "few cannot be written: Is a directory"),
        (f"calibrate {CLASSIFIER} --images empty", "The folder empty holds no pictures"),
        (f"calibrate {CLASSIFIER} --images missing", "There is no folder missing: check the path"),
        (f"calibrate {CLASSIFIER} --images few -o x.npz", "x.npz: a file of ranges must end in .ranges.npz"),
        ("calibrate own.npy --images few", "no model called 'own.npy'"),
        (f"check {CLASSIFIER} --images empty", "The folder empty holds no pictures"),
        (f"check {CLASSIFIER} --images missing", "There is no folder missing: check the path"),
        (f"check {CLASSIFIER} --images few --precision fp32", "float32 is what int8 is compared with"),
        ("check own.npz --images few", "int8: edge-mnv2 models calibrate own.npz --images DIR"),
        ("build own.npz --precision int8", "int8: edge-mnv2 models calibrate own.npz --images DIR"),
        (f"check {CLASSIFIER}", "--images"),
        ("info nothing", "no model called 'nothing'"),
        ("import few -o x.npz", "few holds no model: no model.json, .pb, .tflite, .pth or .pt file"),
    ],
)  # fmt: skip
def test_wrong_requests_are_answered_in_one_line(
    command: Command, own: Model, tmp_path: Path, words: str, said: str
) -> None:
    for name in ("empty", "few"):
        (tmp_path / name).mkdir()
    (tmp_path / "few" / "a.png").write_bytes(b"never read")
    before = sorted(tmp_path.rglob("*"))
    done = command("models", *words.split())
    assert done.returncode == 2, done.stderr
    assert done.stdout == ""
    assert said in one_line(done.stderr)
    assert sorted(path for path in tmp_path.rglob("*") if "cache" not in path.parts) == before


def test_a_graph_never_takes_the_place_of_its_weights(command: Command, tmp_path: Path) -> None:
    weights = tmp_path / "mine.npz"
    shutil.copy(DATA_DIR / "deeplabv3-mnv2-voc.npz", weights)
    before = weights.read_bytes()
    (tmp_path / "link.onnx").symlink_to("mine.npz")
    for output in ("mine.npz", "link.onnx"):
        done = command("models", "build", "mine.npz", "--input-size", 64, "--output", output)
        assert weights.read_bytes() == before
        assert done.returncode == 2
        assert output in one_line(done.stderr)


def test_a_damaged_picture_stops_calibration_and_check(
    command: Command, folder: Path, empty_cache: Path
) -> None:
    (folder / "a.jpg").write_bytes(b"no picture")
    for words in ("calibrate", "check"):
        done = command("models", words, CLASSIFIER, "--images", folder)
        assert (done.returncode, done.stdout) == (1, "")
        (error,) = [line for line in done.stderr.splitlines() if "engine: " not in line]
        assert "a.jpg is not a picture" in one_line(f"{error}\n")
    assert not (empty_cache / "ranges").exists()
    assert not (empty_cache / "checks").exists()


def test_a_model_is_calibrated_checked_and_then_run_in_int8(
    command: Command, own: Model, folder: Path, empty_cache: Path, tmp_path: Path
) -> None:
    picture = folder / "000000037777.jpg"
    assert "precision: fp32 (int8 has no activation ranges" in run(command, picture)
    done = command("models", "calibrate", "own.npz", "--images", "real")
    assert done.returncode == 0, done.stderr
    (ranges_path,) = (empty_cache / "ranges").iterdir()
    ranges = load_ranges(ranges_path, own)
    assert ranges.images == len(CLEAR)
    assert [row[0] for row in tables(done.stdout)][1:] == [row.method for row in ranges.compared]
    assert f"{ranges.method} is kept: {ranges_path}. Now: edge-mnv2 models check own.npz" in done.stdout
    assert "precision: fp32 (int8 was not checked: edge-mnv2 models check own.npz --images" in run(
        command, picture
    )
    assert "warning: int8 was not checked" in run(command, picture, "--precision", "int8")
    done = command("models", "check", "own.npz", "--images", "real")
    assert done.returncode == 0, done.stderr
    rows = {row[0]: row[1:] for row in tables(done.stdout)}
    assert float(rows["top1_agreement"][0]) >= 0.85
    assert [rows[name][1] for name in ("top1_agreement", "score_drift")] == ["at least 0.85", "at most 0.1"]
    (record,) = (empty_cache / "checks").iterdir()
    assert f"The verdict on {len(CLEAR)} pictures is kept in {record}\n" in done.stdout
    assert json.loads(record.read_text())["failures"] == []
    assert "precision: int8" in run(command, picture)
    # At another size it is another network: it must be checked for itself.
    elsewhere = ("--input-size", "192x160")
    assert "models check own.npz --input-size 192x160 --images DIR" in run(command, picture, *elsewhere)
    done = command("models", "check", "own.npz", "--images", "real", *elsewhere)
    assert len(list((empty_cache / "checks").iterdir())) == 2
    checked = ("fp32 (int8 failed", "int8")[done.returncode == 0]
    assert f"precision: {checked}" in run(command, picture, *elsewhere)


def test_ranges_can_be_written_beside_the_weights(
    command: Command, own: Model, folder: Path, empty_cache: Path
) -> None:
    for path in sorted(folder.iterdir())[3:]:
        path.unlink()
    done = command("models", "calibrate", "own.npz", "--images", "real", "--output", "own.ranges.npz")
    assert done.returncode == 0, done.stderr
    assert "It is used where it lies beside the weights, as own.ranges.npz." in done.stdout
    assert load_ranges(beside(own.path), own).images == 3
    assert not (empty_cache / "ranges").exists()


def test_of_too_few_pictures_no_verdict_is_kept(command: Command, folder: Path, empty_cache: Path) -> None:
    for path in sorted(folder.iterdir())[MIN_EVIDENCE - 1 :]:
        path.unlink()
    done = command("models", "check", CLASSIFIER, "--images", "real")
    (said,) = [line for line in done.stderr.splitlines() if "No verdict is kept" in line]
    assert str(MIN_EVIDENCE) in said
    assert str(MIN_EVIDENCE - 1) in said
    assert not (empty_cache / "checks").exists()


def run(command: Command, picture: Path, *words: str, code: int = 0) -> str:
    """Run `own.npz` on a picture and return what it says on standard error."""
    done = command("run", "--model", "own.npz", "--source", picture, "--jsonl", "r.jsonl", *words)
    assert done.returncode == code, done.stderr
    return done.stderr


def spoil(model: Model) -> None:
    """Give a model ranges far too narrow."""
    ranges = find_ranges(load_model(CLASSIFIER))
    assert ranges is not None
    narrow = {
        name: replace(found, low=found.low / 50, high=found.high / 50)
        for name, found in ranges.statistics.items()
    }
    save_ranges(beside(model.path), replace(ranges, statistics=narrow))


def test_a_model_that_fails_its_check_runs_only_if_forced(command: Command, own: Model, folder: Path) -> None:
    spoil(own)
    picture = folder / "000000037777.jpg"
    done = command("models", "check", "own.npz", "--images", "real")
    assert done.returncode == 1
    assert f"The verdict on {len(CLEAR)} pictures is kept in" in done.stdout
    lines = [line for line in done.stderr.splitlines() if "engine: " not in line]
    assert lines[0].startswith("edge-mnv2: error: own, int8: top1_agreement is 0.")
    assert lines[0].endswith(", and must be at least 0.85.")
    refused = one_line(run(command, picture, "--precision", "int8", code=2))
    assert "The int8 build of own failed its accuracy check: top1_agreement is 0." in refused
    assert refused.endswith("Run it with --precision fp32, or with --force as it is.")
    forced = run(command, picture, "--precision", "int8", "--force")
    assert "warning: int8 failed its accuracy check: top1_agreement is 0." in forced
    assert "precision: fp32 (int8 failed its accuracy check: top1_agreement is 0." in run(command, picture)
    assert "failed: top1_agreement is 0." in words_of(command("models", "info", "own.npz").stdout)
