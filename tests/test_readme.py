"""The README names every file, command and option as they are."""

from __future__ import annotations

import argparse
import re
from pathlib import Path

import pytest
from xdyna_unianimate.app import models
from xdyna_unianimate.app.cli import COMMANDS, build_parser

TEXT = (Path(__file__).resolve().parents[1] / "README.md").read_text(encoding="utf-8")


def section(title: str) -> str:
    return TEXT.split(f"\n## {title}\n")[1].split("\n## ")[0]


def options_of(name: str) -> set[str]:
    actions = build_parser()._actions
    commands = next(action for action in actions if isinstance(action, argparse._SubParsersAction))
    return set(commands.choices[name]._option_string_actions)


@pytest.mark.parametrize("file", [file for file in models.FILES if file.group], ids=lambda file: file.name)
def test_a_model_file_stands_with_folder_terms_and_page(file):
    (row,) = [
        line
        for line in section("Model files").splitlines()
        if line.startswith("|") and f"`{file.name}`" in line
    ]
    folders = row.split("|")[4]
    assert all(
        f"`{name}`" in folders for name in (file.folder, *(n for n in file.also if n in ("ipadapter", "vae")))
    )
    assert file.page in section("Model files")
    if file.size:
        assert f"{file.size / 1e9:.1f}" in row


@pytest.mark.parametrize("name", [command.name for command in COMMANDS])
def test_a_command_has_a_row_and_its_options_exist(name):
    rows = [line for line in section("Command line").splitlines() if re.match(rf"\| `{name}\b", line)]
    assert rows, f"README's table of commands lacks {name}"
    for row in rows:
        assert set(re.findall(r"--[a-z][a-z-]+", row)) <= options_of(name)


def test_options_of_animate_that_people_ask_for_are_there():
    named = set(re.findall(r"--[a-z][a-z-]+", section("Command line")))
    wanted = {"--reference-person", "--face-video", "--drawn", "--width", "--height", "--fuse"}
    assert wanted <= named and wanted <= options_of("animate")
