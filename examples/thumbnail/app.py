"""Makes a thumbnail of a JPEG, by way of /tmp as an image pipeline does.

Event: ``{"image": base64 of a JPEG}`` or ``{"key": path inside the deployment package}``, and ``"width"`` in pixels.
"""

import base64
import binascii
import tempfile
from pathlib import Path
from typing import Any

from PIL import Image, ImageOps, UnidentifiedImageError

Image.preinit()  # load the format drivers now: work done at import is paid once, not by the first invocation

TASK_ROOT = Path(__file__).resolve().parent
WIDTHS = range(16, 2049)
EXIF_ORIENTATION = 0x0112


def handler(event: dict[str, Any], context: Any) -> dict[str, Any]:
    width = event.get("width", 160)
    if type(width) is not int or width not in WIDTHS:
        raise ValueError(f"'width' is {width!r}; it must be a whole number from {WIDTHS.start} to {WIDTHS.stop - 1}")
    with tempfile.TemporaryDirectory(prefix="thumbnail-", dir="/tmp") as folder:
        upload, small = Path(folder, "upload.jpg"), Path(folder, "thumbnail.jpg")
        upload.write_bytes(jpeg(event))
        try:
            photo = Image.open(upload, formats=["JPEG"])
        except UnidentifiedImageError:
            raise ValueError("the image is not a JPEG") from None
        with photo:
            # Orientations 5 to 8 lie on their side, so there the height becomes the width. Shrinking comes before
            # turning: the JPEG decoder then skips most of the pixels.
            on_its_side = photo.getexif().get(EXIF_ORIENTATION, 1) >= 5
            original = photo.size[::-1] if on_its_side else photo.size
            photo.thumbnail((photo.width, width) if on_its_side else (width, photo.height))
            upright = ImageOps.exif_transpose(photo).convert("RGB")
            upright.save(small, "JPEG", quality=85, optimize=True)
        print(f"{original[0]}x{original[1]} -> {upright.width}x{upright.height}")
        return {
            "image": base64.b64encode(small.read_bytes()).decode(),
            "contentType": "image/jpeg",
            "width": upright.width,
            "height": upright.height,
            "bytes": small.stat().st_size,
            "original": {"width": original[0], "height": original[1], "bytes": upload.stat().st_size},
        }


def jpeg(event: dict[str, Any]) -> bytes:
    if "image" in event:
        try:
            return base64.b64decode(event["image"], validate=True)
        except (binascii.Error, TypeError, ValueError) as error:
            raise ValueError(f"'image' is not base64: {error}") from None
    if not isinstance(event.get("key"), str):
        raise ValueError("the event needs 'image' (a JPEG in base64) or 'key' (a file of the deployment package)")
    path: Path = (TASK_ROOT / event["key"]).resolve()
    if not path.is_relative_to(TASK_ROOT) or not path.is_file():
        raise ValueError(f"'key' is {event['key']!r}; the deployment package has no such file")
    return path.read_bytes()
