"""Makes a PNG thumbnail of an image that arrives as base64 in the event.

Owns the function's one step, event to answer; it keeps no file and no state.
A bad event ends in InvalidRequest, whose text names the field, so that the
caller can tell it from a fault of the function.
"""

import base64
import binascii
import io

from PIL import Image, UnidentifiedImageError

LONGEST_SIDE = 1024  # pixels; keeps the answer far below the 6 MiB of a synchronous response
MOST_PIXELS = 32_000_000  # 4 bytes each while decoded: a quarter of the function's memory
DEFAULT_WIDTH = 128  # pixels
FORMATS = ("PNG", "JPEG", "GIF", "WEBP")

# Pillow's own limit ends in a warning or an error without a field; opened() checks instead.
Image.MAX_IMAGE_PIXELS = None


class InvalidRequest(ValueError):
    """The event cannot be served; the message names the field and what to send."""


def handler(event, context):
    if not isinstance(event, dict):
        raise InvalidRequest("event: must be an object with the field image")
    width = side(event, "width", DEFAULT_WIDTH)
    with opened(event) as image:
        height = side(event, "height", scaled_height(image.size, width))
        original = {"width": image.width, "height": image.height}
        shrink(image, width, height)
        return {
            "image": base64.b64encode(as_png(image)).decode("ascii"),
            "format": "PNG",
            "width": image.width,
            "height": image.height,
            "original": original,
        }


def side(event, field, default):
    value = event.get(field, default)
    if type(value) is not int or not 1 <= value <= LONGEST_SIDE:
        raise InvalidRequest(
            f"{field}: must be a whole number of pixels from 1 to {LONGEST_SIDE}, got {value!r}"
        )
    return value


def opened(event):
    encoded = event.get("image")
    if not isinstance(encoded, str):
        raise InvalidRequest("image: must be the image file as a base64 string")
    try:
        file = io.BytesIO(base64.b64decode(encoded, validate=True))
        image = Image.open(file, formats=FORMATS)
    except binascii.Error as error:
        raise InvalidRequest(f"image: is not base64: {error}") from error
    except UnidentifiedImageError as error:
        raise InvalidRequest(f"image: is in none of the formats {', '.join(FORMATS)}") from error
    # Only the header has been read so far: refuse a huge image before it fills the memory.
    if image.width * image.height > MOST_PIXELS:
        raise InvalidRequest(
            f"image: has {image.width} x {image.height} pixels, send at most {MOST_PIXELS} in all"
        )
    return image


def scaled_height(size, width):
    original_width, original_height = size
    return min(LONGEST_SIDE, max(1, round(original_height * width / original_width)))


def shrink(image, width, height):
    try:
        image.thumbnail((width, height))
    except OSError as error:
        raise InvalidRequest(f"image: cannot be decoded: {error}") from error


def as_png(image):
    # Palettes, CMYK and the like become what PNG holds; transparency stays.
    mode = "RGBA" if image.has_transparency_data else "RGB"
    target = io.BytesIO()
    image.convert(mode).save(target, "PNG", optimize=True)
    return target.getvalue()
