"""Draws the pictures that the demo model learns from: shapes, plain colours and digits, each with its known scene.

`draw(seed)` is a pure function of its seed. A picture is a background in two shades of one colour, blended by a
pattern, under a few shapes on a 3 x 3 grid, or one digit, or nothing; then blur, noise and JPEG artefacts.

Colour names are the eleven basic terms of English (Berlin and Kay, 1969), each a box in HSV space that holds the CSS
colour of that name and keeps clear of its neighbours, so that a picture has one right answer.
"""

import colorsys
import io
import math
import random
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

import glyphs

SHAPES = ("circle", "square", "triangle", "star", "cross")
COLORS = ("red", "orange", "yellow", "green", "blue", "purple", "pink", "brown", "black", "gray", "white")
SIZES = ("small", "large")
NUM_COLUMNS = NUM_ROWS = 3

# Hue, saturation and value, each a (low, high) range; hue wraps around 1.
HSV_RANGES: dict[str, tuple[tuple[float, float], tuple[float, float], tuple[float, float]]] = {
    "red": ((-0.015, 0.015), (0.88, 1.0), (0.82, 1.0)),
    "orange": ((0.075, 0.11), (0.88, 1.0), (0.94, 1.0)),
    "yellow": ((0.15, 0.172), (0.80, 1.0), (0.92, 1.0)),
    "green": ((0.29, 0.38), (0.75, 1.0), (0.48, 1.0)),
    "blue": ((0.59, 0.675), (0.75, 1.0), (0.65, 1.0)),
    "purple": ((0.765, 0.835), (0.65, 1.0), (0.45, 0.70)),
    "pink": ((0.90, 0.98), (0.24, 0.45), (0.95, 1.0)),
    "brown": ((-0.005, 0.08), (0.62, 0.85), (0.38, 0.65)),
    "black": ((0.0, 1.0), (0.0, 0.3), (0.0, 0.10)),
    "gray": ((0.0, 1.0), (0.0, 0.05), (0.42, 0.60)),
    "white": ((0.0, 1.0), (0.0, 0.03), (0.93, 1.0)),
}
# Foreground and background that are hard to tell apart at a glance, dark or small as they may be.
CLASHES = (("red", "brown"), ("orange", "brown"), ("blue", "purple"), ("black", "purple"), ("yellow", "white"))
# Diameter as a fraction of the picture's shorter side. A lone shape may be HUGE, and counts as large.
DIAMETERS = {"small": (0.17, 0.20), "large": (0.27, 0.30)}
HUGE = (0.45, 0.85)


@dataclass(frozen=True, slots=True)
class Thing:
    """One shape; its centre `x`, `y` and its half width and height are fractions of the picture's width and height."""

    shape: str
    color: str
    size: str
    column: int
    row: int
    x: float
    y: float
    half_width: float
    half_height: float


@dataclass(frozen=True, slots=True)
class Digit:
    """One written digit, 0 to 9; the geometry is in fractions, as in `Thing`."""

    value: int
    color: str
    x: float
    y: float
    half_width: float
    half_height: float


@dataclass(frozen=True, slots=True)
class Scene:
    """What a picture shows: a background, and shapes or a digit or neither."""

    background: str
    things: tuple[Thing, ...] = ()
    digit: Digit | None = None


@dataclass(frozen=True, slots=True)
class Drawing:
    """A picture and the scene it was drawn from."""

    image: Image.Image
    scene: Scene


def draw(seed: int) -> Drawing:
    """Draw picture number `seed`, an RGB image of 80 to 400 pixels a side."""
    rng = random.Random(f"drawing {seed}")
    short_side = round(80 * 5 ** rng.random())
    long_side = round(short_side * rng.choice((1.0, rng.uniform(1.0, 1.25))))
    width, height = rng.choice(((short_side, long_side), (long_side, short_side)))
    scene = compose(rng, width, height)
    image = paint_background(rng, scene.background, width, height)
    for thing in scene.things:
        paint_thing(rng, image, thing)
    if scene.digit is not None:
        paint_digit(rng, image, scene.digit)
    return Drawing(degrade(rng, image), scene)


def compose(rng: random.Random, width: int, height: int) -> Scene:
    """Choose what a picture of this size in pixels shows."""
    background = rng.choice(COLORS)
    clashing = {color for clash in CLASHES if background in clash for color in clash} | {background}
    colors = [color for color in COLORS if color not in clashing]
    kind = rng.random()
    if kind < 0.07:
        return Scene(background)
    if kind < 0.32:
        reach = rng.uniform(0.24, 0.42)
        half_width, half_height = reach * min(1.0, height / width), reach * min(1.0, width / height)
        x, y = (rng.uniform(max(half, 0.32), 1 - max(half, 0.32)) for half in (half_width, half_height))
        return Scene(background, digit=Digit(rng.randrange(10), rng.choice(colors), x, y, half_width, half_height))
    return Scene(background, things=compose_things(rng, colors, width, height))


def compose_things(rng: random.Random, colors: list[str], width: int, height: int) -> tuple[Thing, ...]:
    """Choose one to three groups of like shapes, four at most in all, each shape in a grid cell of its own."""
    palette = rng.sample(colors, rng.choice((2, 3, 4)))  # few colours, so that shapes often share one
    forms = rng.sample(SHAPES, rng.choice((2, 3, 4)))
    pairs = [(shape, color) for shape in forms for color in palette]
    members: list[tuple[str, str]] = []
    for pair in rng.sample(pairs, rng.choice((1, 2, 2, 3, 3, 3))):
        members += [pair] * rng.choice((1, 1, 1, 1, 2, 2, 3))
    members = members[:4]
    cells = rng.sample([(column, row) for column in range(NUM_COLUMNS) for row in range(NUM_ROWS)], len(members))
    if len(members) == 1 and rng.random() < 0.3:
        shape, color = members[0]
        return (place(rng, shape, color, "large", (1, 1), HUGE, width, height),)
    favored = rng.choice(SIZES)  # most shapes share a size, so that one often stands out
    things = []
    for (shape, color), cell in zip(members, cells, strict=True):
        size = favored if rng.random() < 0.7 else rng.choice(SIZES)
        things.append(place(rng, shape, color, size, cell, DIAMETERS[size], width, height))
    return tuple(things)


def place(
    rng: random.Random,
    shape: str,
    color: str,
    size: str,
    cell: tuple[int, int],
    diameters: tuple[float, float],
    width: int,
    height: int,
) -> Thing:
    """Put a shape near the middle of its grid cell; `diameters` is a range in fractions of the shorter side."""
    radius = rng.uniform(*diameters) * min(width, height) / 2
    column, row = cell
    x, y = ((index + 0.5) / 3 + rng.uniform(-0.02, 0.02) for index in (column, row))
    return Thing(shape, color, size, column, row, x, y, radius / width, radius / height)


def shade(rng: random.Random, color: str) -> tuple[int, int, int]:
    """A random RGB shade, 0 to 255, that goes by the name `color`."""
    hue, saturation, value = (rng.uniform(*limits) for limits in HSV_RANGES[color])
    red, green, blue = colorsys.hsv_to_rgb(hue % 1.0, saturation, value)
    return round(red * 255), round(green * 255), round(blue * 255)


def paint_background(rng: random.Random, color: str, width: int, height: int) -> Image.Image:
    """Fill a picture with two shades of one colour, blended by a gradient, stripes, checks, blotches or not at all."""
    first = Image.new("RGB", (width, height), shade(rng, color))
    style = rng.choice(("flat", "flat", "gradient", "stripes", "checks", "blotches"))
    if style == "flat":
        return first
    second = Image.new("RGB", (width, height), shade(rng, color))
    across, down = np.meshgrid(np.linspace(0, 1, width), np.linspace(0, 1, height))  # [height, width]
    angle = rng.uniform(0, 2 * math.pi)
    along = across * math.cos(angle) + down * math.sin(angle)
    frequency = rng.uniform(2, 9)
    if style == "gradient":
        mask = (along - along.min()) / (along.max() - along.min())
    elif style == "stripes":
        mask = (along * frequency) % 1.0 < 0.5
    elif style == "checks":
        mask = (np.floor(across * frequency) + np.floor(down * frequency)) % 2
    else:
        coarse = Image.frombytes("L", (6, 6), rng.randbytes(36)).resize((width, height), Image.Resampling.BICUBIC)
        return Image.composite(second, first, coarse)
    return Image.composite(second, first, Image.fromarray((mask * 255).astype(np.uint8)))


def outline(shape: str, turn: float) -> list[tuple[float, float]]:
    """The corners of a shape in a box from -1 to 1, y pointing down, turned by `turn` radians; not for circles."""
    if shape == "square":
        corners = [(-0.85, -0.85), (0.85, -0.85), (0.85, 0.85), (-0.85, 0.85)]
    elif shape == "triangle":
        corners = [(0.0, -1.0), (0.95, 0.85), (-0.95, 0.85)]
    elif shape == "star":
        corners = [
            (math.sin(step * math.pi / 5) * reach, -math.cos(step * math.pi / 5) * reach)
            for step, reach in enumerate([1.1, 0.45] * 5)
        ]
    else:
        arm = 0.33
        quarter = [(-arm, -1.0), (arm, -1.0), (arm, -arm)]
        corners = [
            (x * cos - y * sin, x * sin + y * cos)
            for cos, sin in ((1, 0), (0, 1), (-1, 0), (0, -1))
            for x, y in quarter
        ]
    cos, sin = math.cos(turn), math.sin(turn)
    return [(x * cos - y * sin, x * sin + y * cos) for x, y in corners]


def paint_thing(rng: random.Random, image: Image.Image, thing: Thing) -> None:
    """Draw one shape in a shade of its colour, sometimes with a darker rim of the same colour."""
    pen = ImageDraw.Draw(image)
    fill = shade(rng, thing.color)
    rim = tuple(round(level * 0.8) for level in fill) if rng.random() < 0.3 else fill
    center_x, center_y = thing.x * image.width, thing.y * image.height
    radius = thing.half_width * image.width
    if thing.shape == "circle":
        box = (center_x - radius, center_y - radius, center_x + radius, center_y + radius)
        pen.ellipse(box, fill=fill, outline=rim)
        return
    corners = outline(thing.shape, math.radians(rng.uniform(-12, 12)))
    pen.polygon([(center_x + x * radius, center_y + y * radius) for x, y in corners], fill=fill, outline=rim)


def paint_digit(rng: random.Random, image: Image.Image, digit: Digit) -> None:
    """Write one digit through a mask [height, width] of its strokes."""
    width, height = (round(2 * digit.half_width * image.width), round(2 * digit.half_height * image.height))
    mask = glyphs.write(rng, digit.value, width, height)
    corner = (round(digit.x * image.width) - width // 2, round(digit.y * image.height) - height // 2)
    image.paste(Image.new("RGB", mask.size, shade(rng, digit.color)), corner, mask)


def degrade(rng: random.Random, image: Image.Image) -> Image.Image:
    """Add blur, noise and JPEG artefacts, each to some pictures only."""
    if rng.random() < 0.25:
        image = image.filter(ImageFilter.GaussianBlur(min(image.size) / rng.uniform(100, 300)))
    if rng.random() < 0.5:
        # numpy's noise, not Pillow's effect_noise: that one takes no seed
        grain = np.random.default_rng(rng.getrandbits(32)).normal(0, rng.uniform(2, 12), (image.height, image.width, 1))
        image = Image.fromarray((np.asarray(image) + grain).clip(0, 255).astype(np.uint8))
    if rng.random() < 0.5:
        buffer = io.BytesIO()
        image.save(buffer, "JPEG", quality=rng.randint(45, 95))
        image = Image.open(buffer).convert("RGB")
    return image
