"""The demo's networks: the project's own classes at small widths (fp16: under 40 MB for everything)."""

from __future__ import annotations

from pathlib import Path

from ..unianimate_core.config import UniAnimateConfig

WEIGHTS = Path(__file__).parent / "weights"

RESOLUTION = (128, 192)
"""Width and height in pixels that the demo's networks were trained at."""

AUTOENCODER = {
    "block_out_channels": (16, 48, 96, 128),
    "layers_per_block": 1,
    "norm_num_groups": 8,
    "sample_size": 192,
}
"""``VaeConfig`` fields; the latents' own mean and deviation are added when the training has measured them."""

CONTEXT = 64
"""Width of text and image tokens."""

UNIANIMATE = UniAnimateConfig(
    dim=64,
    dim_mult=(1, 1, 2),
    num_res_blocks=1,
    head_dim=32,
    num_heads=2,
    context_dim=CONTEXT,
)

VISION = {
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "image_size": 224,
    "patch_size": 32,
    "projection_dim": CONTEXT,
    "hidden_act": "gelu",
}
"""Fields of transformers' CLIPVisionConfig."""

TEXT = {
    "vocab_size": 258,
    "bos_token_id": 256,
    "eos_token_id": 257,
    "hidden_size": CONTEXT,
    "intermediate_size": 128,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "max_position_embeddings": 77,
    "hidden_act": "gelu",
}
"""Fields of transformers' CLIPTextConfig; a token is a byte, 256 and 257 begin and end."""
