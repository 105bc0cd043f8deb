"""Malformed and odd media, made by a script: every entry is a path that somebody might choose in a loader."""

from __future__ import annotations

import io
import os
import struct
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import numpy as np
from PIL import Image

from ..video_core import media

WORKS, REFUSED, EITHER = "works", "refused", "either"

PINNED = {"a format that is not taken"}
"""Cases that the short version tries too, because no other shows that their guard stands."""

SECRET = "elsewhere"
"""The folder that playlists and references point into; nobody may open anything in it."""


@dataclass(frozen=True)
class Odd:
    """A case. expect: WORKS, REFUSED, or EITHER where both are right; pixels: of a size that may be claimed."""

    name: str
    path: Path
    expect: str = EITHER
    pixels: int = 0


class Zoo:
    """Cases that lie in a folder of their own each, so that file names can be what they like."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.cases: list[Odd] = []
        self.secret = folder / SECRET
        self.secret.mkdir()
        (self.secret / "secret.mp4").write_bytes(media.encoded(media.clip(3)))
        (self.secret / "secret.png").write_bytes(png(8, 8))

    def place(self) -> Path:
        """A new folder."""
        place = self.folder / f"{len(self.cases):04d}"
        place.mkdir()
        return place

    def path(self, name: str, path: Path, expect: str = EITHER, pixels: int = 0) -> None:
        self.cases.append(Odd(name, path, expect, pixels))

    def file(self, name: str, file: str, content: bytes, expect: str = EITHER, pixels: int = 0) -> None:
        path = self.place() / file
        path.write_bytes(content)
        self.path(name, path, expect, pixels)


def zoo(folder: Path, cuts: int, flips: int) -> list[Odd]:
    """All cases; every format is cut at ``cuts`` places and damaged ``flips`` times."""
    made = Zoo(folder)
    for add in (add_formats, add_pictures, add_giants, add_playlists, add_places, add_folders, add_strangers):
        add(made)
    for kind, content in whole_files().items():
        add_cut(made, kind, content, cuts)
        add_damaged(made, kind, content, flips)
    add_unlisted(made)
    return made.cases


# ---- honest, but odd -----------------------------------------------------------------------------------


def add_formats(made: Zoo) -> None:
    clip, encoded = media.clip, media.encoded
    tenbit = [frame.astype(np.uint16) * 257 for frame in clip(3)]
    videos: dict[str, tuple[str, Callable[[], bytes]]] = {
        "odd sizes": ("odd.mkv", lambda: encoded(clip(3, 63, 47), "matroska", "ffv1", "bgra")),
        "one pixel": ("one.mkv", lambda: encoded(clip(2, 1, 1), "matroska", "ffv1", "bgra")),
        "10 bits": ("ten.mp4", lambda: encoded(tenbit, "mp4", "libx264", "yuv420p10le")),
        "16 bits": ("sixteen.mkv", lambda: encoded(tenbit, "matroska", "ffv1", "gbrp16le")),
        "4:4:4": ("full.mp4", lambda: encoded(clip(3), "mp4", "libx264", "yuv444p")),
        "grey": ("grey.mkv", lambda: encoded(clip(3), "matroska", "ffv1", "gray")),
        "16 bit grey": ("grey16.mkv", lambda: encoded(tenbit, "matroska", "ffv1", "gray16le")),
        "alpha": ("alpha.mkv", lambda: encoded(clip(3), "matroska", "ffv1", "yuva420p")),
        "alpha in webm": ("alpha.webm", lambda: encoded(clip(3), "webm", "libvpx-vp9", "yuva420p")),
        "motion JPEG": ("m.avi", lambda: encoded(clip(3), "avi", "mjpeg", "yuvj420p")),
        "MPEG-2 stream": ("m.ts", lambda: encoded(clip(30), "mpegts", "mpeg2video", fps=25)),
        "raw H.264": ("m.h264", lambda: encoded(clip(3), "h264")),
        "one frame": ("one.mp4", lambda: encoded(clip(1))),
        "with sound": ("sound.mp4", lambda: encoded(clip(6), sound=0.5)),
        "29.97": ("ntsc.mp4", lambda: encoded(clip(5), fps=Fraction(30000, 1001))),
        "variable rate": ("vfr.mkv", lambda: encoded(clip(5), "matroska", times=[0, 40, 400, 440, 900])),
        "a long pause": ("pause.mkv", lambda: encoded(clip(3), "matroska", times=[0, 40, 86_400_000])),
        "times that go back": (
            "back.mkv",
            lambda: going_back(encoded(clip(5), "matroska", times=[0, 40, 400, 440, 900])),
        ),
        "an unknown matrix": ("matrix.mp4", lambda: encoded(clip(3), matrix=11)),
        "a changed size": ("two.h264", lambda: encoded(clip(3), "h264") + encoded(clip(3, 96, 80), "h264")),
    }
    for turn in (0, 90, 180, 270, -90, 45):
        videos[f"turned by {turn}"] = f"turn{turn}.mp4", lambda turn=turn: encoded(clip(3), rotation=turn)
    for name, (file, content) in videos.items():
        made.file(name, file, content(), WORKS)
    for name, matrix in {
        "mirrored": (-1, 0, 0, 1),
        "flat matrix": (0, 0, 0, 0),
        "sheared": (1, 1, 1, 1),
    }.items():
        made.file(f"display matrix, {name}", "matrix.mp4", media.with_matrix(encoded(clip(3)), matrix), WORKS)
    wrong = {"named .png": "a.png", "named .txt": "a.txt", "without an ending": "a", "a pattern": "%03d.mp4"}
    for name, file in wrong.items():
        made.file(f"mp4 {name}", file, encoded(clip(3)), WORKS)
    made.file("sound alone", "sound.mp4", encoded([], sound=0.5), REFUSED)
    made.file("no frames", "none.mp4", without_frames(), REFUSED)
    made.file("no tracks", "tracks.mp4", b"\0\0\0\x14ftypisom\0\0\0\0isom\0\0\0\x08moov", REFUSED)


def going_back(whole: bytes) -> bytes:
    """A Matroska file whose frame at 400 ms says that it is shown at 20 ms."""
    at = whole.index(b"\x81" + struct.pack(">h", 400)) + 1
    return whole[:at] + struct.pack(">h", 20) + whole[at + 2 :]


def without_frames() -> bytes:
    """An mp4 that has a video track, whose samples are said to lie beyond its end."""
    whole = media.encoded(media.clip(3))
    at = whole.index(b"stco") + 12
    return whole[:at] + struct.pack(">I", len(whole) + 1000) + whole[at + 4 :]


def animated(kind: str, count: int = 5, **options: object) -> bytes:
    frames = [Image.fromarray(frame) for frame in media.clip(count)]
    stream = io.BytesIO()
    frames[0].save(stream, kind, save_all=True, append_images=frames[1:], **options)
    return stream.getvalue()


def still(kind: str, mode: str = "RGB", **options: object) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(media.quadrants()).convert(mode).save(stream, kind, **options)
    return stream.getvalue()


def add_pictures(made: Zoo) -> None:
    pictures = {
        "animated gif": ("a.gif", animated("GIF", duration=80)),
        "gif of uneven times": ("uneven.gif", animated("GIF", duration=[20, 200, 20, 500, 20])),
        "gif of no times": ("zero.gif", animated("GIF", duration=0)),
        "animated webp": ("a.webp", animated("WEBP", duration=80)),
        "webp of uneven times": ("uneven.webp", animated("WEBP", duration=[20, 200, 20, 500, 20])),
        "animated png": ("a.png", animated("PNG", duration=80)),
        "tiff of several pages": ("a.tif", animated("TIFF")),
        "gif named .mp4": ("gif.mp4", animated("GIF", duration=80)),
        "png named .mp4": ("png.mp4", png(64, 48)),
        "png named .jpg": ("png.jpg", png(64, 48)),
        "webp named .png": ("webp.png", animated("WEBP", duration=80)),
        "one pixel": ("one.png", png(1, 1)),
        "one row": ("row.png", png(5000, 1)),
        "CMYK": ("cmyk.jpg", still("JPEG", "CMYK")),
        "grey jpg": ("grey.jpg", still("JPEG", "L")),
        "palette": ("palette.png", still("PNG", "P", transparency=0)),
        "grey with alpha": ("la.png", still("PNG", "LA")),
        "alpha": ("rgba.png", still("PNG", "RGBA")),
        "one bit": ("bit.png", still("PNG", "1")),
        "LAB": ("lab.tif", still("TIFF", "LAB")),
        "32 bit integers": ("i.tif", still("TIFF", "I")),
        "floats": ("f.tif", still("TIFF", "F")),
        "YCbCr": ("y.tif", still("TIFF", "YCbCr")),
        "bmp": ("a.bmp", still("BMP")),
    }
    for name, (file, content) in pictures.items():
        made.file(name, file, content, WORKS)
    sixteen = io.BytesIO()
    Image.fromarray(np.arange(3072, dtype=np.uint16).reshape(48, 64) * 21).save(sixteen, "PNG")
    made.file("16 bit grey", "sixteen.png", sixteen.getvalue(), WORKS)
    nan = io.BytesIO()
    Image.fromarray(np.full((8, 8), np.nan, np.float32)).save(nan, "TIFF")
    made.file("NaN floats", "nan.tif", nan.getvalue())
    for number in (0, 3, 6, 8, 9, 65535):
        exif = Image.Exif()
        exif[0x112] = number
        made.file(f"EXIF orientation {number}", "turned.jpg", still("JPEG", exif=exif), WORKS)


# ---- claims --------------------------------------------------------------------------------------------


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def deflated(zeros: int) -> bytes:
    """So many zeros, compressed, without ever holding them."""
    packer, block = zlib.compressobj(1), bytes(1 << 20)
    blocks = [packer.compress(block) for _ in range(zeros >> 20)]
    return b"".join([*blocks, packer.compress(block[: zeros & ((1 << 20) - 1)]), packer.flush()])


def png(width: int, height: int, rows: int | None = None, *more: bytes) -> bytes:
    """A black PNG of that size which holds only so many of its rows."""
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    pixels = deflated((1 + 3 * width) * (height if rows is None else rows))
    parts = [chunk(b"IHDR", header), *more, chunk(b"IDAT", pixels), chunk(b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


def bmp(width: int, height: int) -> bytes:
    return b"BM" + struct.pack("<IHHIIiiHHI", 60, 0, 0, 54, 40, width, height, 1, 24, 0) + b"\0" * 40


def jpeg(width: int, height: int) -> bytes:
    whole = still("JPEG")
    at = whole.index(b"\xff\xc0") + 5
    return whole[:at] + struct.pack(">HH", height, width) + whole[at + 4 :]


def with_a_giant(side: int) -> bytes:
    """Two JPEGs in one file (MPO), the second of which claims a size."""
    whole = animated("MPO", 2)
    at = whole.index(b"\xff\xc0", whole.index(b"\xff\xc0") + 2) + 5
    return whole[:at] + struct.pack(">HH", side, side) + whole[at + 4 :]


def tiff(width: int, height: int) -> bytes:
    entries = [
        (256, 4, width),
        (257, 4, height),
        (258, 3, 8),
        (259, 3, 1),
        (262, 3, 1),
        (273, 4, 8),
        (279, 4, 9),
    ]
    packed = b"".join(struct.pack("<HHII", tag, kind, 1, value) for tag, kind, value in entries)
    return b"II*\0" + struct.pack("<IH", 8, len(entries)) + packed + b"\0\0\0\0" + b"\0" * 9


def raw_avi(width: int, height: int) -> bytes:
    """An AVI of raw video whose header claims a size."""
    whole = bytearray(media.encoded(media.clip(2), "avi", "rawvideo", "bgr24"))
    at = whole.index(b"strf") + 8
    whole[at + 4 : at + 12] = struct.pack("<ii", width, height)
    return bytes(whole)


def vp8(width: int, height: int) -> bytes:
    """An IVF file with an honest header, whose second key frame claims a size in its own header."""
    whole = media.encoded(media.clip(1), "ivf", "libvpx")
    frame = bytearray(whole[32:])
    at = frame.index(b"\x9d\x01\x2a") + 3
    frame[at : at + 4] = struct.pack("<HH", width, height)
    return whole + bytes(frame)


def add_giants(made: Zoo) -> None:
    for side in (100_000, 2**31 - 1):
        made.file(f"png claims {side}", "giant.png", png(side, side, 0), REFUSED)
        made.file(f"avi claims {side}", "giant.avi", raw_avi(side, side), REFUSED)
        made.file(f"bmp claims {side}", "giant.bmp", bmp(side, side), REFUSED)
        made.file(f"tiff claims {side}", "giant.tif", tiff(side, side), REFUSED)
    made.file("png claims 100,000 x 1,000", "wide.png", png(100_000, 1_000, 1), pixels=10**8)
    made.file("png named .mp4 claims 100,000", "giant.mp4", png(100_000, 100_000, 0), REFUSED)
    made.file("avi claims nothing", "none.avi", raw_avi(0, 0))
    made.file("avi claims less than nothing", "less.avi", raw_avi(-64, -48))
    made.file("jpg claims 65,535", "giant.jpg", jpeg(65_535, 65_535), REFUSED)
    made.file(
        "gif claims 65,535", "giant.gif", b"GIF89a" + struct.pack("<HH", 65535, 65535) + animated("GIF")[10:]
    )
    made.file("a second picture claims 13,000", "second.jpg", with_a_giant(13_000), WORKS)
    made.file("a frame claims 16,383", "grows.ivf", vp8(16_383, 16_383))
    text = chunk(b"zTXt", b"a\0\0" + deflated(300_000_000))
    profile = chunk(b"iCCP", b"a\0\0" + deflated(300_000_000))
    made.file("png with a text bomb", "text.png", png(64, 48, None, text))
    made.file("png with a profile bomb", "profile.png", png(64, 48, None, profile))
    boxes = b"\0\0\0\x14ftypisom\0\0\0\0isom" + struct.pack(">I4s", 0xFFFFFFF0, b"moov") + b"\0" * 64
    made.file("an mp4 box larger than its file", "box.mp4", boxes, REFUSED)
    nested = b"".join(struct.pack(">I4s", 8 * (2000 - depth), b"moov") for depth in range(2000))
    made.file("2000 boxes in each other", "nested.mp4", b"\0\0\0\x14ftypisom\0\0\0\0isom" + nested, REFUSED)


def add_unlisted(made: Zoo) -> None:
    """A container that FFmpeg reads gladly, as it does hundreds of others that are hardly tested."""
    bare = b"YUV4MPEG2 W64 H48 F12:1 Ip A1:1 C420jpeg\n" + 3 * (b"FRAME\n" + bytes(64 * 48 * 3 // 2))
    made.file("a format that is not taken", "a.y4m", bare, REFUSED)


# ---- files that name other files -----------------------------------------------------------------------


def add_playlists(made: Zoo) -> None:
    target = made.secret / "secret.mp4"
    hls = "#EXTM3U\n#EXT-X-VERSION:3\n#EXT-X-TARGETDURATION:9\n#EXTINF:9,\n{}\n#EXT-X-ENDLIST\n"
    key = '#EXTM3U\n#EXT-X-TARGETDURATION:9\n#EXT-X-KEY:METHOD=AES-128,URI="{}"\n#EXTINF:9,\na.ts\n#EXT-X-ENDLIST\n'
    dash = '<?xml version="1.0"?><MPD><Period><AdaptationSet><BaseURL>{}</BaseURL></AdaptationSet></Period></MPD>'
    texts = {
        "HLS": hls,
        "HLS with a key": key,
        "concat": "ffconcat version 1.0\nfile '{}'\n",
        "concat without a head": "file '{}'\nfile '{}'\n",
        "PLS": "[playlist]\nFile1={}\nNumberOfEntries=1\n",
        "M3U": "{}\n",
        "DASH": dash,
        "SMIL": '<smil><body><video src="{}"/></body></smil>',
        "ASX": '<asx version="3.0"><entry><ref href="{}"/></entry></asx>',
        "SVG": '<svg xmlns="http://www.w3.org/2000/svg"><image href="{}"/></svg>',
        "SDP": "v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nc=IN IP4 127.0.0.1\nm=video 9 RTP/AVP 96\na=rtpmap:96 H264/90000\n",
        "AVISynth": 'AVISource("{}")\n',
        "lavfi": "movie={}\n",
        "EPS": "%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n({}) (r) file\n",
    }
    for name, text in texts.items():
        for address in (str(target), f"file://{target}", "http://127.0.0.1:9/a.ts", "concat:/etc/passwd"):
            made.file(f"{name} to {address[:8]}", "clip.mp4", text.replace("{}", address).encode(), REFUSED)
    late = {"blanks": b" \r\n\t", "BOM": b"\xef\xbb\xbf", "a comment": b"# a\n", "64 blanks": b" " * 64}
    for name, start in late.items():
        made.file(f"HLS after {name}", "clip.mp4", start + hls.replace("{}", str(target)).encode(), REFUSED)
    made.file("HLS in UTF-16", "clip.mp4", hls.replace("{}", str(target)).encode("utf-16"), REFUSED)
    made.file("HLS named .m3u8", "clip.m3u8", hls.replace("{}", str(target)).encode(), REFUSED)
    made.file("external mp4 track", "clip.mp4", with_external_track(target))
    made.file("HLS named .png", "clip.png", hls.replace("{}", str(target)).encode(), REFUSED)


def with_external_track(target: Path) -> bytes:
    """An mp4 whose track says that its samples lie in another file (a data reference that is not 'self')."""
    whole = bytearray(media.encoded(media.clip(3)))
    at = whole.index(b"url \0\0\0\1")
    whole[at + 7] = 0
    return bytes(whole) + str(target).encode()


# ---- places --------------------------------------------------------------------------------------------


def add_places(made: Zoo) -> None:
    made.file("empty", "empty.mp4", b"", REFUSED)
    made.path("missing", made.place() / "missing.mp4", REFUSED)
    made.path("below a file", made.cases[0].path / "a.mp4", REFUSED)
    loop = made.place() / "loop.mp4"
    links = {"a link to itself": ("loop.mp4", loop), "a link to nothing": ("gone.mp4", Path("nothing.mp4"))}
    for name, (file, target) in links.items():
        path = loop.parent / file
        path.symlink_to(target)
        made.path(name, path, REFUSED)
    if hasattr(os, "mkfifo"):
        pipe = made.place() / "pipe.mp4"
        os.mkfifo(pipe)
        made.path("a pipe that nobody writes to", pipe, REFUSED)
    for device in ("/dev/zero", "/dev/null"):
        if Path(device).exists():
            made.path(device, Path(device), REFUSED)
    made.path("a name too long", made.place() / ("a" * 300 + ".mp4"), REFUSED)
    made.path("a zero in the name", made.place() / "a\0b.mp4", REFUSED)
    for file in ("кино 電影 🎬.mp4", "a\nb.mp4", "http:__a.mp4", "concat:a.mp4", "-i.mp4", "'quoted'.mp4"):
        made.file(f"named {file!r}", file, media.encoded(media.clip(2)), WORKS)


def add_folders(made: Zoo) -> None:
    def folder(name: str, files: dict[str, bytes], expect: str) -> Path:
        place = made.place()
        for file, content in files.items():
            (place / file).write_bytes(content)
        made.path(name, place, expect)
        return place

    folder("an empty folder", {}, REFUSED)
    folder("a folder of texts", {"a.txt": b"a", "b.mp4": b"b"}, REFUSED)
    folder("unsorted pictures", {f"{n}.png": png(8, 8) for n in (10, 9, 1, 100, 2)}, WORKS)
    folder(
        "pictures with raised numbers", {f"{n}.png": png(8, 8) for n in ("1²3", "2²", "³", "①", "٣")}, WORKS
    )
    folder("pictures and others", {"1.png": png(8, 8), "notes.txt": b"a", ".hidden": b"b"}, WORKS)
    folder("pictures of two sizes", {"1.png": png(8, 8), "2.png": png(9, 8)}, REFUSED)
    folder("a broken picture first", {"1.png": b"broken", "2.png": png(8, 8)}, REFUSED)
    folder("a broken picture last", {"1.png": png(8, 8), "2.png": b"broken"}, REFUSED)
    folder("an empty picture", {"1.png": png(8, 8), "2.png": b""}, REFUSED)
    folder("giants among pictures", {"1.png": png(8, 8), "2.png": png(100_000, 100_000, 0)}, REFUSED)
    folder("a folder named .png", {"1.png": png(8, 8)}, EITHER).joinpath("2.png").mkdir()
    place = folder("a picture that is a loop", {"1.png": png(8, 8)}, REFUSED)
    (place / "2.png").symlink_to(place / "2.png")
    if hasattr(os, "mkfifo"):
        os.mkfifo(folder("a picture that is a pipe", {"1.png": png(8, 8)}, REFUSED) / "2.png")
    loop = made.place()
    (loop / "inner").symlink_to(loop)
    made.path("a folder in itself", loop / "inner" / "inner", REFUSED)


def add_strangers(made: Zoo) -> None:
    rng = np.random.default_rng(5)
    contents = {
        "text": b"hello", "zeros": b"\0" * 100_000, "noise": rng.bytes(100_000), "a zip": b"PK\3\4" + b"\0" * 99,
        "html": b"<!doctype html><html>not found</html>", "json": b'{"a": 1}', "elf": b"\x7fELF" + b"\0" * 99,
        "a git pointer": b"version https://git-lfs.github.com/spec/v1\n", "pdf": b"%PDF-1.4\n",
        "wav head": b"RIFF\0\0\0\0WAVE", "srt": b"1\n00:00:01,000 --> 00:00:02,000\na\n",
        "ftyp only": b"\0\0\0\x14ftypisom\0\0\0\0isom", "ebml only": b"\x1aE\xdf\xa3", "png head": b"\x89PNG\r\n\x1a\n",
        "gif head": b"GIF89a", "jpg head": b"\xff\xd8\xff", "webp head": b"RIFF\x04\0\0\0WEBP", "bmp head": b"BM",
        "tiff head": b"II*\0", "avif head": b"\0\0\0\x1cftypavif", "one byte": b"\0",
    }  # fmt: skip
    for name, content in contents.items():
        made.file(name, "a.mp4", content, REFUSED)
        made.file(f"{name} as a picture", "a.png", content, REFUSED)
    for kind in ("ICO", "TGA", "PPM", "ICNS", "EPS", "PDF", "DDS", "SGI"):
        made.file(f"{kind}, not taken", "a.png", still(kind))


# ---- damage --------------------------------------------------------------------------------------------


def whole_files() -> dict[str, bytes]:
    """One file of every format that is cut and damaged; the ending is the key's last part."""
    clip, encoded = media.clip, media.encoded
    return {
        "h264.mp4": encoded(clip(6), sound=0.5),
        "h264.mkv": encoded(clip(6), "matroska"),
        "vp9.webm": encoded(clip(6), "webm", "libvpx-vp9"),
        "mjpeg.avi": encoded(clip(6), "avi", "mjpeg", "yuvj420p"),
        "mpeg2.ts": encoded(clip(6), "mpegts", "mpeg2video", fps=25),
        "animation.gif": animated("GIF", duration=80),
        "animation.webp": animated("WEBP", duration=80),
        "animation.png": animated("PNG", duration=80),
        "pages.tif": animated("TIFF"),
        "still.png": still("PNG"),
        "still.jpg": still("JPEG"),
        "still.bmp": still("BMP"),
    }


def add_cut(made: Zoo, kind: str, content: bytes, times: int) -> None:
    """Cut at the first bytes, at the last, and evenly in between."""
    places = np.unique(
        np.r_[1, len(content) - 1, np.linspace(2, len(content) - 2, max(times - 2, 1)).astype(int)]
    )
    for at in places:
        made.file(f"{kind} cut at {at}", kind, content[:at])


def add_damaged(made: Zoo, kind: str, content: bytes, times: int) -> None:
    rng = np.random.default_rng(11)
    for number in range(times):
        damaged = np.frombuffer(content, np.uint8).copy()
        hits = rng.integers(len(damaged), size=rng.integers(1, 12))
        damaged[hits] = rng.integers(256, size=len(hits))
        made.file(f"{kind} damaged {number}", kind, damaged.tobytes())
