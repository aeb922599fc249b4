#!/usr/bin/env python3
"""Makes small images of every kind, and what Pillow sees in them: the cases of crates/milwright/tests/images.rs.

    python3 scripts/images.py crates/milwright/tests/images        # Pillow 10 or newer, NumPy

pillow.npz has NAME.rgb (height x width x 3) and NAME.grey of each file NAME, as `convert` gives them after
`ImageOps.exif_transpose`; of 16 bits, which Pillow cuts off or does not convert, they are the nearest of 8 bits.
"""

import struct
import sys
import zlib
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

WIDTH, HEIGHT = 20, 12


def chunk(kind, data):
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png16(path, pixels, color_type):
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in pixels)
    header = struct.pack(">IIBBBBB", WIDTH, HEIGHT, 16, color_type, 0, 0, 0)
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b""))


def main():
    folder = Path(sys.argv[1])
    folder.mkdir(exist_ok=True)
    expected = {}
    y, x = np.mgrid[0:HEIGHT, 0:WIDTH]
    # No symmetry: every way to turn it shows. Smooth, so that JPEG keeps it.
    rgb = np.stack([x * 12 + 10, y * 18 + 20, 230 - x * 6 - y * 5], axis=-1).astype(np.uint8)
    image = Image.fromarray(rgb)
    grey = image.convert("L")
    alpha = Image.fromarray((x * 12).astype(np.uint8))

    image.save(folder / "rgb.png")
    grey.save(folder / "grey.png")
    image.convert("1").save(folder / "one_bit.png")
    image.quantize(16).save(folder / "palette.png")
    image.quantize(16).save(folder / "palette_transparent.png", transparency=3)
    Image.merge("RGBA", [*image.split(), alpha]).save(folder / "alpha.png")
    Image.merge("LA", [grey, alpha]).save(folder / "grey_alpha.png")
    quality = dict(quality=95, subsampling=0)
    image.save(folder / "rgb.jpg", **quality)
    image.save(folder / "progressive.jpg", progressive=True, **quality)
    grey.save(folder / "grey.jpg", **quality)
    image.convert("CMYK").save(folder / "cmyk.jpg", **quality)
    for orientation in range(1, 9):
        exif = Image.Exif()
        exif[0x0112] = orientation
        image.save(folder / f"exif_{orientation}.jpg", exif=exif, **quality)
    exif = Image.Exif()
    exif[0x0112] = 6
    image.save(folder / "exif_6.png", exif=exif)

    for path in [*sorted(folder.glob("*.png")), *sorted(folder.glob("*.jpg"))]:
        if "16" in path.name:
            continue
        turned = ImageOps.exif_transpose(Image.open(path))
        if "transparent" in path.name or turned.mode == "P":
            turned = turned.convert("RGB")
        expected[f"{path.name}.rgb"] = np.asarray(turned.convert("RGB"))
        expected[f"{path.name}.grey"] = np.asarray(turned.convert("L"))

    wide = rgb.astype(np.uint32) * 257 + (x * 7 + y * 11)[..., None] % 257
    wide = np.minimum(wide, 65535).astype(np.uint16)
    narrow = np.round(wide / 257).astype(np.uint8)
    png16(folder / "rgb16.png", wide, 2)
    expected["rgb16.png.rgb"] = narrow
    expected["rgb16.png.grey"] = np.asarray(Image.fromarray(narrow).convert("L"))
    one = wide[..., 0]
    png16(folder / "grey16.png", one, 0)
    one = np.round(one / 257).astype(np.uint8)
    expected["grey16.png.rgb"] = np.stack([one] * 3, axis=-1)
    expected["grey16.png.grey"] = one

    np.savez_compressed(folder / "pillow.npz", **expected)

    # What is refused.
    image.save(folder / "animated.gif", save_all=True, append_images=[image.rotate(180)])
    image.save(folder / "photo.webp", lossless=True)
    image.save(folder / "photo.bmp")


if __name__ == "__main__":
    main()
