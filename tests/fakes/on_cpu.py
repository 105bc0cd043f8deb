"""Starts ComfyUI with an option for small GPUs where there is none, which its command line refuses.

``python on_cpu.py MAIN OPTION ...``. Its memory management then takes the CPU for a GPU: it splits networks and
casts their layers one by one as the option has it.
"""

from __future__ import annotations

import importlib
import runpy
import sys
from pathlib import Path


def main(program: str, *options: str) -> None:
    sys.path.insert(0, str(Path(program).parent))
    sys.argv = [program, *options]
    importlib.import_module("comfy.options").enable_args_parsing()
    importlib.import_module("comfy.cli_args").args.cpu = True
    management = importlib.import_module("comfy.model_management")
    management.vram_state = management.set_vram_to
    management.is_device_cpu = lambda device: False
    runpy.run_path(program, run_name="__main__")


if __name__ == "__main__":
    main(*sys.argv[1:])
