"""A new kind is its files and one row: a source, a format and an output type that edged does not have, end to end.

The files are in `tests/support/added`, whose `__main__` is `edged` with three rows more.
"""

from __future__ import annotations

from pathlib import Path

from tests.support.broker import Broker
from tests.support.daemon import EX_CONFIG, ROOT, Client, Daemon, balanced, edged, said

ADDED = "tests.support.added"
CONFIG = """
[device]
id = "t"
[health]
interval = "100ms"
[broker.main]
url = "mqtt://127.0.0.1:{port}"
[model.same]
path = "{zoo}/same.onnx"

[source.click]
type = "clicker"
text = "a=1;b=5;c=2"
decode = {{ format = "pairs", fields = ["a", "b", "c"] }}
[source.sent]
type = "mqtt"
topic = "in/pairs"
decode = {{ format = "pairs", scale = 10, fields = ["a", "b", "c"] }}

[pipeline.clicks]
source = "click"
model = "same"
output = {{ type = "spread", above = 3 }}
publish = {{ topic = "out/click", when = {{ change = true }} }}
[pipeline.pairs]
source = "sent"
model = "same"
output = {{ type = "spread", above = 3 }}
publish = {{ topic = "out/sent", fields = ["spread", "wide"] }}
"""


def test_a_source_a_format_and_an_output_that_were_added(zoo: Path, broker: Broker, tmp_path: Path) -> None:
    text = CONFIG.format(port=broker.port, zoo=zoo)
    with Client(broker.port, "out/#", "edged/#") as client:
        daemon = Daemon(tmp_path, text, module=ADDED)
        with daemon:
            (clicked,) = client.wait("out/click")
            client.publish("in/pairs", "a=0.5;b=0.5;c=0.6")
            client.publish("in/pairs", "a=0.5;b=0.5")
            (sent,) = client.wait("out/sent")
            health = client.health(lambda h: h["sources"]["sent"]["rejected"] == 1 and h["pipelines"]["clicks"]["filtered"] > 2)
            assert balanced(health)
            assert health["sources"]["click"]["state"] == "running"
    assert (clicked.json["spread"], clicked.json["wide"]) == (4.0, True)
    assert (round(sent.json["spread"], 5), sent.json["wide"]) == (1.0, False)


def test_the_configuration_knows_them_from_their_rows(zoo: Path, tmp_path: Path) -> None:
    file = tmp_path / "edged.toml"
    text = CONFIG.format(port=1, zoo=zoo)
    file.write_text(text)
    code, out, err = said(edged("check", "-c", str(file), module=ADDED, cwd=ROOT))
    assert code == 0, err
    assert "source.click: clicks a=1;b=5;c=2" in out
    assert "spread of 3 numbers, wide above 3" in out
    file.write_text(text.replace("scale = 10", "endian = 'big'").replace("above = 3", "top = 3"))
    code, _, err = said(edged("check", "-c", str(file), module=ADDED, cwd=ROOT))
    assert code == EX_CONFIG
    assert 'has no effect with format = "pairs"; it belongs to "struct" "modbus" "raw"' in err
    assert 'has no effect with type = "spread"; it belongs to "classify"' in err
    file.write_text(text.replace('"clicker"', '"flicker"'))
    code, _, err = said(edged("check", "-c", str(file), module=ADDED, cwd=ROOT))
    assert code == EX_CONFIG
    assert '"clicker"' in err
