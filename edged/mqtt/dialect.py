"""What a broker can do that only connecting to it tells: which version of MQTT it speaks, and whether it retains messages.

`version = "auto"` begins with 5 and goes on with 3.1.1. A broker without MQTT 5 should refuse CONNECT, and many just hang up or
stay silent, as does a broker that is starting. So a refusal is believed at once, and a silence only when 3.1.1 was taken after it
twice, and never of a broker that has spoken 5. A broker without retained messages refuses a will that is one.

Pure: the caller has the connection and says what became of it.
"""

from __future__ import annotations

from msgspec.structs import replace

from edged.mqtt.retry import NoRetain, OtherVersion
from edged.mqtt.settings import LinkSettings

SURE = 2
"""So often 3.1.1 must have been taken after a silence in 5, until 5 is not tried any more."""


class Dialect:
    """Of one broker under one set of settings; `settings` are those of the next connection, with a version that is not `auto`."""

    def __init__(self, settings: LinkSettings) -> None:
        self._is_open = settings.version == "auto"
        self.settings = replace(settings, version="5") if self._is_open else settings
        self._has_spoken_5 = False
        self._taken = 0
        """How often 3.1.1 was taken; `SURE` where it is certain that there is no 5."""

    def follow(self, settings: LinkSettings) -> None:
        """The same broker, with other subscriptions or bounds."""
        self.settings = replace(settings, version=self.settings.version, may_retain=self.settings.may_retain)

    def ended(self, error: Exception, was_answered: bool) -> bool:
        """A connection ended. `was_answered`: there was a CONNACK, good or bad. Returns whether what was learnt is to be tried at
        once."""
        if isinstance(error, NoRetain):
            self.settings = replace(self.settings, may_retain=False)
            return True
        return self._is_open and self._learn_version(isinstance(error, OtherVersion), was_answered)

    def _learn_version(self, is_refused: bool, was_answered: bool) -> bool:
        if self.settings.is_v5:
            self._has_spoken_5 |= was_answered and not is_refused
            if is_refused:
                self._taken = SURE
            elif was_answered or self._has_spoken_5:
                return False
            self.settings = replace(self.settings, version="3.1.1")
            return True
        if is_refused:
            self._taken = 0
        elif was_answered:
            self._taken += 1
        if self._taken < SURE:
            self.settings = replace(self.settings, version="5")
        return False
