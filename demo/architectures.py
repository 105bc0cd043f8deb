"""The demo's networks: the project's own classes at small widths (fp16: under 40 MB for everything)."""

from __future__ import annotations

from ..unianimate_core.config import UniAnimateConfig
from ..video_core.clip import TextConfig, VisionConfig
from ..video_core.vae import VaeConfig
from ..xdyna_core.config import ControlNetConfig, ResamplerConfig, XDynaConfig

RESOLUTION = (128, 192)
"""Width and height in pixels that the demo's networks are made for."""

TOKEN = 64
"""Width of text and image tokens."""

AUTOENCODER = VaeConfig(
    block_out_channels=(64, 128),
    layers_per_block=1,
    norm_num_groups=8,
    sample_size=192,
    patch_size=4,  # at the same time of training 4 dB better than levels at full resolution
)

TEXT = TextConfig(
    vocab_size=258,  # a token is a byte; 256 and 257 begin and end
    hidden_size=TOKEN,
    intermediate_size=128,
    num_hidden_layers=2,
    num_attention_heads=4,
    start_id=256,
    end_id=257,
    padding_id=257,
)

VISION = VisionConfig(
    hidden_size=TOKEN,
    intermediate_size=128,
    num_hidden_layers=3,
    num_attention_heads=4,
    patch_size=32,
    projection_dim=TOKEN,
)

UNIANIMATE = UniAnimateConfig(
    dim=64,
    dim_mult=(1, 1, 2),
    num_res_blocks=1,
    head_dim=32,
    num_heads=2,
    context_dim=TOKEN,
    concat_dim=16,  # a first frame has to fit in beside the poses
)

XDYNA = XDynaConfig(
    block_out_channels=(64, 64, 64),
    attention_levels=(True, True, True),
    layers_per_block=1,
    cross_attention_dim=TOKEN,
    attention_heads=2,
    motion_heads=2,
)

CONTROL = ControlNetConfig(
    block_out_channels=XDYNA.block_out_channels,
    attention_levels=XDYNA.attention_levels,
    layers_per_block=1,
    cross_attention_dim=TOKEN,
    attention_heads=2,
    conditioning_embedding_out_channels=(8, 16, 24, 32),
)

RESAMPLER = ResamplerConfig(
    dim=TOKEN, depth=2, dim_head=32, heads=2, embedding_dim=VISION.hidden_size, output_dim=TOKEN
)
