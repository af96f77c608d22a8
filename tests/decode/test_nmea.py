from typing import Any

import numpy as np
import pytest

from edged.decode.checksums import KINDS
from edged.decode.nmea import NAMES
from edged.decode.stream import make_stream_decoder
from edged.records import ON_ARRIVAL, Rows
from tests.support.decode_plans import field, plan, refused

GGA = "GPGGA,{t},4807.0380,N,01131.0000,E,{q},08,0.9,{alt},M,46.9,M,,"
RMC = "GPRMC,{t},{s},4807.0380,N,01131.0000,E,022.4,084.4,230394,003.1,W"


def line(body: str) -> bytes:
    return b"$%b*%02X\r\n" % (body.encode(), KINDS["xor8"].one(body.encode()))


def gga(t: str, q: str = "1", alt: str = "545.4") -> bytes:
    return line(GGA.format(t=t, q=q, alt=alt))


def rmc(t: str, s: str = "A") -> bytes:
    return line(RMC.format(t=t, s=s))


def fed(names: list[str], *lines: bytes, **keys: Any) -> Rows:
    planned = plan("nmea", *(field(name) for name in names), dtype=np.float64, **keys)
    rows = make_stream_decoder(planned).feed(b"".join(lines))
    assert rows is not None
    return rows


def test_one_sample_an_epoch_of_all_its_sentences() -> None:
    rows = fed(
        ["lat", "lon", "alt", "speed", "track", "satellites", "hdop"],
        gga("101112.00"),
        rmc("101112.00"),
        line("GPGSV,1,1,02,33,45,120,30,21,10,045,25"),
        line("GPVTG,084.4,T,,M,022.4,N,041.5,K,A"),
        rmc("101113.00"),
        gga("101113.00"),
        line("GPGLL,4807.0380,N,01131.0000,E,101113.00,A"),
    )
    sample = pytest.approx([48.1173, 11.516667, 545.4, 11.523556, 84.4, 8, 0.9], rel=1e-6)
    assert rows.values.tolist() == [sample, sample]
    assert refused(rows.rejects) == {"other": 1}
    assert rows.time is not None
    assert [str(np.datetime64(t, "ns"))[:19] for t in rows.time.tolist()] == ["1994-03-23T10:11:12", "1994-03-23T10:11:13"]


def test_any_talker_and_the_southern_and_western_half() -> None:
    body = "GNRMC,101112.00,A,3350.5000,S,07040.2500,W,0.117,,180315,,,A"
    rows = fed(["lat", "lon"], line(body))
    assert rows.values.tolist() == [pytest.approx([-33.841667, -70.670833], rel=1e-6)]


def test_without_a_fix_nothing_is_said_of_the_place() -> None:
    rows = fed(["lat", "satellites"], gga("101112.00", q="0"), gga("101113.00"), gga("101114.00", q="0"), gga("101115.00"))
    assert rows.values.tolist() == [[pytest.approx(48.1173), 8]] * 2
    assert refused(rows.rejects) == {"missing": 2}
    void = fed(["lat", "speed"], rmc("101112.00", "V"), rmc("101113.00", "V"), rmc("101114.00"))
    assert len(void.values) == 1
    assert refused(void.rejects) == {"missing": 2}


def test_a_field_that_an_epoch_lacks_is_absent() -> None:
    body = "GNRMC,{},A,4807.0380,N,01131.0000,E,0.117,,180315,,,A"
    rows = fed(["speed", "track"], line(body.format("101112.00")), line(body.format("101113.00")), on_bad="pass")
    assert rows.values[0].tolist() == [pytest.approx(0.060190, rel=1e-4), pytest.approx(float("nan"), nan_ok=True)]


def test_damage_is_refused_and_garbage_before_a_sentence_is_not_part_of_it() -> None:
    bad = gga("101112.00").replace(b"4807", b"4808")
    rows = fed(
        ["lat"], bad, b"\xfe~garbage" + gga("101113.00"), b"no sentence\r\n", line("PUBX,00,1,2"), b"!AIVDM,1,1,,A,x,0*00\r\n"
    )
    assert len(rows.values) == 1
    assert refused(rows.rejects) == {"checksum": 1, "malformed": 1, "other": 2}


def test_sentences_without_a_time_begin_an_epoch_when_they_come_again() -> None:
    rows = fed(["depth"], line("SDDBT,7.7,f,2.3,M,1.3,F"), line("SDDBT,,f,,M,1.5,F"), line("INDPT,2.2,0.0"))
    assert rows.values[:, 0].tolist() == pytest.approx([2.3, 2.7432])
    both = fed(["depth", "lat"], line("INDPT,2.2,0.0"), rmc("101112.00"), line("INDPT,2.1,0.0"), rmc("101113.00"))
    assert both.values.tolist() == [pytest.approx([2.2, 48.1173]), pytest.approx([2.1, 48.1173])]


def test_transducers_by_name_and_the_attitude_they_say() -> None:
    rows = fed(["pitch", "roll", "xdr.BARO"], line("APXDR,A,0.5,D,PTCH,A,-3.5,D,ROLL,P,1.01,B,BARO"))
    assert rows.values.tolist() == [pytest.approx([0.5, -3.5, 1.01])]


def test_climb_is_that_between_two_altitudes() -> None:
    rows = fed(["climb"], gga("101112.00", alt="100.0"), gga("101114.00", alt="103.0"), gga("101116.00", alt="102.0"))
    assert rows.values[:, 0].tolist() == pytest.approx([1.5, -0.5])


def test_times_of_arrival_and_of_the_receiver_do_not_mix() -> None:
    rows = fed(["lat"], gga("101112.00"), rmc("101112.00"), gga("101113.00"))
    assert rows.time is not None
    assert rows.time.tolist() == [ON_ARRIVAL, ON_ARRIVAL]
    night = fed(["lat"], rmc("235959.00"), gga("000000.00"))
    assert night.time is not None
    assert np.diff(night.time).tolist() == [10**9]


@pytest.mark.parametrize("size", [1, 7, 1 << 20])
def test_any_chopping_gives_the_same(size: int) -> None:
    data = b"".join(gga(f"1011{n:02}.00") + rmc(f"1011{n:02}.00") for n in range(20))
    decoder = make_stream_decoder(plan("nmea", "lat", "speed"))
    parts = [decoder.feed(data[at : at + size]) for at in range(0, len(data), size)]
    assert sum(len(part.values) for part in parts if part is not None) == 20


def test_every_name_is_gpsds() -> None:
    assert {"lat", "lon", "alt", "speed", "track", "climb", "hdop", "satellites", "depth", "heading", "pitch", "roll"} <= {*NAMES}
