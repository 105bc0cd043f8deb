"""Residency gives the module back as it was; devices and precisions by name; retries after out-of-memory."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from xdyna_unianimate.video_core.placement import (
    choose_device,
    choose_dtype,
    on_device,
    running_on,
    smaller_on_oom,
)


def net() -> nn.Module:
    return nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4)).eval()


@pytest.mark.parametrize("inference", [False, True])
def test_comes_back_bit_for_bit(inference: bool) -> None:
    with torch.inference_mode(inference):
        module = net()
        parameters = list(module.parameters())
        before = {name: (value, value.clone()) for name, value in module.state_dict().items()}
        with on_device(module, "cpu", torch.float16) as there:
            assert there is module
            assert {p.dtype for p in module.parameters()} == {torch.float16}
            assert module[1].num_batches_tracked.dtype == torch.int64
        assert all(a is b for a, b in zip(parameters, module.parameters(), strict=True))
        for name, value in module.state_dict().items():
            home, copy = before[name]
            assert value.data_ptr() == home.data_ptr() and torch.equal(value, copy), name


def test_comes_back_after_an_error_inside_the_block() -> None:
    module = net()
    with pytest.raises(KeyboardInterrupt), on_device(module, "cpu", torch.bfloat16):
        raise KeyboardInterrupt
    assert module[0].weight.dtype == torch.float32


def test_comes_back_when_the_move_itself_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    module, to, moves = net(), torch.Tensor.to, []

    def failing(self: torch.Tensor, *args, **kwargs) -> torch.Tensor:
        moves.append(self)
        if len(moves) == 3:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return to(self, *args, **kwargs)

    monkeypatch.setattr(torch.Tensor, "to", failing)
    with pytest.raises(torch.OutOfMemoryError), on_device(module, "cpu", torch.float16):
        pytest.fail("the block must not run")
    assert {p.dtype for p in module.parameters()} == {torch.float32}


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_runs_on_cuda_and_comes_back() -> None:
    module, x = net(), torch.randn(2, 3)
    with torch.no_grad():
        expected = module(x)
        with on_device(module, "cuda"):
            found = module(x.cuda()).cpu()
    assert torch.allclose(found, expected, atol=1e-5) and module[0].weight.device.type == "cpu"


def test_choices_by_name() -> None:
    assert choose_device("cpu") == torch.device("cpu")
    assert choose_device().type in ("cuda", "xpu", "mps", "cpu")
    assert choose_dtype("auto", "cpu") == torch.float32
    assert choose_dtype("auto", "cuda") == torch.float16
    assert choose_dtype("bf16", "cpu") == torch.bfloat16


@pytest.mark.parametrize("name", ["toaster", "cuda:99", ""])
def test_unusable_devices_are_one_sentence(name: str) -> None:
    with pytest.raises(ValueError, match="cannot be used here"):
        choose_device(name)


def test_unknown_precision_is_one_sentence() -> None:
    with pytest.raises(ValueError, match="auto, fp16, bf16, fp32 or fp8"):
        choose_dtype("fp4", "cpu")


def needs_at_most(limit: int, error: BaseException):
    tried: list[int] = []

    def attempt(size: int) -> int:
        tried.append(size)
        if size > limit:
            raise error
        return size * 10

    return attempt, tried


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA"),
        RuntimeError("MPS backend out of memory (allocated 3 GB)"),
        RuntimeError("could not create a primitive"),
    ],
)
def test_halves_until_it_fits(error: RuntimeError) -> None:
    attempt, tried = needs_at_most(3, error)
    assert smaller_on_oom(attempt, 12) == (30, 3)
    assert tried == [12, 6, 3]


def test_gives_up_at_one_and_on_other_errors() -> None:
    attempt, tried = needs_at_most(0, torch.OutOfMemoryError("CUDA"))
    with pytest.raises(torch.OutOfMemoryError):
        smaller_on_oom(attempt, 4)
    assert tried == [4, 2, 1]
    attempt, tried = needs_at_most(0, RuntimeError("shape mismatch"))
    with pytest.raises(RuntimeError, match="shape"):
        smaller_on_oom(attempt, 4)
    assert tried == [4]


def test_running_on_yields_the_device_and_gives_back_after_an_error() -> None:
    module = net()
    homes = [parameter.data_ptr() for parameter in module.parameters()]
    with pytest.raises(RuntimeError, match="stop"), running_on("cpu")(module) as device:
        assert device == torch.device("cpu")
        next(module.parameters()).data = torch.zeros(4, 3)
        raise RuntimeError("stop")
    assert [parameter.data_ptr() for parameter in module.parameters()] == homes
