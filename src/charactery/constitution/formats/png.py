"""PNG files as lists of chunks: text in and out without touching the pixels.

Format: PNG specification (w3.org/TR/png), sections 5 and 11.3.3. Pillow does not read or rewrite pictures here, since a
re-save drops chunks that it does not know.
"""

import struct
import zlib

from charactery.errors import BadData

SIGNATURE = b"\x89PNG\r\n\x1a\n"
MAX_TEXT = 20_000_000  # bytes of one text chunk, unpacked; far above any card

Chunk = tuple[bytes, bytes]  # type of four letters, data


def chunks(data: bytes, path: object = None) -> list[Chunk]:
    """The chunks of a PNG file, IEND included. Raises BadData for a file that is cut short or damaged."""
    where = str(path) if path else None
    if not data.startswith(SIGNATURE):
        raise BadData("is not a PNG file", where)
    found: list[Chunk] = []
    at = len(SIGNATURE)
    while not found or found[-1][0] != b"IEND":
        if at + 8 > len(data):
            raise BadData("is cut short: the picture has no end. Download or copy it again", where)
        (length,), kind = struct.unpack(">I", data[at : at + 4]), data[at + 4 : at + 8]
        end = at + 12 + length
        if end > len(data):
            raise BadData("is cut short inside the picture. Download or copy it again", where)
        body = data[at + 8 : end - 4]
        if struct.unpack(">I", data[end - 4 : end]) != (zlib.crc32(kind + body),):
            name = kind.decode("ascii", "replace")
            raise BadData(f"is damaged (the checksum of its {name} part is wrong). Download or copy it again", where)
        found.append((kind, body))
        at = end
    return found


def join(parts: list[Chunk]) -> bytes:
    """A PNG file from its chunks."""
    out = [SIGNATURE]
    for kind, body in parts:
        out.append(struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body)))
    return b"".join(out)


def keyword(chunk: Chunk) -> str:
    """The keyword of a text chunk, empty for other chunks."""
    kind, body = chunk
    return body.split(b"\0", 1)[0].decode("latin-1") if kind in (b"tEXt", b"zTXt", b"iTXt") else ""


def text(chunk: Chunk, path: object = None) -> bytes:
    """The text of a tEXt, zTXt or iTXt chunk. Raises BadData where it unpacks to more than MAX_TEXT."""
    kind, body = chunk
    rest = body.partition(b"\0")[2]
    if kind == b"tEXt":
        return rest
    if kind == b"zTXt":
        return _unpack(rest[1:], path)
    packed, fields = rest[:1] == b"\1", rest[2:].split(b"\0", 2)  # flag, method, language, translated keyword
    if len(fields) != 3:
        raise BadData("holds a text part that is not in the PNG format. Export the card again", str(path))
    return _unpack(fields[2], path) if packed else fields[2]


def _unpack(data: bytes, path: object) -> bytes:
    """Deflated text, unpacked up to MAX_TEXT, so that a small file cannot fill the memory."""
    stream = zlib.decompressobj()
    try:
        out = stream.decompress(data, MAX_TEXT)
    except zlib.error:
        raise BadData("holds packed text that is damaged. Download or copy it again", str(path)) from None
    if not stream.eof:
        if len(out) >= MAX_TEXT:
            raise BadData(
                f"holds text that unpacks to more than {MAX_TEXT // 10**6} MB; no card is that large", str(path)
            )
        raise BadData("holds packed text that is cut short. Download or copy it again", str(path))
    return out


def with_texts(parts: list[Chunk], texts: dict[str, bytes]) -> list[Chunk]:
    """The chunks with these texts: each in the place of the old one of that keyword, else before the image data.

    Further chunks with such a keyword are left out, since readers differ in which of two they take.
    """
    out: list[Chunk] = []
    left = dict(texts)
    for part in parts:
        name = keyword(part)
        if name not in texts:
            out.append(part)
        elif name in left:
            out.append((b"tEXt", name.encode("latin-1") + b"\0" + left.pop(name)))
    at = next((n for n, part in enumerate(out) if part[0] in (b"IDAT", b"IEND")), len(out))
    return out[:at] + [(b"tEXt", name.encode("latin-1") + b"\0" + body) for name, body in left.items()] + out[at:]
