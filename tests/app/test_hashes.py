"""Hashes are computed once, and again when the file changes."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import pytest
from xdyna_unianimate.app import hashes
from xdyna_unianimate.app.hashes import HashBook


@pytest.fixture
def book(tmp_path: Path) -> HashBook:
    return HashBook.at(tmp_path / "cache 模型")


def test_a_file_is_read_once(book, tmp_path, monkeypatch):
    file = tmp_path / "été.bin"
    file.write_bytes(b"weights")
    assert book.known(file) is None
    assert book.of(file) == hashlib.sha256(b"weights").hexdigest()
    monkeypatch.setattr(hashes, "content_of", lambda _: pytest.fail("it was read again"))
    assert book.of(file) == HashBook(book.file).known(file) == hashlib.sha256(b"weights").hexdigest()


def test_a_changed_file_is_read_again_and_forgotten_ones_are_dropped(book, tmp_path):
    first, second = tmp_path / "a", tmp_path / "b"
    first.write_bytes(b"one"), second.write_bytes(b"two")
    book.of(first), book.of(second)
    first.write_bytes(b"One")
    os.utime(first, (1, 1))
    assert book.known(first) is None and book.of(first) == hashlib.sha256(b"One").hexdigest()
    second.unlink()
    book.put(first, "x")
    assert len(book._entries()) == 1


@pytest.mark.parametrize("content", [b"not json", b"[]", b"\xff"])
def test_a_broken_book_is_an_empty_one(book, tmp_path, content):
    file = tmp_path / "a"
    file.write_bytes(b"one")
    book.file.parent.mkdir()
    book.file.write_bytes(content)
    assert book.of(file) == hashlib.sha256(b"one").hexdigest() == book.known(file)


def test_a_place_that_cannot_be_written_costs_time_only(tmp_path):
    blocked = tmp_path / "a file"
    blocked.write_bytes(b"one")
    assert HashBook.at(blocked).of(blocked) == hashlib.sha256(b"one").hexdigest()
