"""Fetches published weight files, when asked and only then: the one module that touches the network.

A hub's own library (huggingface_hub, modelscope; neither is a requirement) says where a file lies, how
big it is and what its sha256 is; the bytes come by plain HTTP into ``<name>.part`` and go on from there
after an interruption. Only a file whose size and hash are right gets its name.
"""

from __future__ import annotations

import errno
import http.client
import shutil
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, BinaryIO
from urllib.parse import urlsplit

from . import models
from .hashes import HashBook
from .state import content_of

BLOCK = 1 << 20
RESERVE = 256 * 2**20
"""Bytes that a download leaves free on the disk."""

TIMEOUT = 60.0
ATTEMPTS = 5
PAUSE = 2.0
"""Seconds before the second attempt; doubled before each further one."""

AGENT = "xdyna-unianimate"
INTERRUPTIONS = (urllib.error.URLError, http.client.HTTPException, ConnectionError, TimeoutError)

OnBytes = Callable[[int, int | None], None]
"""(bytes done, bytes in all or None where nobody knows); may raise to stop, what is there stays."""


@dataclass(frozen=True)
class Remote:
    """Where a file can be fetched from, its size in bytes and its sha256, where the hub tells them."""

    url: str
    size: int | None = None
    sha256: str | None = None


@dataclass(frozen=True)
class Item:
    """A file that was asked for, where it goes, and where it lies already (None: nowhere)."""

    file: models.ModelFile
    target: Path
    found: Path | None = None

    def line(self) -> str:
        """What would be fetched, for a person."""
        if self.found is not None:
            return f"{self.file.name}: there already, {self.found}"
        size = f"{self.file.size / 1e6:,.0f} MB" if self.file.size else "size as its page says"
        return f"{self.file.name}: {size}, licence: {self.file.licence}; {self.file.page} -> {self.target}"


# ---- what is asked for ---------------------------------------------------------------------------------


def chosen(names: Iterable[str]) -> tuple[models.ModelFile, ...]:
    """The files of groups and of single names, each once. Raises ValueError for an unknown name."""
    found: dict[str, models.ModelFile] = {}
    for name in names:
        row = models.described(name)
        rows = [file for file in models.FILES if file.group == name] if name in models.GROUPS else [row]
        if rows == [None]:
            raise ValueError(
                f"There is nothing called {name!r} to fetch; say {', '.join(models.GROUPS)}, or one of "
                f"{', '.join(file.name for file in models.FILES)}."
            )
        found.update({file.name: file for file in rows})
    return tuple(found.values())


def plan(
    names: Iterable[str], home: Path, searched: Sequence[Path] = (), overwrite: bool = False
) -> list[Item]:
    """What is to be fetched into a models folder, and what need not be.

    searched: folders in which a file of the right size counts as there already, besides its own place.
    overwrite: fetch again what lies in its own place. Raises ValueError for a file of the wrong size there,
    and FileNotFoundError where there is no such models folder.
    """
    if not home.is_dir():
        raise FileNotFoundError(f"{home} is no folder; name ComfyUI's models folder, or make it first.")
    return [_item(file, file.home(home), searched, overwrite) for file in chosen(names)]


def _item(file: models.ModelFile, target: Path, searched: Sequence[Path], overwrite: bool) -> Item:
    if overwrite:
        return Item(file, target)
    if target.is_file():
        size = target.stat().st_size
        if file.size not in (None, size):
            raise ValueError(
                f"{target} has {size} bytes instead of {file.size}; move it away, or allow it to be overwritten."
            )
        return Item(file, target, target)
    hit = models.find(file.name, searched)
    right = hit is not None and file.size in (None, hit.stat().st_size)
    return Item(file, target, hit if right else None)


def check_licences(items: Iterable[Item], accepted: bool) -> None:
    """Raise ValueError where terms of research-only files were not accepted."""
    limited = [item.file for item in items if item.found is None and item.file.research_only]
    if limited and not accepted:
        terms = "; ".join(f"{file.name}: {file.licence} ({file.page})" for file in limited)
        raise ValueError(
            f"These files come with terms that are yours to accept: {terms}. Read them, then say so with "
            "--accept-licence (on the node: accept_licence)."
        )


# ---- hubs ----------------------------------------------------------------------------------------------


def look_up(file: models.ModelFile) -> Remote:
    """Ask the hub of the file's page where it lies. Raises ImportError or OSError with one sentence."""
    page = urlsplit(file.page)
    repository = page.path.removeprefix("/models").strip("/")
    try:
        return HUBS[page.netloc].ask(repository, file.remote or file.name)
    except (ImportError, FileNotFoundError):
        raise
    except Exception as error:
        # Each version of the hubs' libraries raises the errors of another HTTP library.
        reason = " ".join(str(error).split())[:300]
        raise OSError(
            f"{file.page} could not be asked for {file.name} ({reason}). Try again with a connection to it, or "
            f"fetch the file from there with a browser and put it into the models folder's {file.folder}."
        ) from error


def _huggingface(repository: str, name: str) -> Remote:
    try:
        from huggingface_hub import HfApi, hf_hub_url
    except ImportError as error:
        raise ImportError(_needed("huggingface_hub", repository)) from error
    known = HfApi().model_info(repository, files_metadata=True)
    listed = {entry.rfilename: entry for entry in known.siblings or ()}
    path = _named(name, listed, repository)
    stored: Any = listed[path].lfs
    return Remote(hf_hub_url(repository, path), listed[path].size, stored.sha256 if stored else None)


def _modelscope(repository: str, name: str) -> Remote:
    try:
        from modelscope.hub.api import HubApi
        from modelscope.hub.file_download import get_file_download_url
    except ImportError as error:
        raise ImportError(_needed("modelscope", repository)) from error
    entries = HubApi().get_model_files(repository, recursive=True)
    listed = {entry["Path"]: entry for entry in entries if entry.get("Type") != "tree"}
    path = _named(name, listed, repository)
    url = get_file_download_url(repository, path, "master")
    return Remote(url, listed[path].get("Size"), listed[path].get("Sha256"))


@dataclass(frozen=True)
class Hub:
    """The library that knows a hub, and the question where a file of a repository lies."""

    library: str
    ask: Callable[[str, str], Remote]


HUBS = {
    "huggingface.co": Hub("huggingface_hub", _huggingface),
    "modelscope.cn": Hub("modelscope", _modelscope),
}
"""By the host of a page."""


def library_of(file: models.ModelFile) -> str:
    """The package that fetching the file needs."""
    return HUBS[urlsplit(file.page).netloc].library


def _needed(package: str, repository: str) -> str:
    return (
        f"Fetching from {repository} needs the package {package}: pip install {package}. "
        "Or fetch the files from their page with a browser."
    )


def _named(name: str, listed: Iterable[str], repository: str) -> str:
    """The one path that is the name or ends in it."""
    paths = list(listed)
    hits = [path for path in paths if path == name] or [
        path for path in paths if PurePosixPath(path).name == name
    ]
    if len(hits) != 1:
        raise FileNotFoundError(
            f"{repository} lists {len(hits)} files {name!r} where one was expected; fetch it from its page."
        )
    return hits[0]


# ---- fetching ------------------------------------------------------------------------------------------


def download(
    item: Item,
    *,
    look_up: Callable[[models.ModelFile], Remote] = look_up,
    on_bytes: OnBytes | None = None,
    book: HashBook | None = None,
) -> Path:
    """Fetch one file into its place, or go on with it; returns where it lies.

    book: remembers the hash. Raises OSError where the disk or the connection does not suffice, ValueError
    where what came is not the published file; each says what is kept and what to do.
    """
    if item.found is not None:
        return item.found
    remote = _published(item.file, look_up(item.file))
    part = item.target.with_name(f"{item.target.name}.part")
    part.parent.mkdir(parents=True, exist_ok=True)
    _check_space(part, remote.size)
    _fetch(remote, part, on_bytes or (lambda done, total: None))
    digest = _verified(part, remote, item)
    part.replace(item.target)
    if book is not None:
        book.put(item.target, digest)
    return item.target


def _published(file: models.ModelFile, remote: Remote) -> Remote:
    """The remote with what the table knows; ValueError where the hub offers another file than was published."""
    if urlsplit(remote.url).scheme not in ("https", "http"):
        raise ValueError(f"{file.name} is offered at {remote.url}, which is no web address.")
    for what, known, offered in (
        ("bytes", file.size, remote.size),
        ("sha256", file.sha256, remote.sha256),
    ):
        if None not in (known, offered) and str(known).lower() != str(offered).lower():
            raise ValueError(
                f"{file.page} now offers another {file.name} than was published ({what} {offered} instead of "
                f"{known}); nothing was fetched."
            )
    return Remote(remote.url, file.size or remote.size, file.sha256 or remote.sha256)


def _check_space(part: Path, size: int | None) -> None:
    missing = (size or 0) - _size(part)
    free = shutil.disk_usage(part.parent).free
    if missing + RESERVE > free:
        raise OSError(
            f"{part.parent} has {free / 1e9:,.1f} GB free, but {part.stem} takes {missing / 1e9:,.1f} GB more; "
            "free some space, or name another models folder."
        )


def _fetch(remote: Remote, part: Path, on_bytes: OnBytes) -> None:
    """Bytes into the part until it is whole; it is given up after ``ATTEMPTS`` that brought nothing new."""
    failures, most = 0, _size(part)
    while True:
        try:
            _go_on(remote, part, on_bytes)
            return
        except urllib.error.HTTPError as error:
            if error.code < 500:
                raise OSError(f"{remote.url} was refused: HTTP {error.code} {error.reason}.") from error
            reason: Exception = error
        except INTERRUPTIONS as error:
            reason = error
        failures = 1 if _size(part) > most else failures + 1
        most = max(most, _size(part))
        if failures == ATTEMPTS:
            raise OSError(
                f"The connection to {urlsplit(remote.url).netloc} broke again and again ({reason}). {part} keeps "
                f"{_size(part) / 1e6:,.0f} MB; the same command goes on from there."
            ) from reason
        time.sleep(PAUSE * 2 ** (failures - 1))


def _go_on(remote: Remote, part: Path, on_bytes: OnBytes) -> None:
    """One request. Raises one of ``INTERRUPTIONS`` where the answer ends early."""
    done = _size(part)
    if remote.size is not None and done >= remote.size:
        return
    headers = {"User-Agent": AGENT, **({"Range": f"bytes={done}-"} if done else {})}
    with urllib.request.urlopen(
        urllib.request.Request(remote.url, headers=headers), timeout=TIMEOUT
    ) as response:
        resumes = response.status == http.HTTPStatus.PARTIAL_CONTENT
        length = response.headers.get("Content-Length")
        done = done if resumes else 0
        total = remote.size or (done + int(length) if length else None)
        with part.open("ab" if resumes else "wb") as file:
            done = _copy(response, file, done, total, on_bytes)
    if total is not None and done < total:
        raise ConnectionError(f"the answer ended after {done} of {total} bytes")


def _copy(response: Any, file: BinaryIO, done: int, total: int | None, on_bytes: OnBytes) -> int:
    while block := response.read(BLOCK):
        try:
            file.write(block)
            file.flush()
        except OSError as error:
            if error.errno != errno.ENOSPC:
                raise
            raise OSError(
                f"The disk is full; {file.name} keeps {done / 1e6:,.0f} MB. Free some space: the same command "
                "goes on from there."
            ) from error
        done += len(block)
        on_bytes(done, total)
    return done


def _verified(part: Path, remote: Remote, item: Item) -> str:
    """The file's sha256; what is not the published file is put aside, and ValueError says so."""
    size, digest = _size(part), content_of(part)
    wrong = []
    if remote.size not in (None, size):
        wrong.append(f"{size} bytes instead of {remote.size}")
    if remote.sha256 is not None and remote.sha256.lower() != digest:
        wrong.append(f"sha256 {digest} instead of {remote.sha256}")
    if wrong:
        aside = part.with_name(f"{item.target.name}.wrong")
        part.replace(aside)
        raise ValueError(
            f"What came is not the published {item.file.name}: {', '.join(wrong)}. It was put aside as {aside} and "
            f"is not used; run the same command again, or fetch the file from {item.file.page}."
        )
    return digest


def _size(part: Path) -> int:
    return part.stat().st_size if part.is_file() else 0
