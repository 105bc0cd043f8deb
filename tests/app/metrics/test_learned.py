"""LPIPS and Frechet distances with networks made here, whose answers can be computed."""

import numpy as np
import pytest
import torch
from xdyna_unianimate.app.metrics.learned import (
    ALEXNET,
    HEADS,
    FeatureNetwork,
    Lpips,
    Statistics,
    frechet_distance,
)
from xdyna_unianimate.video_core.weights import CheckpointError, save_checkpoint

from .networks import mean_network

CHANNELS = (3, 64, 192, 384, 256, 256)
KERNELS = (11, 5, 3, 3, 3)


@pytest.fixture(scope="module")
def lpips_files(tmp_path_factory):
    """Files with the names and shapes of torchvision's AlexNet and of LPIPS's heads, random values."""
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("lpips")
    backbone = {"classifier.6.bias": torch.zeros(1000)}
    for (name, *_), inputs, outputs, side in zip(ALEXNET, CHANNELS, CHANNELS[1:], KERNELS, strict=False):
        backbone[f"{name}.weight"] = torch.randn(outputs, inputs, side, side) / (inputs * side * side) ** 0.5
        backbone[f"{name}.bias"] = torch.randn(outputs) / 10
    heads = {name: torch.rand(1, width, 1, 1) for name, width in zip(HEADS, CHANNELS[1:], strict=True)}
    return (
        save_checkpoint(folder / "alexnet.safetensors", backbone, {}),
        save_checkpoint(folder / "alex.safetensors", heads, {}),
    )


def pictures(seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (64, 72, 3), np.uint8)


def test_lpips_of_identical_and_different_pictures(lpips_files):
    lpips = Lpips(*lpips_files)
    picture = pictures()
    near = np.clip(picture.astype(int) + 8, 0, 255).astype(np.uint8)
    assert lpips(picture, picture.copy()) == 0
    assert 0 < lpips(picture, near) < lpips(picture, pictures(1))
    assert lpips(picture, near) == pytest.approx(lpips(near, picture))


def test_lpips_is_the_published_formula(lpips_files):
    """The same written out with torch's modules, layer by layer (Zhang et al. 2018, equation 1)."""
    from safetensors.torch import load_file

    backbone, heads = (load_file(file) for file in lpips_files)
    convolution, relu, pool = torch.nn.Conv2d, torch.nn.ReLU(), torch.nn.MaxPool2d(3, 2)
    net = torch.nn.Sequential(
        convolution(3, 64, 11, 4, 2), relu, pool, convolution(64, 192, 5, 1, 2), relu, pool,
        convolution(192, 384, 3, 1, 1), relu, convolution(384, 256, 3, 1, 1), relu,
        convolution(256, 256, 3, 1, 1), relu,
    )  # fmt: skip
    net.load_state_dict(
        {n.removeprefix("features."): v for n, v in backbone.items() if n.startswith("features")}
    )
    total, inputs = 0.0, []
    for picture in (pictures(0), pictures(1)):
        x = torch.from_numpy(picture).permute(2, 0, 1)[None].float() / 255 * 2 - 1
        mean, std = torch.tensor([-0.030, -0.088, -0.188]), torch.tensor([0.458, 0.448, 0.450])
        inputs.append((x - mean[:, None, None]) / std[:, None, None])
    for at, head in zip((2, 5, 8, 10, 12), HEADS, strict=True):
        with torch.no_grad():
            a, b = (torch.nn.functional.normalize(net[:at](x), dim=1) for x in inputs)
        total += float((heads[head] * (a - b) ** 2).sum(1).mean())
    assert Lpips(*lpips_files)(pictures(0), pictures(1)) == pytest.approx(total, rel=1e-4)


def test_lpips_refuses_other_files(lpips_files):
    backbone, heads = lpips_files
    with pytest.raises(CheckpointError, match="alex.pth"):
        Lpips(backbone, backbone)
    with pytest.raises(CheckpointError, match="AlexNet"):
        Lpips(heads, heads)


def statistics_of(samples: np.ndarray) -> Statistics:
    found = Statistics()
    for sample in samples:
        found.add(sample)
    return found


def test_statistics_are_numpys():
    samples = np.random.default_rng(0).normal(3, 2, (50, 6))
    found = statistics_of(samples)
    np.testing.assert_allclose(found.mean, samples.mean(0))
    np.testing.assert_allclose(found.covariance, np.cov(samples.T))
    assert (found.count, found.width) == (50, 6)


def test_frechet_distance_of_known_gaussians():
    rng = np.random.default_rng(0)
    samples = rng.normal(size=(400, 5)) * (1, 2, 3, 1, 0.5)
    same, moved = statistics_of(samples), statistics_of(samples + (3, 0, 0, 4, 0))
    assert frechet_distance(same, same) == pytest.approx(0, abs=1e-6)
    assert frechet_distance(same, moved) == pytest.approx(25)
    # Commuting covariances: the sum of (s1 - s2)^2 over the axes.
    stretched = statistics_of(samples * 3 - 2 * samples.mean(0))
    deviations = np.linalg.eigvalsh(same.covariance) ** 0.5
    assert frechet_distance(same, stretched) == pytest.approx(((2 * deviations) ** 2).sum())
    few = statistics_of(rng.normal(size=(3, 5)))
    assert np.isfinite(frechet_distance(few, same))
    with pytest.raises(ValueError, match="at least 2 samples"):
        frechet_distance(statistics_of(samples[:1]), same)


@pytest.mark.parametrize(
    ("shape", "frames"), [(["n", 3, 32, 32], 1), (["n", 3, "h", "w"], 1), (["n", 3, 4, 16, 16], 4)]
)
def test_feature_network_sees_rgb_in_the_declared_layout(tmp_path, shape, frames):
    network = FeatureNetwork(mean_network(tmp_path / "mean.onnx", shape))
    assert network.frames == frames
    plain = np.broadcast_to(np.uint8([255, 0, 51]), (20, 30, 3))
    np.testing.assert_allclose(network([plain] * frames), [1, -1, -0.6], atol=1e-3)


def test_feature_network_refuses_other_shapes(tmp_path):
    with pytest.raises(ValueError, match="feature network takes pictures"):
        FeatureNetwork(mean_network(tmp_path / "mean.onnx", ["n", 1, 8, 8]))
