"""Parts of prompts that several tests run."""

from __future__ import annotations

from collections.abc import Mapping

from .executor import Prompt


def unianimate_told(network: str, told: str, noise: str, size: Mapping[str, int]) -> Prompt:
    """UniAnimate's conditioning and noise for the demo's pictures, whose skeletons are those pictures themselves.

    network, told, noise: ids of the loader that is there, and of the two nodes. size: their width and height. The
    prompt has ``clip``, ``vision`` and ``vae``, and Demo inputs as ``demo``.
    """
    conditioning = {
        "unianimate": [network, 0],
        "clip": ["clip", 0],
        "clip_vision": ["vision", 0],
        "vae": ["vae", 0],
        "reference": ["demo", 0],
        "poses": ["demo", 1],
        **size,
    }
    unified = {"noise_prior": -1, "offset_noise": 0.1, "flow": "short", "order": "per frame"}
    return {
        told: {"class_type": "XDUA_UniAnimateConditioning", "inputs": conditioning},
        noise: {"class_type": "XDUA_UnifiedNoise", "inputs": {"conditions": [told, 0], "seed": 1, **unified}},
    }
