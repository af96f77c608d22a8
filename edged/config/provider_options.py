"""The options of ONNX Runtime's providers that a file may set.

What ONNX Runtime does not know it refuses only when a session is made, or not at all; a misspelt name is told here, with its
line. The names are those of every version since 1.19: what an older one lacks it refuses itself, and that is the rung's reason.
"""

from __future__ import annotations

CUDA = (
    "device_id", "arena_extend_strategy", "cudnn_conv_algo_search", "do_copy_in_default_stream", "cudnn_conv_use_max_workspace",
    "cudnn_conv1d_pad_to_nc1d", "enable_cuda_graph", "enable_cudnn", "enable_skip_layer_norm_strict_mode", "fuse_conv_bias",
    "prefer_nhwc", "sdpa_kernel", "tunable_op_enable", "tunable_op_max_tuning_duration_ms", "tunable_op_tuning_enable",
    "use_ep_level_unified_stream", "use_tf32",
)  # fmt: skip
TENSORRT = (
    "device_id", "trt_auxiliary_streams", "trt_bf16_enable", "trt_build_heuristics_enable", "trt_builder_optimization_level",
    "trt_context_memory_sharing_enable", "trt_cuda_graph_enable", "trt_detailed_build_log", "trt_dla_core", "trt_dla_enable",
    "trt_engine_decryption_enable", "trt_engine_decryption_lib_path", "trt_extra_plugin_lib_paths",
    "trt_force_sequential_engine_build", "trt_force_timing_cache", "trt_fp16_enable", "trt_int8_calibration_table_name",
    "trt_int8_enable", "trt_int8_use_native_calibration_table", "trt_layer_norm_fp32_fallback", "trt_max_partition_iterations",
    "trt_max_workspace_size", "trt_min_subgraph_size", "trt_op_types_to_exclude", "trt_preview_features", "trt_sparsity_enable",
    "trt_tactic_sources",
)  # fmt: skip
OPENVINO = (
    "device_type", "device_id", "precision", "num_of_threads", "num_streams", "model_priority", "load_config", "reshape_input",
    "layout", "enable_qdq_optimizer", "disable_dynamic_shapes", "enable_opencl_throttling",
)  # fmt: skip
QNN = (
    "backend_path", "backend_type", "device_id", "soc_model", "htp_arch", "htp_performance_mode",
    "htp_graph_finalization_optimization_mode",
    "enable_htp_fp16_precision", "enable_htp_weight_sharing", "offload_graph_io_quantization", "qnn_context_priority",
    "rpc_control_latency", "vtcm_mb",
)  # fmt: skip
COREML = (
    "ModelFormat", "MLComputeUnits", "RequireStaticInputShapes", "EnableOnSubgraphs", "SpecializationStrategy",
    "AllowLowPrecisionAccumulationOnGPU",
)  # fmt: skip
KNOWN = {
    "cuda": CUDA,
    "tensorrt": TENSORRT,
    "openvino": OPENVINO,
    "qnn": QNN,
    "coreml": COREML,
    "acl": ("enable_fast_math",),
    "xnnpack": ("intra_op_num_threads",),
}

OWN = {
    "gpu_mem_limit": "memory.gpu_budget is shared out among the models: set that",
    "has_user_compute_stream": "an address of this process cannot stand in a file",
    "user_compute_stream": "an address of this process cannot stand in a file",
    "gpu_external_alloc": "an address of this process cannot stand in a file",
    "gpu_external_free": "an address of this process cannot stand in a file",
    "gpu_external_empty_cache": "an address of this process cannot stand in a file",
    "trt_engine_cache_enable": "edged keeps engines in the state directory",
    "trt_engine_cache_path": "edged keeps engines in the state directory",
    "trt_engine_cache_prefix": "edged keeps engines in the state directory",
    "trt_timing_cache_enable": "edged keeps it beside the engines",
    "trt_timing_cache_path": "edged keeps it beside the engines",
    "trt_profile_min_shapes": "the pipelines and batch.max say which shapes there are",
    "trt_profile_opt_shapes": "the pipelines and batch.max say which shapes there are",
    "trt_profile_max_shapes": "the pipelines and batch.max say which shapes there are",
    "trt_engine_hw_compatible": "an engine is built for the GPU that it runs on",
    "trt_weight_stripped_engine_enable": "edged loads the model itself, never an engine alone",
    "trt_onnx_bytestream": "edged loads the model itself, never an engine alone",
    "trt_onnx_bytestream_size": "edged loads the model itself, never an engine alone",
    "trt_external_data_bytestream": "edged loads the model itself, never an engine alone",
    "trt_external_data_bytestream_size": "edged loads the model itself, never an engine alone",
    "trt_load_user_initializer": "edged loads the model itself, never an engine alone",
    "trt_onnx_model_folder_path": "edged loads the model itself, never an engine alone",
    "trt_dump_ep_context_model": "edged loads the model itself, never an engine alone",
    "trt_ep_context_file_path": "edged loads the model itself, never an engine alone",
    "trt_ep_context_embed_mode": "edged loads the model itself, never an engine alone",
    "trt_dump_subgraphs": "it would write files where the daemon runs",
}
"""What a file may not set, and why."""
