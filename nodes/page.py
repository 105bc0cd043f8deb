"""What a node writes on the page beside its outputs."""

from __future__ import annotations

import sys


def say(text: str, node_id: str | None) -> None:
    """Text on a node of the running graph; nothing where there is no page (tests, scripts).

    A text in the node's ``ui`` is kept in the history, but the page draws it for core's own nodes alone.
    """
    server = getattr(sys.modules.get("server"), "PromptServer", None)
    page = getattr(server, "instance", None)
    if page is not None and node_id is not None:
        page.send_progress_text(text, node_id)
