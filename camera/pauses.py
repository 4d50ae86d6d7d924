"""How long a camera that was lost is left alone before it is asked again."""

from __future__ import annotations

from camera.errors import AccessDeniedError, CameraError, UnsupportedSourceError
from camera.options import Supervision

_MOST_REFUSED_PAUSES = 10
# A camera or relay that has just started may refuse what was right a moment ago. With the attempt before it,
# one after this pause makes four wrong logins, of which cameras allow five or more.
_PASSING_S = 3.0


class Pauses:
    """The pauses before the attempts to open one camera again.

    Args:
        supervision: Their lengths.
        has_user: Whether the camera is told a user, whose account it may lock.
    """

    def __init__(self, supervision: Supervision, *, has_user: bool) -> None:
        self._supervision = supervision
        self._has_user = has_user
        self._was_live = False
        self._count = 0
        self._refusals = 0

    def note_live(self) -> None:
        """Take note of a camera that gives frames: user and password are right."""
        self._was_live, self._refusals = True, 0

    def note_lost(self, lived_s: float | None) -> None:
        """Take note of a loss; one that comes and goes quickly is asked less and less often.

        Args:
            lived_s: How long there were frames; None where there were none.
        """
        if lived_s is not None and lived_s > self._supervision.max_pause_s:
            self._count = 0

    def next_s(self, failure: type[CameraError], away_s: float, chance: float) -> float:
        """Return the length of the next pause in seconds.

        Args:
            failure: Why the camera was lost, or could not be opened the last time.
            away_s: How long ago it was lost.
            chance: From 0 to 1: many cameras should not come back at once.
        """
        supervision = self._supervision
        if self._has_user and issubclass(failure, AccessDeniedError):
            self._refusals += 1
            doublings = self._refusals - 1 - self._was_live
            if doublings < 0:
                return _PASSING_S
            factor: float = min(_MOST_REFUSED_PAUSES, 2 ** min(doublings, 30))
            return supervision.refused_pause_s * factor * (1 + chance / 2)
        is_long = issubclass(failure, UnsupportedSourceError) or away_s > supervision.long_after_s
        longest_s = max(supervision.max_pause_s, supervision.long_pause_s if is_long else 0)
        # The exponent is bounded, or it would overflow in a long night.
        doubled: float = 2 ** min(self._count, 30)
        self._count += 1
        return min(longest_s, supervision.first_pause_s * doubled) * (1 - chance / 2)
