"""Which message a broker ends connections over, found without harm to the others. Pure.

Some messages make a broker hang up: a topic that it takes for malformed, a packet above a limit that it never named. Sent again
on the next connection, as the protocol wants it, such a message would end that one too, for ever. So:

    an end by the broker, with messages on their way      each of them was there once more (`Message.ends`)
    twice in a row over one, or after QoS 0 without proof   `is_careful`: one message at a time from now on
    an end with one alone on its way, its third            it is the culprit
    an end for another reason, or none was on its way       nobody is to blame

At QoS 0 the broker confirms nothing, so a ping follows each message, and the answer says that what was before it was taken. A
line that breaks after some bytes looks the same; therefore the first message goes only after the connection has carried many
pings. A topic that did it twice is barred for a while: each of its messages would cost three connections.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from edged.records import Message

SUSPICIOUS_ENDS, CERTAIN_ENDS = 2, 3
PROOF_PINGS = 1024
"""2 KiB each way, more than most messages have: on a line that breaks after some bytes, or soon, no message is to blame."""
BARRED_MAX = 64
BARRED_NS, BARRED_MAX_NS = 60 * 10**9, 3600 * 10**9
"""A topic that twice ended connections is not sent for this long, twice as long after each further time, and at most."""
NO_BOUND = 1 << 30


class Suspicion:
    """Of the messages of one link.

    `alone` is a message of QoS 0 that is on its way by itself. `pings`: so many are to follow what was framed. `is_waiting`: for
    the answers to the pings that `take_pings` gave. `is_unproven`: something of QoS 0 was sent, and nothing since tells that the
    broker took it. `barred`: by topic how often it ended connections, and until when it is not sent (monotonic ns).
    """

    __slots__ = ("_ends", "_suspects", "alone", "barred", "is_careful", "is_unproven", "is_waiting", "pings")

    def __init__(self) -> None:
        self.is_careful = False
        self.is_waiting = False
        self.alone: Message | None = None
        self.pings = 0
        self._ends = 0
        self._suspects = 0
        self.is_unproven = False
        self.barred: dict[bytes, tuple[int, int]] = {}

    def connected(self) -> None:
        """A new connection, which has to show first that it carries anything."""
        self.is_unproven = False
        self.is_waiting = self.is_careful
        self.pings = PROOF_PINGS if self.is_careful else 0

    def watch(self, message: Message) -> None:
        """A message of QoS 0 was framed, and does not count as taken: it is `alone` until `answered`."""
        self.alone = message
        self.is_waiting, self.pings = True, 1

    def take_pings(self) -> int:
        """So many pings are to follow what was framed; `answered` is to be called when the broker has answered all."""
        pings, self.pings = self.pings, 0
        return pings

    def answered(self) -> Message | None:
        """The broker has handled all that was sent before the pings; returns what was `alone`."""
        self.is_waiting = self.is_unproven = False
        return self.take_alone()

    def take_alone(self) -> Message | None:
        message, self.alone = self.alone, None
        return message

    def passed(self, in_flight: Mapping[int, Message], waiting: Iterable[Message]) -> None:
        """The broker has taken one of those under suspicion."""
        self._suspects -= 1
        if self._suspects <= 0:
            self.trust(in_flight, waiting)

    def judge(self, by_broker: bool, in_flight: Mapping[int, Message], waiting: Iterable[Message], now: int) -> Message | None:
        """The connection is gone. Returns the message that is to blame, if that is certain; its topic may be barred then."""
        self.pings, self.is_waiting = 0, False
        if not by_broker or not (in_flight or self.alone or self.is_unproven):
            self.trust(in_flight, waiting)
            return None
        self._ends += 1
        for message in in_flight.values():
            message.ends += 1
        if self.is_careful and (culprit := self._culprit(in_flight)) is not None:
            self._bar(culprit.topic, now)
            self.trust(in_flight, waiting)
            return culprit
        is_one_of_qos0 = self.is_unproven and self._ends >= SUSPICIOUS_ENDS
        if is_one_of_qos0 or any(message.ends >= SUSPICIOUS_ENDS for message in in_flight.values()):
            self.is_careful = True
            self._suspects = NO_BOUND if is_one_of_qos0 else len(in_flight)
        return None

    def trust(self, in_flight: Mapping[int, Message], waiting: Iterable[Message]) -> None:
        """Nothing is under suspicion (any more). `waiting` begins with those that were in flight."""
        self.is_careful = self.is_waiting = False
        self._ends = self._suspects = 0
        for message in in_flight.values():
            message.ends = 0
        for message in waiting:
            if not message.ends:
                break
            message.ends = 0

    def is_barred(self, topic: bytes, now: int) -> bool:
        return self.barred.get(topic, (0, 0))[1] > now

    def forget_topics(self) -> None:
        """The broker is another one."""
        self.barred.clear()

    def _culprit(self, in_flight: Mapping[int, Message]) -> Message | None:
        if self.alone is not None:
            return self.take_alone()
        if len(in_flight) == 1 and (last := next(iter(in_flight.values()))).ends >= CERTAIN_ENDS:
            return last
        return None

    def _bar(self, topic: bytes, now: int) -> None:
        times = self.barred.pop(topic, (0, 0))[0] + 1
        if len(self.barred) >= BARRED_MAX:
            del self.barred[next(iter(self.barred))]
        until = now + min(BARRED_MAX_NS, BARRED_NS << min(times - 2, 10)) if times > 1 else 0
        self.barred[topic] = (times, until)
