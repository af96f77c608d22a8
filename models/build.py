"""Makes the models of this folder from nothing but a seed: `python models/build.py [--check] [vibration] [tiny]`.

Needs numpy and onnx, and edged itself for the signals. The same versions on the same kind of processor give the same
bytes; `--check` builds into a temporary folder and says which files differ from those that are here.
"""

from __future__ import annotations

import os

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # sums are the same however many cores there are; read when numpy is imported

import argparse
import hashlib
import json
import sys
import tempfile
import time
import zipfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from machines import TESTS, TRAINING, Fleet, observe, observe_standstill, record
from network import Network
from numpy.typing import NDArray
from onnx.reference import ReferenceEvaluator
from report import vibration_readme
from spectra import SIZE, add_spectra, spectra

from edged.learn.graph import Graph, float32
from edged.sources.simulation import CONDITIONS

HERE = Path(__file__).parent
SEED = 20
STANDSTILLS = 1000  # windows of machines that are off
TOLERANCE = 1e-4  # between a model as trained and as written, in probability


def build_vibration(folder: Path) -> None:
    """Trains for about a minute, then writes the folder and what the model is worth."""
    seeds = np.random.SeedSequence(SEED).spawn(3 + len(TESTS))
    rng, for_weights, for_golden, *for_tests = (np.random.default_rng(s) for s in seeds)
    running, classes = observe(rng, TRAINING)
    seen = np.concatenate([running, observe_standstill(rng, STANDSTILLS)])
    classes = np.append(classes, np.full(STANDSTILLS, CONDITIONS.index("healthy")))  # nothing to complain of
    network = Network(for_weights, seen, len(CONDITIONS))
    network.train(for_weights, seen, classes)
    graph = Graph("vibration")
    network.add_to(graph, add_spectra(graph, "acceleration"), "probabilities")
    file = graph.encode(("acceleration", (SIZE, 3)), ("probabilities", (len(CONDITIONS),)), CONDITIONS)
    golden = record(for_golden, TESTS[0])[:, 0]
    arrays = {"acceleration": golden, "probabilities": network.probabilities(spectra(golden))}
    description = "Condition of a machine from its vibration: three axes at 1000 Hz, whatever way the sensor is turned"
    hints = ['fields = ["ax", "ay", "az"]', 'units = { ax = "m/s2", ay = "m/s2", az = "m/s2" }', 'layout = "time,field"']
    write(folder, file, arrays, CONDITIONS, description, hints)
    results = [(fleet, confusion(network, rng, fleet)) for fleet, rng in zip(TESTS, for_tests, strict=True)]
    readme = vibration_readme(results, len(seen), len(file))
    (folder / "README.md").write_text(readme, encoding="utf-8")


def confusion(network: Network, rng: np.random.Generator, fleet: Fleet) -> NDArray[Any]:
    """How many windows that show condition i were called j, `[len(CONDITIONS), len(CONDITIONS)]`."""
    seen, classes = observe(rng, fleet)
    table = np.zeros((len(CONDITIONS), len(CONDITIONS)), np.int64)
    np.add.at(table, (classes, network.probabilities(seen).argmax(axis=1)), 1)
    return table


def build_tiny(folder: Path) -> None:
    """One dense layer with random weights: eight numbers in, three probabilities out. For tests, knows nothing."""
    rng = np.random.default_rng(SEED)
    slopes, offsets = float32(rng.standard_normal((8, 3))), float32(rng.standard_normal(3))
    graph = Graph("tiny")
    sums = graph.node("Gemm", ["x", graph.weight("slopes", slopes), graph.weight("offsets", offsets)], "sums")
    graph.node("Softmax", [sums], "probabilities", axis=-1)
    labels = ("low", "middle", "high")
    file = graph.encode(("x", (8,)), ("probabilities", (3,)), labels)
    golden = float32(rng.standard_normal((4, 8)))
    powers = np.exp(golden @ slopes + offsets)
    arrays = {"x": golden, "probabilities": powers / powers.sum(axis=1, keepdims=True)}
    write(folder, file, arrays, labels, "Eight numbers to three probabilities, for tests: its weights are random", [])


def write(
    folder: Path,
    file: bytes,
    golden: dict[str, NDArray[Any]],
    labels: Sequence[str],
    description: str,
    hints: list[str],
) -> None:
    """Writes model.onnx, golden.npz and model.toml; the first two must agree when the ONNX project's own evaluator runs them.

    `golden` holds the input, then the output. `hints` are the lines of model.toml about the input.
    """
    (source, rows), (result, wanted) = golden.items()
    found: Any = ReferenceEvaluator(file).run([result], {source: rows})
    if not np.allclose(found[0], wanted, atol=TOLERANCE):
        raise SystemExit(f"{folder.name}: the file answers {found[0]}, the trained network {wanted}")
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "model.onnx").write_bytes(file)
    arrays: dict[str, Any] = {
        source: float32(rows),
        result: float32(np.round(wanted, 5)),
    }  # what rounding may differ in is left out
    np.savez(folder / "golden.npz", **arrays)
    table = [f"\n[inputs.{source}]", *hints] if hints else []
    lines = [
        f'name = "{folder.name}"',
        'version = "1"',
        f'description = "{description}"',
        f'sha256 = "{hashlib.sha256(file).hexdigest()}"',
        f"labels = {json.dumps(list(labels))}",
        *table,
        '\n[golden]\nfile = "golden.npz"\nrtol = 0.001\natol = 0.001\n',
    ]
    (folder / "model.toml").write_text("\n".join(lines), encoding="utf-8")


BUILDERS: dict[str, Callable[[Path], None]] = {"vibration": build_vibration, "tiny": build_tiny}


def check(name: str) -> list[str]:
    """Files of model `name` that a build makes and that differ from those here."""
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary) / name
        BUILDERS[name](folder)
        made = sorted(folder.iterdir())
        here = HERE / name
        return [f.name for f in made if not (here / f.name).exists() or content(here / f.name) != content(f)]


def content(file: Path) -> object:
    """What two builds must have alike. Of an archive its members: how zip writes their headers differs from Python to Python."""
    if file.suffix != ".npz":
        return file.read_bytes()
    with zipfile.ZipFile(file) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def main() -> int:
    parser = argparse.ArgumentParser(description="Makes the models of this folder.")
    parser.add_argument("names", nargs="*", metavar="MODEL", help=f"{', '.join(BUILDERS)} (default: all)")
    parser.add_argument("--check", action="store_true", help="build elsewhere and compare; status 1 if a file differs")
    arguments = parser.parse_args()
    names = arguments.names or [*BUILDERS]
    if unknown := [n for n in names if n not in BUILDERS]:
        parser.error(f"no such model: {', '.join(unknown)}; there are {', '.join(BUILDERS)}")
    status = 0
    for name in names:
        start = time.monotonic()
        if not arguments.check:
            BUILDERS[name](HERE / name)
            print(f"{name}: written in {time.monotonic() - start:.0f} s")
        elif different := check(name):
            print(f"{name}: {', '.join(different)} would be another one")
            status = 1
        else:
            print(f"{name}: the same, byte for byte")
    return status


if __name__ == "__main__":
    sys.exit(main())
