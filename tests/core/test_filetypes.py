"""Files are known by their beginnings, whole or cut short, and text by being text."""

import pytest

from tollway.core.filetypes import file_type, plain_text

FILES = [
    (b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR", "image/png"),
    (b"\xff\xd8\xff\xe0\0\x10JFIF", "image/jpeg"),
    (b"GIF89a\1\0", "image/gif"),
    (b"GIF87a\1\0", "image/gif"),
    (b"RIFF\x10\0\0\0WEBPVP8 ", "image/webp"),
    (b"RIFF\x10\0\0\0WAVEfmt ", "audio/wav"),
    (b"RIFF\x10\0\0\0AVI LIST", "video/x-msvideo"),
    (b"\0\0\0\x1cftypavif", "image/avif"),
    (b"\0\0\0\x1cftypheic", "image/heic"),
    (b"\0\0\0\x1cftypmif1", "image/heif"),
    (b"\0\0\0\x1cftypM4A ", "audio/mp4"),
    (b"\0\0\0\x1cftypqt  ", "video/quicktime"),
    (b"\0\0\0\x1cftypisom", "video/mp4"),
    (b"\x1aE\xdf\xa3\x01\0", "video/webm"),
    (b"\0\0\1\xba!", "video/mpeg"),
    (b"OggS\0\2", "audio/ogg"),
    (b"fLaC\0\0", "audio/flac"),
    (b"ID3\4\0\0", "audio/mpeg"),
    (b"\xff\xfb\x90\x64", "audio/mpeg"),
    (b"\xff\xf3\x40\xc0", "audio/mpeg"),
    (b"%PDF-1.7\n", "application/pdf"),
    (b"\xef\xbb\xbf\n%PDF-1.4", "application/pdf"),
    (b"x" * 1024 + b"%PDF-1.4", "application/pdf"),
]


@pytest.mark.parametrize(("data", "kind"), FILES)
def test_a_file_is_known_by_its_beginning(data, kind):
    assert file_type(data) == kind


@pytest.mark.parametrize(
    "data",
    [
        b"", b"\x89PNG", b"\xff\xd8", b"GIF88a", b"RIFF\x10\0\0\0", b"RIFF\x10\0\0\0XXXX", b"ftyp", b"<svg xmlns=''/>",
        b"<html>", b"BM\0\0", b"PK\3\4", b"{}", b"\xff\xf1\x50\x80", b"\xff\xfe<\0h\0", b"\xff\xff\xff\xff", b"\xff\xfb\x00",
        b"\xff\xfb\xf0", b"\xff\xfb\x9c", b"\xff\xeb\x90", b"\xff\xfb", b"x" * 1025 + b"%PDF-1.4", b"%PDF",
    ],
)  # fmt: skip
def test_what_is_not_known_is_not_guessed(data):
    assert file_type(data) == ""


@pytest.mark.parametrize(
    ("data", "family", "kind"),
    [
        (b"\0\0\0\x1cftypisom", "audio", "audio/mp4"),
        (b"\0\0\0\x1cftypM4A ", "video", "video/mp4"),
        (b"\x1aE\xdf\xa3", "audio", "audio/webm"),
        (b"OggS", "video", "video/ogg"),
        (b"\0\0\0\x1cftypisom", "image", "video/mp4"),
        (b"\x89PNG\r\n\x1a\n", "audio", "image/png"),
    ],
)
def test_a_container_of_either_is_of_the_family_asked_for(data, family, kind):
    assert file_type(data, family) == kind


@pytest.mark.parametrize(
    ("data", "text"),
    [
        (b"a,b\r\n1,2\n", "a,b\r\n1,2\n"),
        ("grün\t€".encode(), "grün\t€"),
        (b"\xef\xbb\xbftext", "text"),
        (b"", ""),
        (b"\xff\xfe", None),
        (b"a\0b", None),
        (b"\x7fELF", None),
        ("grün".encode("latin-1"), None),
    ],
)
def test_text_is_utf8_without_control_characters(data, text):
    assert plain_text(data) == text
