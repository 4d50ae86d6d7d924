from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Awaitable, Callable, Iterator
from datetime import datetime, timezone
from typing import Any, TypeVar

import aiohttp
import pytest

from edge_mnv2.errors import RequestError
from edge_mnv2.readings import CameraFigures
from edge_mnv2.sinks.base import StateSink
from edge_mnv2.sinks.record import to_record
from edge_mnv2.zoo.model import DecoderOptions
from tests.samples import camera_status, frame_result
from tests.web.scene import WAIT_S, FakeDecoder, Scene, grey_of, next_event, next_picture, scene

T = TypeVar("T")


@pytest.fixture
def made() -> Iterator[Scene]:
    with scene() as running:
        yield running


def visit(client: Callable[[aiohttp.ClientSession], Awaitable[T]]) -> T:
    """Run a client to its end."""

    async def run() -> T:
        async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session:
            return await asyncio.wait_for(client(session), WAIT_S)

    return asyncio.run(run())


def get(made: Scene, path: str, **options: Any) -> tuple[int, bytes, Any]:  # noqa: ANN401
    async def client(session: aiohttp.ClientSession) -> tuple[int, bytes, Any]:
        async with session.get(made.url + path, **options) as answer:
            return answer.status, await answer.read(), answer.headers

    return visit(client)


def state(made: Scene, query: str = "") -> dict[str, Any]:
    status, body, _ = get(made, f"/api/state{query}")
    assert status == 200
    found: dict[str, Any] = json.loads(body)
    return found


def post(made: Scene, body: object, raw: bytes | None = None) -> tuple[int, dict[str, Any]]:
    async def client(session: aiohttp.ClientSession) -> tuple[int, dict[str, Any]]:
        async with session.post(
            f"{made.url}/api/decoder",
            data=raw if raw is not None else json.dumps(body).encode(),
            headers={"Content-Type": "application/json", "Origin": made.url},
        ) as answer:
            return answer.status, await answer.json()

    return visit(client)


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        *(("/", "text/html"), ("/page.css", "text/css"), ("/icon.svg", "image/svg+xml")),
        *((f"/{name}.js", "text/javascript") for name in ("page", "charts", "classes", "found")),
    ],
)
def test_the_page_is_served_with_headers_that_protect_it(made: Scene, path: str, kind: str) -> None:
    status, body, headers = get(made, path)
    assert (status, headers["Content-Type"].split(";")[0]) == (200, kind)
    assert body
    policy = headers["Content-Security-Policy"]
    assert "default-src 'none'" in policy
    assert "frame-ancestors 'none'" in policy
    assert "unsafe" not in policy
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert headers["Referrer-Policy"] == "no-referrer"
    assert headers["Cache-Control"] == "no-store"


def test_what_is_not_there_is_said_in_the_callers_language(made: Scene) -> None:
    status, body, headers = get(made, "/nothing")
    assert (status, body) == (404, b"404: Not Found\n")
    assert headers["X-Content-Type-Options"] == "nosniff"
    status, body, _ = get(made, "/api/state?camera=garden")
    assert (status, json.loads(body)) == (404, {"error": "There is no camera 'garden'. There is: door."})
    status, body, headers = get(made, "/api/decoder")
    assert (status, headers["Allow"]) == (405, "POST")
    assert get(made, "/../server.py")[0] == 404
    assert get(made, "/page/../../server.py")[0] == 404


def test_the_state_says_what_is_known_and_null_for_the_rest(made: Scene) -> None:
    found = state(made)
    camera = found["cameras"][0]
    assert (camera["name"], camera["state"], camera["task"]) == ("door", "opening", "detect")
    for unknown in ("fps", "age_ms", "image", "model", "engine", "lost_since"):
        assert camera[unknown] is None
    assert camera["labels"] == {"1": "person", "2": "bicycle"}
    assert camera["decoder"] == {"threshold": None, "classes": None, "top_k": None, "masks": False}
    assert found["device"]["temperature_c"] == {"value": 48.3, "kind": "measured", "sensor": "cpu-thermal"}
    assert found["device"]["power_w"] == {"value": None, "kind": "unavailable", "sensor": ""}


def test_the_state_follows_frames_and_figures(made: Scene) -> None:
    made.add(
        "yard",
        read_figures=lambda: CameraFigures(
            engine="onnxruntime", precision="int8", drops={"newer frame came": 3}
        ),
    )
    for seq in range(5):
        made.write(seq, "yard", age_ms=20.0 + seq)
    camera = state(made, "?camera=yard&labels=no")["cameras"][0]
    assert (camera["frames"], camera["age_ms"], camera["state"]) == (5, 22.0, "live")
    assert camera["fps"] > 0
    assert camera["stages_ms"] == {"prepare": 0.3, "infer": 8.7, "decode": 0.2}
    assert camera["image"] == {"width": 64, "height": 48}
    assert (camera["engine"], camera["drops"]) == ("onnxruntime int8", {"newer frame came": 3})
    assert "labels" not in camera
    assert [camera["name"] for camera in state(made)["cameras"]] == ["door", "yard"]


def test_a_lost_camera_says_why_and_since_when_without_credentials(made: Scene) -> None:
    made.write(0)
    made.show(
        camera_status("lost", origin="rtsp://admin:secret@cam/1", reason="rtsp://admin:secret@cam/1 is gone.")
    )
    camera = state(made)["cameras"][0]
    assert (camera["state"], camera["lost_since"]) == ("lost", "2025-12-31T23:59:58.000Z")
    assert camera["since"] == "2026-01-01T00:00:00.000Z"
    assert "is gone" in camera["reason"]
    assert "secret" not in json.dumps(camera)


def test_health_is_frames_from_a_camera_that_is_live(made: Scene) -> None:
    assert get(made, "/healthz")[0] == 503
    made.write(0)
    status, body, _ = get(made, "/healthz")
    assert (status, json.loads(body)) == (200, {"ok": True, "cameras": {"door": "live"}})
    made.show(camera_status("lost"))
    status, body, _ = get(made, "/healthz")
    assert (status, json.loads(body)) == (503, {"ok": False, "cameras": {"door": "lost"}})
    made.show(camera_status("live"))
    assert get(made, "/healthz")[0] == 200
    made.add("yard")
    assert get(made, "/healthz")[0] == 503
    assert get(made, "/healthz?camera=door")[0] == 200


def test_a_snapshot_is_encoded_when_it_is_asked_for(made: Scene) -> None:
    made.write(7)
    assert not made.encoder.canvases

    async def client(session: aiohttp.ClientSession) -> tuple[int, bytes, str]:
        asked = asyncio.ensure_future(session.get(f"{made.url}/snapshot.jpg"))
        while not made.is_watched("door"):
            await asyncio.sleep(0.01)
        made.write(90)
        async with await asked as answer:
            return answer.status, await answer.read(), answer.headers["Content-Disposition"]

    status, jpeg, name = visit(client)
    assert (status, grey_of(jpeg)) == (200, 90)
    assert name.startswith('inline; filename="door-')
    assert len(made.encoder.canvases) == 1
    assert not made.is_watched("door")


def test_without_a_picture_a_snapshot_says_so(made: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("edge_mnv2.web.views._SNAPSHOT_WAIT_S", 0.05)
    status, body, _ = get(made, "/snapshot.jpg")
    assert (status, body) == (503, b"There is no picture: door is opening.\n")
    assert not made.is_watched("door")


def test_a_camera_may_have_any_name(monkeypatch: pytest.MonkeyPatch) -> None:
    name = 'ünder "the"\r\n<b>bridge</b>\udcff'
    with scene() as made:
        made.add(name)
        assert state(made)["names"] == ["door", name.replace("\udcff", "\\xff")]

        async def client(session: aiohttp.ClientSession) -> str:
            query = {"camera": name.replace("\udcff", "\\xff")}
            asked = asyncio.ensure_future(session.get(f"{made.url}/snapshot.jpg", params=query))
            while not made.is_watched(name):
                await asyncio.sleep(0.01)
            made.write(1, name)
            async with await asked as answer:
                assert answer.status == 200
                return answer.headers["Content-Disposition"]

        assert visit(client).startswith('inline; filename="nder--the')


def test_two_cameras_of_one_name_are_refused(made: Scene) -> None:
    with pytest.raises(RequestError, match="Two cameras are called 'door'"):
        made.server.add_camera("door", FakeDecoder())


def test_records_and_states_are_sent_as_events(made: Scene) -> None:
    assert isinstance(made.sinks["door"], StateSink)

    async def client(session: aiohttp.ClientSession) -> None:
        async with session.get(f"{made.url}/api/detections") as stream:
            assert stream.headers["Content-Type"] == "text/event-stream"
            kind, data = await next_event(stream)
            assert (kind, json.loads(data)["state"]) == ("state", "opening")
            made.write(3)
            events = [await next_event(stream), await next_event(stream)]
            records = [json.loads(data) for kind, data in events if kind == "message"]
            assert records == [to_record(frame_result(3))]
            assert [json.loads(data)["state"] for kind, data in events if kind == "state"] == ["live"]
            made.show(camera_status("stalled"))
            kind, data = await next_event(stream)
            assert (kind, json.loads(data)["reason"]) == ("state", "No frame for 2 s.")

    visit(client)
    # Who only reads records needs no pictures.
    assert not made.encoder.canvases


def test_a_listener_that_does_not_read_misses_records_but_no_state(made: Scene) -> None:
    async def client(session: aiohttp.ClientSession) -> None:
        async with session.get(f"{made.url}/api/detections") as stream:
            await next_event(stream)
            for seq in range(20_000):
                made.write(seq)
            made.show(camera_status("lost"))
            last, states = -1, []
            while "lost" not in states:
                kind, data = await next_event(stream)
                if kind == "state":
                    states.append(json.loads(data)["state"])
                else:
                    assert json.loads(data)["seq"] > last
                    last = json.loads(data)["seq"]

    visit(client)


def test_decoder_changes_reach_the_decoder_and_are_told(made: Scene) -> None:
    door = made.decoders["door"]
    door.options = DecoderOptions(top_k=3)
    assert post(made, {"threshold": 0.4})[0] == 200
    assert door.options == DecoderOptions(threshold=0.4, top_k=3)
    status, answer = post(made, {"classes": ["person"], "camera": "door"})
    assert (status, answer["decoder"]["classes"], answer["decoder"]["threshold"]) == (200, ["person"], 0.4)
    assert state(made)["cameras"][0]["decoder"]["classes"] == ["person"]
    assert post(made, {"threshold": None, "classes": None})[0] == 200
    assert door.options == DecoderOptions(top_k=3)


def test_two_changes_at_once_do_not_undo_each_other(made: Scene) -> None:
    door = made.decoders["door"]
    begun, may_end = threading.Event(), threading.Event()
    change = door.change_decoder

    def slow_change(options: DecoderOptions) -> None:
        begun.set()
        may_end.wait(WAIT_S)
        change(options)

    door.change_decoder = slow_change  # type: ignore[method-assign]

    async def client(session: aiohttp.ClientSession) -> list[int]:
        async def send(body: dict[str, object]) -> int:
            async with session.post(f"{made.url}/api/decoder", json=body) as answer:
                return answer.status

        first = asyncio.ensure_future(send({"threshold": 0.4}))
        await asyncio.to_thread(begun.wait, WAIT_S)
        second = asyncio.ensure_future(send({"classes": ["person"]}))
        async with session.get(f"{made.url}/api/state") as answer:  # it answers meanwhile
            assert answer.status == 200
        may_end.set()
        return [await first, await second]

    assert visit(client) == [200, 200]
    assert door.options == DecoderOptions(threshold=0.4, classes=("person",))


@pytest.mark.parametrize(
    ("body", "says"),
    [
        (None, "must be an object"),
        ([], "must be an object"),
        ({"treshold": 0.4}, "'treshold' cannot be changed here"),
        *(
            ({"threshold": value}, "threshold must be a number between 0 and 1")
            for value in (0, 1, -1, True, "0.4", [], {})
        ),
        ({"threshold": float("nan")}, "threshold must be a number"),
        ({"threshold": 10**400}, "threshold must be a number"),
        *(
            ({"classes": value}, "classes must be a list")
            for value in ([], "person", [1], {}, ["x" * 201], ["a"] * 1001)
        ),
        ({"classes": ["unicorn"]}, "The model has no class 'unicorn'."),
        ({"camera": 1}, "camera must be the name"),
    ],
)
def test_nonsense_is_refused_with_a_word(made: Scene, body: object, says: str) -> None:
    status, answer = post(made, body)
    assert status == 400
    assert says in answer["error"]
    assert not made.decoders["door"].changes


@pytest.mark.parametrize("raw", [b"", b"{", b"\xff", b"[" * 20_000])
def test_what_is_no_json_is_refused(made: Scene, raw: bytes) -> None:
    assert post(made, None, raw) == (400, {"error": "The body is not JSON."})


def test_a_body_has_an_end(made: Scene) -> None:
    assert post(made, None, b" " * 100_000)[0] == 413
    assert post(made, {"camera": "garden"})[0] == 404


def test_the_stream_shows_each_camera(made: Scene) -> None:
    made.add("yard")

    async def client(session: aiohttp.ClientSession) -> list[int]:
        greys = []
        for name in ("door", "yard"):
            async with session.get(f"{made.url}/stream.mjpg", params={"camera": name}) as stream:
                assert stream.headers["Content-Type"].startswith("multipart/x-mixed-replace; boundary=")
                for seq in (40, 80):
                    made.write(seq, name)
                    greys.append(grey_of(await next_picture(stream)))
        return greys

    assert visit(client) == [40, 80, 40, 80]


def test_a_lost_camera_is_shown_with_what_its_status_draws(made: Scene) -> None:
    async def client(session: aiohttp.ClientSession) -> int:
        async with session.get(f"{made.url}/stream.mjpg") as stream:
            canvas = frame_result(150).canvas
            made.show(camera_status("lost", canvas=canvas))
            return grey_of(await next_picture(stream))

    assert visit(client) == 150


def test_time_is_told_with_the_state_so_that_no_clock_matters(made: Scene) -> None:
    told = datetime.fromisoformat(state(made)["time"].replace("Z", "+00:00"))
    assert abs((datetime.now(timezone.utc) - told).total_seconds()) < WAIT_S
