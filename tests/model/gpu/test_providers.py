from __future__ import annotations

from collections.abc import Mapping

import pytest

from edged.model.gpu import providers
from edged.model.gpu.providers import Choice, Probe

RAN = Probe(run_ns=2e6, cpu_ns=9e6, rows=16)
ENGINE = Probe(needs_engine=True)
NO = Probe(reason="broken")
HAS_NOT = {rung: Probe(reason=providers.missing(rung, None)) for rung in ("tensorrt", "cuda")}


def choose(asked: str | tuple[str, ...], found: Mapping[str, Probe]) -> tuple[Choice, list[str]]:
    """The choice, and what was tried for it. The CPU is tried where it is loaded."""
    tried: list[str] = []

    def probe(rung: str) -> Probe:
        tried.append(rung)
        return found.get(rung, Probe() if rung == "cpu" else HAS_NOT[rung])

    return providers.choose(asked, probe), tried


def test_order() -> None:
    assert providers.rungs("auto") == ("cuda", "cpu")
    assert providers.rungs(("tensorrt", "cuda")) == ("tensorrt", "cuda")


@pytest.mark.parametrize(
    ("asked", "found", "rungs", "tried"),
    [
        (("cpu",), {}, "cpu", "cpu"),
        (("cuda", "cpu"), {"cuda": RAN}, "cuda cpu", "cuda"),
        (("cuda", "cpu"), {"cuda": NO}, "cpu", "cuda cpu"),
        (("cuda",), {"cuda": NO}, "", "cuda"),
        (("cpu", "cuda"), {"cuda": RAN}, "cpu cuda", "cpu"),
        (("tensorrt", "cuda", "cpu"), {"tensorrt": RAN, "cuda": RAN}, "tensorrt cuda cpu", "tensorrt"),
        (("tensorrt", "cuda", "cpu"), {"tensorrt": NO, "cuda": NO}, "cpu", "tensorrt cuda cpu"),
        (("tensorrt", "cuda"), {"tensorrt": NO, "cuda": RAN}, "cuda", "tensorrt cuda"),
        ("auto", {}, "cpu", "cuda"),
        ("auto", {"cuda": NO}, "cpu", "cuda"),
        ("auto", {"cuda": RAN}, "cuda cpu", "cuda tensorrt"),
        ("auto", {"cuda": RAN, "tensorrt": Probe(run_ns=1e6, rows=16)}, "tensorrt cuda cpu", "cuda tensorrt"),
        ("auto", {"cuda": RAN, "tensorrt": Probe(run_ns=3e6, rows=16)}, "cuda cpu", "cuda tensorrt"),
        ("auto", {"cuda": Probe(run_ns=2e6, cpu_ns=1.5e6)}, "cpu", "cuda"),
        ("auto", {"cuda": Probe(run_ns=2e5, cpu_ns=9e5)}, "cpu", "cuda"),
        ("auto", {"cuda": Probe(run_ns=2e5)}, "cuda cpu", "cuda tensorrt"),
    ],
)
def test_who_runs_it(asked: str | tuple[str, ...], found: dict[str, Probe], rungs: str, tried: str) -> None:
    choice, was_tried = choose(asked, found)
    assert (choice.rungs, was_tried) == (tuple(rungs.split()), tried.split())
    assert not choice.builds
    first = rungs.split()[:1]
    skipped = [r for r in was_tried if [r] != first]
    assert all(any(providers.TITLES[r] in reason or reason == providers.NO_GPU for reason in choice.reasons) for r in skipped)


@pytest.mark.parametrize(
    ("asked", "rungs", "is_held"),
    [
        (("tensorrt", "cuda", "cpu"), "cuda cpu", False),
        (("tensorrt", "cpu"), "cpu", False),
        (("tensorrt",), "cpu", True),
        ("auto", "cuda cpu", False),
    ],
)
def test_who_serves_while_an_engine_is_built(asked: str | tuple[str, ...], rungs: str, is_held: bool) -> None:
    choice, _ = choose(asked, {"tensorrt": ENGINE, "cuda": RAN})
    assert (choice.rungs, choice.builds, choice.is_held) == (tuple(rungs.split()), True, is_held)


def test_a_provider_that_is_required_and_fails_takes_the_others_with_it() -> None:
    choice, _ = choose(("tensorrt", "cuda"), {"tensorrt": ENGINE, "cuda": NO})
    assert (choice.rungs, choice.is_held, choice.reasons) == (("cpu",), True, ("CUDA did not run: broken",))


def test_the_reasons() -> None:
    assert choose("auto", {})[0].reasons == (providers.NO_GPU,)
    assert choose("auto", {"cuda": NO})[0].reasons == ("CUDA did not run: broken", "TensorRT was not tried: CUDA did not run")
    assert choose("auto", {"cuda": Probe(run_ns=2e6, cpu_ns=1.5e6, rows=16)})[0].reasons == (
        "CUDA ran, and the CPU is faster: 1.5 ms against 2.0 ms for 16 rows",
        "TensorRT was not tried: the model is too small for a GPU",
    )
    assert choose("auto", {"cuda": Probe(run_ns=2e5, cpu_ns=9e5)})[0].reasons[0] == (
        "CUDA ran, and the CPU is fast enough without it: 900 us against 200 us for 1 row"
    )
    assert choose("auto", {"cuda": RAN, "tensorrt": Probe(run_ns=3e6, rows=16)})[0].reasons == (
        "TensorRT ran, and CUDA is faster: 125 us against 188 us for 1 row",
    )


def test_options_end_with_the_cpu_and_carry_the_shapes() -> None:
    assert [n for n, _ in providers.options("cpu", {}, 1)] == ["CPUExecutionProvider"]
    names = [n for n, _ in providers.options("tensorrt", {}, 1)]
    assert names == ["TensorrtExecutionProvider", "CUDAExecutionProvider", "CPUExecutionProvider"]
    tensorrt = providers.options("tensorrt", {"x": (-1, 3, 8), "k": (2,)}, 16)[0][1]
    assert tensorrt["trt_profile_min_shapes"] == "x:1x3x8,k:2"
    assert tensorrt["trt_profile_max_shapes"] == "x:16x3x8,k:2"
    fixed = providers.options("tensorrt", {"x": (-1, 3)}, 4, least=4)[0][1]
    assert fixed["trt_profile_min_shapes"] == fixed["trt_profile_max_shapes"] == "x:4x3"


def test_options_of_the_file_win_and_the_memory_is_bounded() -> None:
    given: dict[str, dict[str, bool | int | float | str]] = {
        "tensorrt": {"trt_fp16_enable": True, "trt_builder_optimization_level": 5},
        "cuda": {"use_tf32": False},
    }
    tensorrt, cuda, _ = providers.options("tensorrt", {}, 1, given, gpu_bytes=400, engine="/e")
    assert (tensorrt[1]["trt_fp16_enable"], tensorrt[1]["trt_builder_optimization_level"]) == ("True", "5")
    assert (tensorrt[1]["trt_max_workspace_size"], tensorrt[1]["trt_engine_cache_path"]) == ("100", "/e")
    assert (cuda[1]["use_tf32"], cuda[1]["gpu_mem_limit"], cuda[1]["cudnn_conv_algo_search"]) == ("0", "400", "HEURISTIC")
    assert cuda[1]["arena_extend_strategy"] == "kSameAsRequested"
    assert "gpu_mem_limit" not in providers.options("cuda", {}, 1)[0][1]


def test_what_is_ignored_is_told() -> None:
    asked = {"use_tf32": "0", "enable_cuda_graph": "1", "sdpa_kernel": "0"}
    assert providers.ignored(asked, {"use_tf32": "False", "enable_cuda_graph": "true"}) == []
    assert providers.ignored(asked, {"use_tf32": "1"}) == ["use_tf32 is '1', '0' was asked for"]


def test_graphs_and_tolerances_follow_the_options() -> None:
    assert providers.has_graph("cuda", {"cuda": {"enable_cuda_graph": True}})
    assert not providers.has_graph("tensorrt", {"cuda": {"enable_cuda_graph": True}})
    assert not providers.has_graph("cuda", {"cuda": {"enable_cuda_graph": 0}})
    assert not providers.has_graph("cpu", None)
    assert providers.tolerance("cuda", {}) == providers.TOLERANCE
    assert providers.tolerance("tensorrt", {"tensorrt": {"trt_fp16_enable": "true"}}) == providers.COARSE_TOLERANCE


def test_texts() -> None:
    cause = "libnvinfer.so.10: cannot open shared object file: No such file or directory"
    text = providers.none_ran(("tensorrt",), {"tensorrt": providers.missing("tensorrt", cause)})
    assert text == (
        "TensorRT is required and did not run: libnvinfer.so.10: cannot open shared object file "
        '(package tensorrt of JetPack, or of NVIDIA); to allow others: ["tensorrt", "cuda"]'
    )
    text = providers.none_ran(("tensorrt", "cuda"), {"tensorrt": "a", "cuda": "b"})
    assert text.endswith('CUDA is required and did not run: b; to allow others: ["tensorrt", "cuda", "cpu"]')
    assert providers.none_ran("auto", {"cuda": "a", "cpu": "b"}) == "the model does not run: b"
    assert providers.none_ran(("cpu",), {"cpu": "b"}) == "the model does not run: b"
    for name, word in {
        "libcuda.so.1": "driver",
        "libcudnn.so.9": "cuDNN",
        "libcublasLt.so.13": "CUDA: ",
        "libx": "onnxruntime-gpu",
    }.items():
        assert word in providers.missing("cuda", f"{name}: cannot open shared object file")


def test_others_take_no_more_threads_than_the_model_has() -> None:
    ours = providers.options("openvino", {"x": (-1, 3)}, 16, threads=2)
    assert ours == [
        ("OpenVINOExecutionProvider", {"device_type": "CPU", "num_of_threads": "2"}),
        ("CPUExecutionProvider", {}),
    ]
    given: providers.Options = {"openvino": {"device_type": "GPU", "enable_qdq_optimizer": True}}
    found = providers.options("openvino", {"x": (-1, 3)}, 16, given)[0][1]
    assert found == {"device_type": "GPU", "num_of_threads": "1", "enable_qdq_optimizer": "true"}
    assert providers.tolerance("openvino", None) < providers.tolerance("openvino", given)
    assert providers.options("xnnpack", {}, 1)[0] == ("XnnpackExecutionProvider", {"intra_op_num_threads": "1"})


@pytest.mark.parametrize(
    ("tried", "allow"),
    [
        (("openvino",), '; to allow others: ["openvino", "cpu"]'),
        (("tensorrt",), '; to allow others: ["tensorrt", "cuda"]'),
        (("tensorrt", "cuda"), '; to allow others: ["tensorrt", "cuda", "cpu"]'),
    ],
)
def test_the_way_out_where_none_ran(tried: tuple[str, ...], allow: str) -> None:
    assert providers.none_ran(tried, dict.fromkeys(tried, "gone")).endswith(allow)
