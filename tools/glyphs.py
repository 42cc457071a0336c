"""Writes a digit as a mask: Pillow's bundled typeface, its bitmap font, or the strokes of a seven-segment display."""

import random

from PIL import Image, ImageDraw, ImageFont

# Segments as lines between corners of a box from (0, 0) to (1, 2), y pointing down, in the usual order a to g.
SEGMENTS = (
    ((0, 0), (1, 0)),
    ((1, 0), (1, 1)),
    ((1, 1), (1, 2)),
    ((0, 2), (1, 2)),
    ((0, 1), (0, 2)),
    ((0, 0), (0, 1)),
    ((0, 1), (1, 1)),
)
LIT = ("abcdef", "bc", "abged", "abgcd", "fgbc", "afgcd", "afgedc", "abc", "abcdefg", "abcdfg")


def write(rng: random.Random, value: int, width: int, height: int) -> Image.Image:
    """Return an "L" mask of `width` x `height` pixels with the digit in 255, slanted, turned and stretched a little."""
    style = rng.choice((typeface, typeface, typeface, bitmap, segments))
    ink = style(rng, value)
    ink = ink.crop(ink.getbbox())
    slant, turn = rng.uniform(-0.2, 0.2), rng.uniform(-12, 12)
    padding = ink.height // 3
    canvas = Image.new("L", (ink.width + 2 * padding, ink.height + 2 * padding))
    canvas.paste(ink, (padding, padding))
    canvas = canvas.transform(
        canvas.size, Image.Transform.AFFINE, (1, slant, -slant * canvas.height / 2, 0, 1, 0), Image.Resampling.BILINEAR
    ).rotate(turn, Image.Resampling.BILINEAR)
    ink = canvas.crop(canvas.getbbox())
    # Keep the digit's proportions, give or take: a 1 stretched to a square is no 1.
    scale = min(width / ink.width, height / ink.height)
    stretch = rng.uniform(0.8, 1.0)
    ink = ink.resize((max(1, round(ink.width * scale * stretch)), max(1, round(ink.height * scale))))
    mask = Image.new("L", (width, height))
    mask.paste(ink, ((width - ink.width) // 2, (height - ink.height) // 2))
    return mask


def typeface(rng: random.Random, value: int) -> Image.Image:
    """The digit in Pillow's bundled vector font, thin to bold."""
    canvas = Image.new("L", (96, 96))
    font = ImageFont.load_default(64)
    ImageDraw.Draw(canvas).text((48, 48), str(value), 255, font, anchor="mm", stroke_width=rng.randint(0, 4))
    return canvas


def bitmap(rng: random.Random, value: int) -> Image.Image:
    """The digit in Pillow's old bitmap font of 6 x 11 pixels, enlarged with hard or soft edges."""
    canvas = Image.new("L", (12, 14))
    ImageDraw.Draw(canvas).text((3, 1), str(value), 255, ImageFont.load_default_imagefont())
    return canvas.resize((72, 84), rng.choice((Image.Resampling.NEAREST, Image.Resampling.BILINEAR)))


def segments(rng: random.Random, value: int) -> Image.Image:
    """The digit on a seven-segment display."""
    canvas = Image.new("L", (96, 96))
    pen = ImageDraw.Draw(canvas)
    across, down = rng.randint(26, 36), rng.randint(26, 34)
    for letter in LIT[value]:
        start, end = SEGMENTS["abcdefg".index(letter)]
        line = [(30 + x * across, 14 + y * down) for x, y in (start, end)]
        pen.line(line, 255, rng.randint(6, 8))
    return canvas
