"""The page in a real browser: it shows frames, obeys, and the browser has nothing to complain about."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import Any

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from edge_mnv2.readings import CameraFigures
from edge_mnv2.results import Detections
from edge_mnv2.zoo.model import DecoderOptions
from tests.samples import camera_status, classification, detections, segmentation
from tests.web.chromium import Tab, chromium, find_chromium
from tests.web.scene import TOKEN, FakeDecoder, Scene, scene

IS_LIVE = "document.getElementById('figure').classList.contains('live')"
EVIL = "<img src=x onerror=\"document.title='pwned'\">"


@pytest.fixture(autouse=True)
def browser_is_there() -> None:
    find_chromium()


@contextmanager
def playing(made: Scene, found: Callable[[int], Any] | None = None, name: str = "door") -> Iterator[None]:
    """Give frames of a moving square from a thread, 25 a second, with a canvas while somebody watches."""
    stop = threading.Event()

    def canvas(seq: int) -> NDArray[np.uint8]:
        picture = np.full((240, 320, 3), 60, np.uint8)
        x = 8 * seq % 280
        picture[100:140, x : x + 40] = (40, 200, 240)
        return picture

    def play() -> None:
        seq = 0
        while not stop.wait(0.04):
            seq += 1
            changes = {} if found is None else {"found": found(seq)}
            made.write(
                seq,
                name,
                canvas=canvas(seq) if made.is_watched(name) else None,
                labels=made.decoders[name].labels,
                **changes,
            )

    thread = threading.Thread(target=play)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


def browse(scenario: Callable[[Tab], Awaitable[None]]) -> None:
    """Run a scenario in a new browser; the browser must not have complained."""

    async def run() -> None:
        async with chromium() as tab:
            await scenario(tab)
            assert tab.problems == []

    asyncio.run(run())


def text(identity: str) -> str:
    return f"document.getElementById('{identity}').innerText"


def picture(png: bytes) -> NDArray[np.uint8]:
    image = cv2.imdecode(np.frombuffer(png, np.uint8), cv2.IMREAD_COLOR)
    assert image is not None
    return image.astype(np.uint8)


async def shown(tab: Tab) -> NDArray[np.uint8]:
    """Return the pixels of the live picture."""
    box = await tab.evaluate(
        "(({x, y, width, height}) => [x, y, width, height])"
        "(document.getElementById('stream').getBoundingClientRect())"
    )
    x, y, width, height = (round(side) for side in box)
    return picture(await tab.screenshot())[y : y + height, x : x + width]


def test_the_picture_moves_and_the_numbers_are_there() -> None:
    with scene() as made, playing(made):

        async def scenario(tab: Tab) -> None:
            await tab.open(made.url)
            await tab.wait_for(IS_LIVE)
            first = await shown(tab)
            assert (first[:, :, 2] > 200).any(), "the square is not to be seen"
            for _ in range(100):
                moved = np.abs((await shown(tab)).astype(int) - first).max()
                if moved > 100:
                    break
            else:
                pytest.fail("the picture stands still")
            await tab.wait_for(f"{text('state')} === 'live'")
            await tab.wait_for(f"{text('found')}.includes('person')")
            charts = "[...document.querySelectorAll('.chart')].map((chart) => chart.innerText)"
            await tab.wait_for(f"Number({charts}[0].match(/[0-9.]+/)) > 5")
            rows = dict(chart.split("\n", 1) for chart in await tab.evaluate(charts))
            assert "21 ms" in rows["Age"]
            assert "8.7 ms" in rows["Inference"]
            assert "48.3 °C" in rows["Temperature"]
            assert "\N{EN DASH} W" in rows["Power"]
            assert "not available" in rows["Power"]

        browse(scenario)


def test_the_slider_acts_at_once_and_follows_others() -> None:
    with scene() as made, playing(made):
        door = made.decoders["door"]

        async def scenario(tab: Tab) -> None:
            await tab.open(made.url)
            await tab.wait_for(f"{text('threshold-value')} === '0.50'")
            await tab.click("document.getElementById('threshold')")
            door.changed.clear()
            for _ in range(5):
                await tab.press("ArrowRight", 39)
            assert await asyncio.to_thread(door.changed.wait, 30)
            moved = float(await tab.evaluate("document.getElementById('threshold').value"))
            assert 0.5 < moved < 0.6
            await tab.wait_for(f"{text('threshold-value')} === '{moved:.2f}'")
            while door.options.threshold != moved:
                await asyncio.sleep(0.01)
            # Another viewer, or the API.
            door.options = DecoderOptions(threshold=0.25)
            await tab.wait_for(f"{text('threshold-value')} === '0.25'")
            assert await tab.evaluate("document.getElementById('threshold').value") == "0.25"

        browse(scenario)


def test_the_class_filter_acts() -> None:
    with scene() as made, playing(made):
        door = made.decoders["door"]

        async def scenario(tab: Tab) -> None:
            await tab.open(made.url)
            await tab.wait_for("document.querySelectorAll('.choice').length === 2")
            await tab.evaluate("document.getElementById('class-search').focus()")
            await tab.call("Input.insertText", text="BIC")
            await tab.wait_for(f"{text('choices')} === 'bicycle'")
            await tab.click("document.querySelector('.choice')")
            await tab.wait_for(f"{text('chosen')} === 'bicycle'")
            assert await asyncio.to_thread(door.changed.wait, 30)
            assert door.options.classes == ("bicycle",)
            door.changed.clear()
            await tab.click("document.getElementById('all-classes')")
            assert await asyncio.to_thread(door.changed.wait, 30)
            assert door.options.classes is None
            await tab.wait_for(f"{text('chosen')} === 'All are reported'")
            door.options = DecoderOptions(classes=["PERSON", "2"])
            await tab.wait_for(f"{text('chosen')} === 'person\\nbicycle'")

        browse(scenario)


def test_what_the_server_refuses_is_shown() -> None:
    with scene() as made:
        made.decoders["door"].labels = {1: "person", 2: "bicycle", 3: "ghost"}

        async def scenario(tab: Tab) -> None:
            await tab.open(made.url)
            await tab.wait_for("document.querySelectorAll('.choice').length === 3")
            made.decoders["door"].labels = {1: "person"}
            await tab.click(
                "[...document.querySelectorAll('.choice')].find((one) => one.innerText === 'ghost')"
            )
            await tab.wait_for(f"{text('problem')}.includes(\"no class 'ghost'\")")
            # The browser itself notes every answer that is an error.
            tab.problems[:] = [problem for problem in tab.problems if "status of 400" not in problem]

        browse(scenario)


def test_a_hidden_page_watches_nothing() -> None:
    with scene() as made, playing(made):

        async def scenario(tab: Tab) -> None:
            await tab.open(made.url)
            await tab.wait_for(IS_LIVE)
            await tab.evaluate(
                "Object.defineProperty(document, 'hidden', {value: true, configurable: true});"
                "document.dispatchEvent(new Event('visibilitychange'))"
            )
            while made.server._feeds["door"].viewers or made.server._feeds["door"].listeners:
                await asyncio.sleep(0.01)
            await tab.evaluate(
                "Object.defineProperty(document, 'hidden', {value: false, configurable: true});"
                "document.dispatchEvent(new Event('visibilitychange'))"
            )
            await tab.wait_for(IS_LIVE)

        browse(scenario)


def test_a_lost_camera_is_told_with_reason_and_time() -> None:
    with scene() as made, playing(made):

        async def scenario(tab: Tab) -> None:
            await tab.open(made.url)
            await tab.wait_for(IS_LIVE)
            made.show(camera_status("lost", attempt=3))
            await tab.wait_for(f"{text('state')} === 'lost'")
            await tab.wait_for(f"{text('reason')} === 'No frame for 2 s.'")
            assert "no picture since" in await tab.evaluate(text("since"))
            assert "attempt 3" in await tab.evaluate(text("since"))
            made.show(camera_status("live"))
            await tab.wait_for(f"{text('state')} === 'live'")

        browse(scenario)


def test_texts_from_outside_stay_texts() -> None:
    evil = FakeDecoder(labels={1: EVIL})
    with scene() as made:
        made.add(EVIL, evil, read_figures=lambda: CameraFigures(engine=EVIL, drops={EVIL: 1}))
        with playing(made, name=EVIL):

            async def scenario(tab: Tab) -> None:
                await tab.open(made.url)
                await tab.wait_for("document.getElementById('camera').options.length === 2")
                await tab.evaluate(
                    "(() => { const select = document.getElementById('camera');"
                    "select.value = select.options[1].value; select.dispatchEvent(new Event('change')); })()"
                )
                await tab.wait_for(IS_LIVE)
                made.show(camera_status("lost", reason=EVIL, origin=EVIL), EVIL)
                await tab.wait_for(f"{text('found')}.includes({json.dumps(EVIL)})")
                await tab.wait_for(f"{text('reason')}.includes({json.dumps(EVIL)})")
                await tab.wait_for(f"{text('facts')}.includes({json.dumps(EVIL)})")
                await tab.wait_for(f"{text('choices')}.includes({json.dumps(EVIL)})")
                assert await tab.evaluate("document.querySelectorAll('img').length") == 2
                assert "pwned" not in await tab.evaluate("document.title")

            browse(scenario)


def test_the_token_is_asked_for_and_leaves_the_address_line() -> None:
    with scene(token=TOKEN) as made, playing(made):

        async def scenario(tab: Tab) -> None:
            await tab.open(made.url)
            await tab.wait_for("!!document.getElementById('token')")
            await tab.evaluate("document.getElementById('token').focus()")
            await tab.call("Input.insertText", text=TOKEN)
            await tab.click("document.querySelector('button')")
            await tab.wait_for(IS_LIVE)
            assert await tab.evaluate("location.href") == f"{made.url}/"
            assert await tab.evaluate("document.cookie") == ""
            tab.problems[:] = [problem for problem in tab.problems if "status of 401" not in problem]

        browse(scenario)


@pytest.mark.parametrize(
    ("task", "found", "row"),
    [
        (
            "detect",
            detections((1, 1, 9, 9, 0.9, 1), (1, 1, 9, 9, 0.8, 1), (1, 1, 9, 9, 0.8, 2)),
            "bicycle\n1\nperson\n2",
        ),
        ("segment", segmentation([[1, 0], [0, 0]]), "person\n25 %"),
        ("classify", classification((2, 0.75), (1, 0.2)), "bicycle\n75 %\nperson\n20 %"),
    ],
)
def test_every_task_is_told_in_its_own_way(task: str, found: Any, row: str) -> None:  # noqa: ANN401
    with scene() as made:
        made.add("yard", FakeDecoder(task))
        with playing(made, lambda _: found, "yard"):

            async def scenario(tab: Tab) -> None:
                await tab.open(f"{made.url}/?camera=yard")
                await tab.wait_for(f"{text('found')} === {json.dumps(row)}")
                has_slider = await tab.evaluate("!document.getElementById('threshold-field').hidden")
                assert has_slider is (task != "segment")

            browse(scenario)


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("size", [(390, 844), (320, 568), (768, 1024), (1280, 800)])
def test_the_page_fits_every_screen(size: tuple[int, int], scheme: str) -> None:
    with scene() as made, playing(made, found=_nothing):

        async def scenario(tab: Tab) -> None:
            await tab.open(made.url, size, scheme)
            await tab.wait_for(IS_LIVE)
            await tab.wait_for(f"{text('nothing')}.length > 0")
            assert await tab.evaluate("document.documentElement.scrollWidth") <= size[0]
            # The ground is light or dark, as the viewer prefers it.
            is_light = picture(await tab.screenshot())[5, 5].mean() > 128
            assert bool(is_light) == (scheme == "light")

        browse(scenario)


def test_many_cameras_with_long_names_fit_a_small_phone() -> None:
    with scene() as made:
        for number in range(3):
            made.add(f"the camera behind the house, {number}, by the old apple tree")
        with playing(made):

            async def scenario(tab: Tab) -> None:
                await tab.open(made.url, (320, 568))
                await tab.wait_for(IS_LIVE)
                await tab.wait_for(f"{text('others')} === '3 of 4 not live'")
                assert await tab.evaluate("document.documentElement.scrollWidth") <= 320

            browse(scenario)


@pytest.mark.parametrize("size", [(390, 844), (1280, 800)])
def test_what_comes_and_goes_moves_nothing(size: tuple[int, int]) -> None:
    labels = {number: f"thing {number}" for number in range(1, 13)}
    with scene() as made:
        made.add("yard", FakeDecoder(labels=labels))

        def found(seq: int) -> Detections:
            return detections(
                *((1, 1, 9, 9, 0.9, 1 + (seq + number) % 12) for number in range(seq // 10 % 12))
            )

        with playing(made, found, "yard"):

            async def scenario(tab: Tab) -> None:
                await tab.open(f"{made.url}/?camera=yard", size)
                await tab.wait_for(IS_LIVE)
                await tab.wait_for("document.querySelectorAll('.choice').length === 12")
                places, counts = set(), set()
                while len(counts) < 6:
                    place, count = await tab.evaluate(
                        "[document.getElementById('threshold').getBoundingClientRect().top + scrollY,"
                        "document.querySelectorAll('#found li').length]"
                    )
                    places.add(place)
                    counts.add(count)
                assert len(places) == 1

            browse(scenario)


def _nothing(_: int) -> Detections:
    return detections()
