"""ComfyUI for tests: stand-ins true in signature, or the real program where COMFYUI_PATH names it."""
