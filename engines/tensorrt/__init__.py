"""TensorRT on an NVIDIA GPU, a Jetson's above all, through pycuda.

| module | what |
|---|---|
| `driver` | the CUDA driver as ctypes sees it: is there one, and which devices |
| `probe` | what is missing for TensorRT to run here, in order |
| `cuda` | contexts, buffers and streams by pycuda |
| `graph_capture` | a CUDA graph of one run, by ctypes |
| `engine` | a plan that runs: `TensorrtEngine` |
| `network_builder` | from ONNX to a plan, in the process that asks |
| `build_child`, `build_process` | the same in a child process, with progress and cancel |
| `plan_key`, `plan_cache` | which plan is valid here, where it lies, and why another is built |
| `failed_build`, `first_load` | what is not tried at every start: a build that failed, a plan that crashes |
| `plans` | a plan for a request, opened |
"""
