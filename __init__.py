"""X-Dyna and UniAnimate for ComfyUI: what ComfyUI imports when it loads the pack.

Outside ComfyUI (tests, the command line, other people's code) this is the package ``xdyna_unianimate``
and importing it has no effect.
"""

import importlib.util

WEB_DIRECTORY = "./web"

if __package__ and importlib.util.find_spec("folder_paths"):
    from .nodes import comfy_entrypoint

    __all__ = ["WEB_DIRECTORY", "comfy_entrypoint"]
else:
    __all__ = ["WEB_DIRECTORY"]
