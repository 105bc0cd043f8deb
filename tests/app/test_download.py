"""Fetching: asked for, resumed, checked, with terms accepted, and from a server on this machine only."""

from __future__ import annotations

import hashlib
import json
import shutil
import sys
import urllib.error
from collections import namedtuple
from dataclasses import replace
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest
from xdyna_unianimate.app import download, models
from xdyna_unianimate.app.cli import main
from xdyna_unianimate.app.download import Item, Remote
from xdyna_unianimate.app.hashes import HashBook

from ..fakes.hub import Hub, serving

CONTENT = bytes(range(256)) * 4096
DIGEST = hashlib.sha256(CONTENT).hexdigest()
NAME = "模型 été.onnx"
ROW = models.ModelFile(
    NAME, "a test", "dwpose", "MIT", models.DWPOSE_PAGE, len(CONTENT), DIGEST, group="dwpose"
)


@pytest.fixture
def hub(monkeypatch):
    monkeypatch.setattr(download, "PAUSE", 0.0)
    monkeypatch.setattr(download, "BLOCK", 1 << 16)
    with serving() as offering:
        yield offering


@pytest.fixture
def item(tmp_path: Path) -> Item:
    return Item(ROW, ROW.home(tmp_path / "models"))


def fetch(item: Item, hub: Hub, content: bytes = CONTENT, **known) -> Path:
    url = hub.offer("weights", content)
    return download.download(item, look_up=lambda _: Remote(url, **known))


def part_of(item: Item) -> Path:
    return item.target.with_name(f"{NAME}.part")


# ---- fetching ------------------------------------------------------------------------------------------


def test_a_file_comes_whole_into_its_place(item, hub):
    seen: list[tuple[int, int | None]] = []
    book = HashBook(item.target.parent / "book.json")
    url = hub.offer("weights", CONTENT)
    target = download.download(
        item, look_up=lambda _: Remote(url), on_bytes=lambda *n: seen.append(n), book=book
    )
    assert target == item.target and target.read_bytes() == CONTENT
    assert seen[-1] == (len(CONTENT), len(CONTENT)) and len(seen) >= 16
    assert book.known(target) == DIGEST
    assert not part_of(item).exists() and hub.agents == [download.AGENT]


def test_it_goes_on_where_an_earlier_run_stopped(item, hub):
    part_of(item).parent.mkdir(parents=True)
    part_of(item).write_bytes(CONTENT[:100_000])
    assert fetch(item, hub).read_bytes() == CONTENT
    assert hub.asked == ["bytes=100000-"]


def test_a_line_that_goes_dead_is_taken_up_again(item, hub):
    hub.breaks = [300_000, 300_000]
    assert fetch(item, hub).read_bytes() == CONTENT
    assert hub.asked == [None, "bytes=300000-", "bytes=600000-"]


def test_a_line_that_stays_dead_is_given_up_with_what_came(item, hub):
    hub.breaks = [300_000] + [0] * 20
    with pytest.raises(OSError, match="broke again and again.*keeps 0 MB; the same command goes on"):
        fetch(item, hub)
    assert part_of(item).read_bytes() == CONTENT[:300_000] and not item.target.exists()
    assert len(hub.asked) == 1 + download.ATTEMPTS - 1
    hub.breaks = []
    assert fetch(item, hub).read_bytes() == CONTENT


def test_a_server_that_cannot_go_on_begins_again(item, hub):
    hub.ranges, hub.breaks = False, [300_000]
    assert fetch(item, hub).read_bytes() == CONTENT


def test_who_stops_it_keeps_what_came(item, hub):
    def stop(done: int, total: int | None) -> None:
        if done > 200_000:
            raise KeyboardInterrupt

    url = hub.offer("weights", CONTENT)
    with pytest.raises(KeyboardInterrupt):
        download.download(item, look_up=lambda _: Remote(url), on_bytes=stop)
    kept = part_of(item).read_bytes()
    assert len(kept) > 200_000 and CONTENT.startswith(kept)
    assert fetch(item, hub).read_bytes() == CONTENT


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (CONTENT[:-1] + b"\0", f"sha256 .* instead of {DIGEST}"),
        (CONTENT + b"\0", f"{len(CONTENT) + 1} bytes instead of {len(CONTENT)}"),
    ],
)
def test_what_is_not_the_published_file_is_put_aside(item, hub, content, reason):
    with pytest.raises(ValueError, match=reason) as caught:
        fetch(item, hub, content)
    aside = item.target.with_name(f"{NAME}.wrong")
    assert aside.read_bytes() == content and str(aside) in str(caught.value) and ROW.page in str(caught.value)
    assert not item.target.exists() and not part_of(item).exists()
    assert fetch(item, hub).read_bytes() == CONTENT


def test_the_hub_s_hash_is_checked_where_the_table_knows_none(item, hub):
    unknown = replace(item, file=replace(ROW, size=None, sha256=None))
    with pytest.raises(ValueError, match="sha256"):
        fetch(unknown, hub, sha256="0" * 64)
    assert fetch(unknown, hub, size=len(CONTENT), sha256=DIGEST.upper()).read_bytes() == CONTENT


@pytest.mark.parametrize("known", [{"size": 5}, {"sha256": "0" * 64}])
def test_another_file_than_was_published_is_not_even_begun(item, hub, known):
    with pytest.raises(ValueError, match="now offers another"):
        fetch(item, hub, **known)
    assert hub.asked == []


def test_a_full_disk_is_seen_before_anything_comes(item, hub, monkeypatch):
    usage = namedtuple("usage", "total used free")
    free = download.RESERVE + len(CONTENT)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage(free, 0, free - 1))
    with pytest.raises(OSError, match="GB free.*free some space, or name another models folder"):
        fetch(item, hub)
    assert hub.asked == []
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage(free, 0, free))
    assert fetch(item, hub).exists()


def test_a_disk_that_fills_up_meanwhile_keeps_what_came(item, hub, monkeypatch):
    class Full:
        name = "x.part"

        def write(self, block: bytes) -> None:
            raise OSError(28, "No space left on device")

    with pytest.raises(OSError, match="disk is full.*goes on from there"):
        download._copy(SimpleNamespace(read=lambda _: b"x"), Full(), 0, None, lambda *_: None)


@pytest.mark.parametrize(("status", "asked"), [(404, 1), (403, 1), (503, download.ATTEMPTS)])
def test_a_refusal_is_a_sentence_and_an_overloaded_server_is_asked_again(item, hub, status, asked):
    hub.status = status
    with pytest.raises(OSError, match=str(status)):
        fetch(item, hub)
    assert len(hub.asked) == asked


def test_only_web_addresses_are_opened(item, tmp_path):
    secret = tmp_path / "secret"
    secret.write_bytes(CONTENT)
    with pytest.raises(ValueError, match="no web address"):
        download.download(item, look_up=lambda _: Remote(secret.as_uri()))


def test_nobody_there_is_a_sentence(item, monkeypatch):
    monkeypatch.setattr(download, "PAUSE", 0.0)
    with pytest.raises(OSError, match="broke again and again") as caught:
        download.download(item, look_up=lambda _: Remote("http://127.0.0.1:9/weights"))
    assert isinstance(caught.value.__cause__, urllib.error.URLError)


# ---- what is asked for ---------------------------------------------------------------------------------


def test_groups_and_names(tmp_path):
    assert models.GROUPS == ("unianimate", "xdyna", "dwpose")
    for group in models.GROUPS:
        assert {file.group for file in download.chosen([group])} == {group}
    assert [file.name for file in download.chosen(["DW-LL_ucoco.onnx"])] == ["dw-ll_ucoco.onnx"]
    assert len(download.chosen([*models.GROUPS, "yolox_l.onnx"])) == sum(bool(f.group) for f in models.FILES)
    with pytest.raises(ValueError, match="nothing called 'sora'"):
        download.chosen(["sora"])
    with pytest.raises(FileNotFoundError, match="is no folder"):
        download.plan(["dwpose"], tmp_path / "typo")


def test_the_groups_hold_all_that_a_system_needs():
    from xdyna_unianimate.app.networks import PARTS, _needed

    for system in PARTS:
        names = {file.name for file in download.chosen([system])}
        parts = [part for part in PARTS[system] if names & set(PARTS[system][part].names)]
        assert set(_needed(system, {})) <= set(parts)


def test_what_is_there_is_not_fetched_again(tmp_path, monkeypatch):
    monkeypatch.setattr(models, "FILES", (ROW,))
    elsewhere, home = tmp_path / "another pack", tmp_path / "models"
    elsewhere.mkdir(), home.mkdir()
    (elsewhere / NAME).write_bytes(b"half of it")
    assert download.plan(["dwpose"], home, [elsewhere])[0].found is None
    (elsewhere / NAME).write_bytes(CONTENT)
    found = download.plan(["dwpose"], home, [elsewhere])[0]
    assert found.found == elsewhere / NAME and download.download(found, look_up=pytest.fail) == found.found
    own = ROW.home(home)
    own.parent.mkdir()
    own.write_bytes(b"half of it")
    with pytest.raises(ValueError, match="10 bytes instead of"):
        download.plan(["dwpose"], home, [elsewhere])
    assert download.plan(["dwpose"], home, [elsewhere], overwrite=True) == [Item(ROW, own)]
    own.write_bytes(CONTENT)
    assert download.plan(["dwpose"], home)[0].found == own


def test_terms_are_asked_for_exactly_where_authors_limit_their_files(tmp_path):
    limited = {file.name for file in models.FILES if file.research_only}
    assert "unianimate_16f_32f_non_ema_223000.pth" in limited and "unet-checkpoint-epoch-5.ckpt" in limited
    for file in models.FILES:
        items = [Item(file, file.home(tmp_path))]
        download.check_licences(items, accepted=True)
        download.check_licences([replace(items[0], found=tmp_path)], accepted=False)
        if file.name in limited:
            with pytest.raises(ValueError, match="--accept-licence") as caught:
                download.check_licences(items, accepted=False)
            assert file.licence in str(caught.value) and file.page in str(caught.value)
        else:
            download.check_licences(items, accepted=False)


# ---- hubs ----------------------------------------------------------------------------------------------


@pytest.fixture
def huggingface(monkeypatch):
    """A fake library; what it lists can be changed."""
    listed = [
        SimpleNamespace(rfilename="README.md", size=9, lfs=None),
        SimpleNamespace(rfilename="deep/yolox_l.onnx", size=7, lfs=SimpleNamespace(sha256="ab" * 32)),
    ]

    class HfApi:
        def model_info(self, repository: str, *, files_metadata: bool) -> SimpleNamespace:
            assert (repository, files_metadata) == ("yzd-v/DWPose", True)
            return SimpleNamespace(siblings=listed)

    fake = ModuleType("huggingface_hub")
    fake.HfApi, fake.hf_hub_url = HfApi, lambda repository, path: f"https://hub/{repository}/{path}"
    monkeypatch.setitem(sys.modules, "huggingface_hub", fake)
    return SimpleNamespace(listed=listed, api=HfApi)


def test_huggingface_tells_place_size_and_hash(huggingface):
    row = models.described("yolox_l.onnx")
    assert download.look_up(row) == Remote("https://hub/yzd-v/DWPose/deep/yolox_l.onnx", 7, "ab" * 32)
    huggingface.listed.append(SimpleNamespace(rfilename="other/yolox_l.onnx", size=7, lfs=None))
    with pytest.raises(FileNotFoundError, match="lists 2 files"):
        download.look_up(row)
    exact = replace(row, remote="other/yolox_l.onnx")
    assert download.look_up(exact) == Remote("https://hub/yzd-v/DWPose/other/yolox_l.onnx", 7, None)
    with pytest.raises(FileNotFoundError, match="lists 0 files"):
        download.look_up(replace(row, name="gone.onnx"))


def test_the_real_library_still_has_what_is_called():
    import inspect

    hub = pytest.importorskip("huggingface_hub", reason="huggingface_hub is not installed")
    assert "files_metadata" in inspect.signature(hub.HfApi.model_info).parameters
    assert hub.hf_hub_url("a/b", "c/d.bin").endswith("a/b/resolve/main/c/d.bin")


def test_modelscope_tells_place_size_and_hash(monkeypatch):
    class HubApi:
        def get_model_files(self, repository: str, *, recursive: bool) -> list[dict]:
            assert (repository, recursive) == ("iic/unianimate", True)
            name = "open_clip_pytorch_model.bin"
            return [{"Path": name, "Type": "tree"}, {"Path": name, "Type": "blob", "Size": 5, "Sha256": "cd"}]

    root, hub, api, files = (ModuleType(name) for name in ("modelscope", "hub", "api", "file_download"))
    api.HubApi = HubApi
    files.get_file_download_url = lambda repository, path, revision: (
        f"https://ms/{repository}/{revision}/{path}"
    )
    for name, module in {"": root, ".hub": hub, ".hub.api": api, ".hub.file_download": files}.items():
        monkeypatch.setitem(sys.modules, f"modelscope{name}", module)
    found = download.look_up(models.described("open_clip_pytorch_model.bin"))
    assert found == Remote("https://ms/iic/unianimate/master/open_clip_pytorch_model.bin", 5, "cd")


@pytest.mark.parametrize("file", models.FILES, ids=lambda file: file.name)
def test_a_missing_library_is_named_with_the_way_around_it(file, monkeypatch):
    library = download.library_of(file)
    monkeypatch.setitem(sys.modules, library, None)
    with pytest.raises(ImportError, match=f"pip install {library}.*with a browser"):
        download.look_up(file)


def test_errors_of_whatever_http_library_become_a_sentence(huggingface, monkeypatch):
    class Strange(Exception):
        pass

    def fail(*_: object, **__: object) -> None:
        raise Strange("no route")

    monkeypatch.setattr(huggingface.api, "model_info", fail)
    said = r"could not be asked for yolox_l.onnx \(no route\)\. Try again with .*browser and put it into .*dwpose\."
    with pytest.raises(OSError, match=said):
        download.look_up(models.described("yolox_l.onnx"))


# ---- the command ---------------------------------------------------------------------------------------


def test_the_command_lists_asks_fetches_and_reports(hub, tmp_path, monkeypatch, capsys):
    limited = replace(ROW, licence=models.RESEARCH_ONLY)
    monkeypatch.setattr(models, "FILES", (limited,))
    url = hub.offer("weights", CONTENT)
    monkeypatch.setitem(
        download.HUBS, "huggingface.co", download.Hub("huggingface_hub", lambda *_: Remote(url))
    )
    words = ["download", "dwpose", "--models", "模型 été"]
    assert main(words) == 1 and "is no folder" in capsys.readouterr().err
    Path("模型 été").mkdir()

    assert main([*words, "--dry-run", "--json"]) == 0
    listed = json.loads(capsys.readouterr().out)
    assert listed["files"][0]["licence"] == models.RESEARCH_ONLY and listed["fetched"] == []

    assert main(words) == 1 and "--accept-licence" in capsys.readouterr().err
    assert hub.asked == [] and not list(Path("模型 été").iterdir())

    assert main([*words, "--accept-licence", "--json"]) == 0
    said = capsys.readouterr()
    assert json.loads(said.out)["fetched"] == [str(Path("模型 été/dwpose") / NAME)]
    assert models.RESEARCH_ONLY in said.err
    assert Path("模型 été/dwpose", NAME).read_bytes() == CONTENT
    assert main(words) == 0 and len(hub.asked) == 1, "a second run fetches nothing"


def test_without_a_models_folder_it_is_a_wrong_use(capsys):
    assert main(["download", "dwpose"]) == 2
    assert "--models" in capsys.readouterr().err
