"""What goes wrong with GPUs, as far as it shows without one."""

from typing import Any

import pytest

from ..support.template_package import Part


@pytest.mark.parametrize(
    ("visible", "gpus", "expected"),
    [
        (None, [0, 2], "0,2"),
        ("", [0], "0"),
        ("2,3", [0, 1], "2,3"),
        ("2, 3", [1], "3"),
        ("GPU-5a, MIG-77", [1], "MIG-77"),
        # More than are visible: the trial then says what is missing.
        ("3", [0, 4], "3,4"),
        ("2,3", [], ""),
    ],
)
def test_trials_get_only_gpus_of_the_job(
    visible: str | None,
    gpus: list[int],
    expected: str,
    package: Part,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A job that may use GPUs 2 and 3 must not train on those of other users."""
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    if visible is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    assert package("machine").visible_devices(gpus) == expected


@pytest.mark.parametrize("has_gpu", [True, False])
def test_prediction_obeys_the_trainer(
    has_gpu: bool, package: Part, monkeypatch: pytest.MonkeyPatch
) -> None:
    """trainer=cpu is for a GPU that is full, and trainer=gpu is not to run on the CPU quietly."""
    import torch

    prediction = package("prediction")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: has_gpu)
    assert prediction.device_of("cpu") == "cpu"
    assert prediction.device_of("auto") == ("cuda" if has_gpu else "cpu")
    if has_gpu:
        assert prediction.device_of("gpu") == "cuda"
        return
    with pytest.raises(package("errors").UserError, match="needs a CUDA device, and there is none"):
        prediction.device_of("gpu")


def test_libraries_of_nvidia_report_exhausted_memory(package: Part) -> None:
    """The finder would otherwise end the run where it should try a smaller batch."""
    import torch

    is_out_of_memory = package("finders.batch_size").is_out_of_memory
    for text in (
        "CUDA out of memory. Tried to allocate 2.00 GiB",
        "CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`",
        "cuDNN error: CUDNN_STATUS_ALLOC_FAILED",
    ):
        assert is_out_of_memory(RuntimeError(text)), text
    assert is_out_of_memory(torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 1 MiB"))
    assert not is_out_of_memory(RuntimeError("CUDA error: device-side assert triggered"))


def test_run_on_the_cpu_needs_no_driver(package: Part, monkeypatch: pytest.MonkeyPatch) -> None:
    """The driver counts a GPU and fails: a run that does not use it must not fail too."""
    import torch

    def fail(index: int) -> Any:
        raise RuntimeError("CUDA driver version is insufficient for CUDA runtime version")

    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    monkeypatch.setattr(torch.cuda, "get_device_name", fail)
    hardware = package("runs.environment").describe_hardware()
    assert hardware["gpus"] == ["unknown: the driver does not work"]
