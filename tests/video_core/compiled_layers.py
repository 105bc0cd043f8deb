"""Run by ``test_fast``: layers compiled for a while, an absent compiler, and an error on the way."""

from __future__ import annotations

import logging

import torch
from torch import Tensor, nn
from xdyna_unianimate.video_core.fast import compiled


class Layer(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.linear = nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        return torch.sin(self.linear(x))


class Heard(logging.Handler):
    def __init__(self) -> None:
        super().__init__()
        self.text = ""

    def emit(self, record: logging.LogRecord) -> None:
        self.text += record.getMessage()


def network() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(Layer(3), nn.SiLU(), Layer(3))


def is_plain(net: nn.Module) -> bool:
    return all(layer._compiled_call_impl is None for layer in net.modules())


def the_same_while_compiled() -> None:
    net, x, graphs = network(), torch.randn(5, 3), []

    def backend(graph, inputs):
        graphs.append(graph)
        return graph.forward

    plain = net(x)
    with compiled([net], (Layer,), backend):
        torch.testing.assert_close(net(x), plain)
    assert len(graphs) >= 2, "the layers, and the trial before them"
    assert is_plain(net)


def without_a_compiler() -> None:
    def broken(graph, inputs):
        raise RuntimeError("no compiler")

    heard, net, x = Heard(), network(), torch.randn(5, 3)
    logging.getLogger("xdyna_unianimate.video_core.fast").addHandler(heard)
    with compiled([net], (Layer,), broken):
        assert torch.equal(net(x), network()(x))
    assert "torch.compile does not work here" in heard.text


def after_an_error() -> None:
    net = network()
    try:
        with compiled([net], (Layer,), "eager"):
            raise KeyboardInterrupt
    except KeyboardInterrupt:
        assert is_plain(net)


if __name__ == "__main__":
    the_same_while_compiled()
    print("same")
    without_a_compiler()
    print("without")
    after_an_error()
    print("after")
