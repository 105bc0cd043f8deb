"""What is there, what is missing, and the one node that fetches it when it is told to."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import TYPE_CHECKING

from ..app import models
from . import host, page, paths
from .api import LACKS, io, schema, ui

if TYPE_CHECKING:
    from ..app.download import Item
    from ..app.hashes import HashBook


class Doctor(io.ComfyNode):
    """The command ``doctor`` on the canvas."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema(
            "Doctor",
            display_name="Doctor",
            menu="tools",
            description="Says what is installed, which pose backend is used and on what it runs, which model files "
            "were found with hash and licence, how much memory is free, what is missing, and the command that "
            "mends it. Fetches nothing.",
            inputs=[
                io.Boolean.Input(
                    "hashes",
                    default=False,
                    tooltip="Read big model files whole for their sha256; remembered until the file changes.",
                ),
            ],
            outputs=[
                io.String.Output(display_name="report", tooltip="The findings for a person."),
                io.String.Output(display_name="json", tooltip="The same for a script."),
            ],
            is_output_node=True,
            hidden=[io.Hidden.unique_id],
            search_aliases=["diagnose", "check install", "missing models", "versions"],
        )

    @classmethod
    def execute(cls, hashes: bool) -> io.NodeOutput:
        from ..app import doctor
        from . import load

        found = doctor.examine(
            paths.everywhere(), hashes, host=host.machine(), host_folder=paths.user_folder()
        )
        nodes, left_out = load()
        found |= {"nodes_left_out": left_out, "nodes_that_lack": (lacking := _lacking(nodes))}
        text = "\n".join(
            [
                *doctor.lines(found),
                *(f"Nodes left out: {name}: {why}" for name, why in left_out.items()),
                *(f"Cannot run: {title}" for title in lacking),
            ]
        )
        # The node shows a few lines unless it is made larger: what to do comes first there.
        page.say("\n".join([*found["advice"], "", text]), cls.hidden.unique_id)
        return io.NodeOutput(text, json.dumps(found, indent=1, default=str), ui=ui.PreviewText(text))

    @classmethod
    def fingerprint_inputs(cls, **inputs: bool) -> float:
        """Never the same: the machine may have changed."""
        return float("nan")


def _lacking(nodes: Sequence[type[io.ComfyNode]]) -> list[str]:
    """Titles of the nodes that lack a library; each says which."""
    titles = (node.define_schema().display_name for node in nodes)
    return [title for title in titles if title.endswith(LACKS)]


class DownloadModels(io.ComfyNode):
    """The command ``download`` on the canvas, switched off until somebody switches it on."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema(
            "DownloadModels",
            display_name="Download models",
            menu="tools",
            description="Lists the published files of a system with size, licence and place, and fetches them into "
            "ComfyUI's models folder if its switch is on. Goes on after an interruption, and checks size and sha256.",
            inputs=[
                io.Combo.Input(
                    "files",
                    options=[*models.GROUPS, *(file.name for file in models.FILES)],
                    default="dwpose",
                    tooltip="A system, the pose detector, or one file.",
                ),
                io.Boolean.Input(
                    "download",
                    default=False,
                    tooltip="Off: only say what would be fetched. On: fetch it, which may be many gigabytes.",
                ),
                io.Boolean.Input(
                    "accept_licence",
                    default=False,
                    tooltip="On: you have read the terms on the files' pages and accept them. Needed for files that "
                    "their authors limit to research.",
                ),
            ],
            outputs=[
                io.String.Output(display_name="report", tooltip="Every file, its licence and its place.")
            ],
            is_output_node=True,
            hidden=[io.Hidden.unique_id],
            search_aliases=["fetch weights", "huggingface", "modelscope"],
        )

    @classmethod
    def execute(cls, files: str, download: bool, accept_licence: bool) -> io.NodeOutput:
        from ..app import download as fetching
        from ..app.hashes import HashBook
        from ..app.state import place

        everywhere = paths.everywhere()
        items = fetching.plan([files], everywhere[0], everywhere)
        lines = [item.line() for item in items]
        if download:
            fetching.check_licences(items, accept_licence)
            book = HashBook.at(place(paths.user_folder()))
            lines += [f"Ready: {_fetched(item, book)}" for item in items]
        else:
            lines.append("Nothing was fetched; switch `download` on to do so.")
        text = "\n".join(lines)
        page.say(text, cls.hidden.unique_id)
        return io.NodeOutput(text, ui=ui.PreviewText(text))

    @classmethod
    def fingerprint_inputs(cls, **inputs: object) -> float:
        """Never the same: files come and go."""
        return float("nan")


def _fetched(item: Item, book: HashBook) -> str:
    """Where the file lies afterwards; the bar counts megabytes, cancel keeps what came."""
    from ..app import download

    step = host.progress(1)
    done = download.download(
        item, on_bytes=lambda done, total: step(done >> 20, (total or done) >> 20 or 1), book=book
    )
    return str(done)


NODES = (Doctor, DownloadModels)
