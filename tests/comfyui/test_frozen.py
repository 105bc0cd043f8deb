"""The real server describes the pack as the golden file has it, on every version."""

from __future__ import annotations

from ..fakes import frozen


def test_the_server_tells_what_the_golden_file_holds(comfyui):
    assert frozen.of_server(comfyui.get("/object_info")) == frozen.read()
