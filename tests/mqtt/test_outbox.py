"""What waits for the broker: order, bounds, and what only the newest matters of."""

from __future__ import annotations

from edge_mnv2.mqtt.outbox import Outbox
from edge_mnv2.mqtt.topics import Message


def outbox(limit: int = 10) -> Outbox:
    return Outbox(limit, lambda: None)


def result(number: int) -> Message:
    return Message("result", str(number).encode(), is_result=True)


def taken(box: Outbox) -> list[str]:
    found = []
    while (message := box.take()) is not None:
        found.append(message.payload.decode())
    return found


def test_only_the_newest_value_is_sent_and_the_queue_after_it() -> None:
    box = outbox()
    box.put(result(1))
    box.put(Message("state", b"lost", retain=True))
    box.put(Message("state", b"live", retain=True))
    assert taken(box) == ["live", "1"]


def test_a_value_is_sent_again_only_if_it_changed_or_is_to_be() -> None:
    box = outbox()
    live = Message("state", b"live", retain=True)
    box.put(live)
    assert taken(box) == ["live"]
    box.put(live)
    assert taken(box) == []
    box.put(live, again=True)
    assert taken(box) == ["live"]


def test_a_new_connection_sends_all_values_and_what_was_not_acknowledged() -> None:
    box = outbox()
    box.put(Message("state", b"live", retain=True))
    box.put(Message("telemetry", b"old", key="telemetry"))
    for number in range(4):
        box.put(result(number))
    for number in range(5):
        message = box.take()
        assert message is not None
        box.note_sent(number, message)
    assert box.in_flight == 5
    # The value, the telemetry, and three results: the first of these has arrived.
    box.note_done(2)
    box.begin()
    assert box.in_flight == 0
    assert taken(box) == ["live", "1", "2", "3"]


def test_messages_of_a_key_replace_each_other_and_keep_their_place_at_the_end() -> None:
    box = outbox()
    box.put(Message("config", b"new", retain=True))
    box.put(Message("config", b"gone", key="gone"))
    box.put(Message("config", b"new", retain=True), again=True)
    box.put(Message("telemetry", b"1", key="telemetry"))
    box.put(Message("telemetry", b"2", key="telemetry"))
    assert taken(box) == ["gone", "new", "2"]


def test_results_go_before_events_when_there_is_no_room() -> None:
    box = outbox(3)
    box.put(Message("events", b"event"))
    for number in range(5):
        box.put(result(number))
    assert box.dropped("result") == 3
    assert taken(box) == ["event", "3", "4"]
    for number in range(5):
        box.put(Message("events", f"event {number}".encode()))
    assert box.dropped("result") == 3
    assert taken(box) == ["event 2", "event 3", "event 4"]


def test_what_is_in_flight_needs_room_too() -> None:
    box = outbox(3)
    box.put(result(0))
    message = box.take()
    assert message is not None
    box.note_sent(1, message)
    for number in range(1, 5):
        box.put(result(number))
    assert taken(box) == ["3", "4"]


def test_the_end_counts_results_that_will_never_arrive() -> None:
    box = outbox()
    box.put(Message("events", b"event"))
    box.put(result(0))
    assert not box.is_empty
    box.abandon()
    assert box.dropped("result") == 1
    assert box.is_empty


def test_whoever_sends_is_told() -> None:
    calls: list[int] = []
    box = Outbox(10, lambda: calls.append(1))
    box.put(result(0))
    assert calls
