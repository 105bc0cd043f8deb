"""Autoencoder and CLIP at core's sockets: ours in core's nodes, core's in our stages."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch


@pytest.fixture(scope="module")
def encoders(comfy):
    from xdyna_unianimate.nodes import encoders

    return encoders


@pytest.fixture(scope="module")
def demo():
    from xdyna_unianimate.demo import checkpoints
    from xdyna_unianimate.video_core.clip import load_clip_text, load_clip_vision
    from xdyna_unianimate.video_core.vae import load_vae

    return SimpleNamespace(
        vae=load_vae(checkpoints.VAE, torch.float32),
        text=load_clip_text(checkpoints.CLIP, torch.float32),
        vision=load_clip_vision(checkpoints.CLIP, torch.float32),
    )


def pictures(frames: int = 1, height: int = 48, width: int = 40) -> torch.Tensor:
    return torch.rand(frames, height, width, 3, generator=torch.Generator().manual_seed(2))


# ---- ours where core expects its own -------------------------------------------------------------------


def test_cores_nodes_encode_and_decode_with_our_autoencoder(comfy, encoders, demo):
    ours = encoders.OurVae(demo.vae)
    (latent,) = comfy.core["VAEEncode"]().encode(vae=ours, pixels=pictures(3))
    assert latent["samples"].shape == (3, 4, 6, 5)
    sampler_units = demo.vae.to_sampler(latent["samples"])
    torch.testing.assert_close(sampler_units, demo.vae.encode(pictures(3)), atol=1e-5, rtol=1e-5)
    (frames,) = comfy.core["VAEDecode"]().decode(vae=ours, samples=latent)
    expected = torch.cat(list(demo.vae.decode(sampler_units)))
    assert frames.shape == (3, 48, 40, 3)
    torch.testing.assert_close(frames, expected, atol=1e-5, rtol=1e-5)


def test_sides_that_are_no_multiples_lose_both_edges_alike(encoders, demo):
    ours, wide = encoders.OurVae(demo.vae), pictures(1, 53, 44)
    torch.testing.assert_close(ours.encode(wide), ours.encode(wide[:, 2:50, 2:42]), rtol=0, atol=0)


def test_nodes_for_tiles_find_what_they_call(encoders, demo):
    ours = encoders.OurVae(demo.vae)
    samples = ours.encode(pictures(2))
    assert ours.decode_tiled(samples, tile_x=8, tile_y=8, overlap=2).shape == (2, 48, 40, 3)
    assert torch.equal(ours.encode_tiled(pictures(2), tile_x=64), samples)
    assert ours.spacial_compression_decode() == ours.downscale_ratio == 8
    assert ours.temporal_compression_decode() is None


def test_cores_text_node_takes_our_tower(comfy, encoders, demo):
    from xdyna_unianimate.video_core.tokenizer import tokenize

    ours = encoders.OurClip(demo.text)
    (found,) = comfy.core["CLIPTextEncode"]().encode(clip=ours, text="a dancer")
    features = demo.text.encode(tokenize("a dancer", demo.text.config))
    assert torch.equal(found[0][0], features.last)
    assert torch.equal(found[0][1]["pooled_output"], features.last[:, 1 + len("a dancer")])
    assert torch.equal(encoders.text_of(found, "positive"), features.last)


def test_the_text_layer_is_chosen_as_in_core(encoders, demo):
    ours = encoders.OurClip(demo.text)
    copy = ours.clone()
    copy.clip_layer(-2)
    tokens = ours.tokenize("")
    features = demo.text.encode(tokens)
    assert torch.equal(copy.encode_from_tokens(tokens), features.penultimate)
    assert torch.equal(ours.encode_from_tokens(tokens, return_pooled=True)[0], features.last)
    with pytest.raises(ValueError, match="-1 or -2; -3 was asked for"):
        copy.clip_layer(-3)


@pytest.mark.parametrize("crop", ["center", "none"])
def test_cores_vision_node_takes_our_tower(comfy, encoders, demo, crop):
    from xdyna_unianimate.video_core.clip import cropped_pixels, squashed_pixels

    (found,) = comfy.core["CLIPVisionEncode"]().encode(encoders.OurVision(demo.vision), pictures(2), crop)
    bytes_of = (pictures(2) * 255).round().to(torch.uint8).numpy()
    square = cropped_pixels if crop == "center" else squashed_pixels
    features = demo.vision.encode(torch.cat([square(p, 224) for p in bytes_of]))
    assert torch.equal(found.penultimate_hidden_states, features.penultimate)
    assert torch.equal(found["image_embeds"], features.embeds)


# ---- core's where our stages expect ours ---------------------------------------------------------------


class LikeCoresVae:
    """Pixels 0..1 to unscaled latents and back, as core's VAE at its socket."""

    latent_channels = 4

    def encode(self, pixels):
        return torch.nn.functional.avg_pool2d(pixels.movedim(-1, 1), 8)[:, [0, 1, 2, 0]]

    def decode(self, samples):
        return samples[:, :3].movedim(1, -1).repeat_interleave(8, 1).repeat_interleave(8, 2)


def test_cores_autoencoder_works_in_stable_diffusions_units(encoders):
    network = encoders.vae_of(LikeCoresVae()).network
    latents = network.encode(pictures(2), noise=torch.randn(2, 4, 6, 5))
    assert latents.shape == (1, 4, 2, 6, 5)
    torch.testing.assert_close(latents[0, :, 0] / 0.18215, LikeCoresVae().encode(pictures(2))[0])
    [frames] = network.decode(latents)
    assert frames.shape == (2, 48, 40, 3)
    torch.testing.assert_close(network.to_sampler(network.from_sampler(latents)), latents)


def test_an_autoencoder_of_other_latents_is_a_sentence(encoders):
    with pytest.raises(ValueError, match="16 latent channels, Stable Diffusion's has 4"):
        encoders.vae_of(SimpleNamespace(latent_channels=16))


class LikeCoresVision:
    """What core's CLIP_VISION has, around our tower."""

    image_size = 224
    load_device = torch.device("cpu")

    def __init__(self, vision):
        self.vision = vision
        self.asked = []

    @property
    def patcher(self):
        from xdyna_unianimate.nodes import host

        return host.Managed(self.vision).patchers[self.vision]

    def model(self, pixel_values, intermediate_output):
        self.asked.append((tuple(pixel_values.shape), intermediate_output))
        features = self.vision.encode(pixel_values)
        return None, features.penultimate, features.embeds, None


def test_cores_vision_tower_is_given_our_pixels(encoders, demo):
    core = LikeCoresVision(demo.vision)
    ours, theirs = encoders.vision_of(encoders.OurVision(demo.vision)), encoders.vision_of(core)
    pixels = torch.cat([theirs.network.blank(), torch.randn(1, 3, 224, 224)])
    assert torch.equal(theirs.network.blank(), ours.network.blank())
    for found, expected in zip(theirs.network.encode(pixels), ours.network.encode(pixels), strict=True):
        torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-4)
    assert core.asked == [((2, 3, 224, 224), -2)] and theirs.network.config.image_size == 224
    assert not theirs.managed and len(ours.managed) == 1


def test_combined_prompts_are_a_sentence(encoders):
    with pytest.raises(ValueError, match="negative: 2 prompts were combined, and one is taken"):
        encoders.text_of([[torch.zeros(1, 77, 4), {}]] * 2, "negative")


# ---- the real program's own encoders -------------------------------------------------------------------


@pytest.fixture
def real(comfy):
    if not comfy.real:
        pytest.skip("COMFYUI_PATH names no ComfyUI, whose own encoders this looks at")


def test_cores_own_vision_tower_gives_our_features(real, encoders, demo, tmp_path):
    """X-Dyna's unconditional picture too, which core's encode_image would round to 8 bits."""
    import json
    from dataclasses import asdict

    from comfy.clip_vision import ClipVisionModel

    config = tmp_path / "config.json"
    config.write_text(
        json.dumps({**asdict(demo.vision.config), "num_channels": 3, "model_type": "clip_vision_model"})
    )
    core = ClipVisionModel(str(config))
    missing, unexpected = core.load_sd(demo.vision.network.state_dict())
    assert not missing and all("position_ids" in name for name in unexpected)
    network = encoders.vision_of(core).network
    pixels = torch.cat(
        [network.blank(), torch.randn(2, 3, 224, 224, generator=torch.Generator().manual_seed(1))]
    )
    for found, expected in zip(network.encode(pixels), demo.vision.encode(pixels), strict=True):
        torch.testing.assert_close(found, expected, atol=2e-5, rtol=1e-4)


def test_cores_own_autoencoder_gives_our_mean(real, encoders):
    from comfy.sd import VAE
    from xdyna_unianimate.video_core.vae import Vae, VaeConfig, ldm_name

    torch.manual_seed(4)
    ours = Vae(VaeConfig(block_out_channels=(32, 32, 64, 64), layers_per_block=1, norm_num_groups=32)).eval()
    tensors = {
        ldm_name(name, 4): value[..., None, None]
        if "attn_1" in ldm_name(name, 4) and value.ndim == 2
        else value
        for name, value in ours.network.state_dict().items()
    }
    shape = {
        "z_channels": 4,
        "resolution": 256,
        "in_channels": 3,
        "out_ch": 3,
        "ch": 32,
        "ch_mult": [1, 1, 2, 2],
    }
    rest = {"double_z": True, "num_res_blocks": 1, "attn_resolutions": [], "dropout": 0.0}
    core = VAE(sd=tensors, config={"params": {"ddconfig": {**shape, **rest}, "embed_dim": 4}})
    network = encoders.vae_of(core).network
    mean = ours.encode(pictures(2))
    torch.testing.assert_close(network.encode(pictures(2)), mean, atol=2e-5, rtol=1e-4)
    assert network.encode_posterior(pictures(2)).std is None
    torch.testing.assert_close(
        next(network.decode(mean)), torch.cat(list(ours.decode(mean))), atol=2e-5, rtol=1e-4
    )
