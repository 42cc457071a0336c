"""Asks questions about a drawing, each with the one right answer that its scene implies.

`questions(drawing, rng)` asks every question that has a single answer in this scene, in a wording picked by `rng`.
"The red square" is only said where exactly one shape is a red square; "left of" means in a column further left, so that
two shapes in one column are neither left nor right of each other.
"""

import random
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import wordings
from drawings import COLORS, SHAPES, Drawing, Scene, Thing

KINDS = ("color", "shape", "count", "position", "size", "digit", "yes/no", "content", "text")
# Row by row, from the top left.
PLACES = (
    *("at the top left", "at the top", "at the top right"),
    *("at the left", "in the center", "at the right"),
    *("at the bottom left", "at the bottom", "at the bottom right"),
)
NUMBER_WORDS = ("no", "one", "two", "three", "four")


@dataclass(frozen=True, slots=True)
class Question:
    """One question, its right answer, and the kind it is counted under (one of `KINDS`)."""

    kind: str
    text: str
    answer: str


def questions(drawing: Drawing, rng: random.Random) -> list[Question]:
    """Every kind of question that this drawing has one answer to, each once, shuffled."""
    scene = drawing.scene
    asked = [*about_colors(scene, rng), *about_anything(scene, rng)]
    if scene.digit is not None:
        asked += about_digit(scene, rng)
    if scene.things:
        asked += [
            *about_shapes(scene, rng),
            *about_counts(scene, rng),
            *about_positions(scene, rng),
            *about_sizes(scene, rng),
            *yes_or_no(scene, rng),
        ]
    rng.shuffle(asked)
    return asked


def ask(rng: random.Random, kind: str, forms: tuple[str, ...], answer: str, **fields: str) -> Question:
    """Fill one of the wordings in `forms`."""
    return Question(kind, rng.choice(forms).format(**fields), answer)


def plural(shape: str) -> str:
    """ "circle" to "circles", "cross" to "crosses"."""
    return shape + ("es" if shape.endswith("s") else "s")


def name(thing: Thing) -> str:
    """Its colour and shape: "red square"."""
    return f"{thing.color} {thing.shape}"


def with_article(noun: str) -> str:
    """ "red square" to "a red square", "orange star" to "an orange star"."""
    return ("an " if noun[0] in "aeiou" else "a ") + noun


def place(thing: Thing) -> str:
    """Where on the 3 x 3 grid a shape is: "at the top left"."""
    return PLACES[thing.row * 3 + thing.column]


def unique(scene: Scene) -> list[Thing]:
    """The shapes that no other shape shares both colour and form with."""
    counts = Counter(map(name, scene.things))
    return [thing for thing in scene.things if counts[name(thing)] == 1]


def caption(scene: Scene) -> str:
    """One sentence about the whole picture: "A red circle and two blue squares." Ordered as COLORS, then as SHAPES."""
    if scene.digit is not None:
        return f"The digit {scene.digit.value} in {scene.digit.color}."
    if not scene.things:
        return f"A plain {scene.background} image."
    counts = Counter((COLORS.index(thing.color), SHAPES.index(thing.shape)) for thing in scene.things)
    parts = []
    for (color, shape), count in sorted(counts.items()):
        noun = f"{COLORS[color]} {SHAPES[shape]}"
        parts.append(with_article(noun) if count == 1 else f"{NUMBER_WORDS[count]} {plural(noun)}")
    sentence = " and ".join([", ".join(parts[:-1]), parts[-1]] if len(parts) > 1 else parts)
    return sentence[0].upper() + sentence[1:] + "."


def inventory(scene: Scene, rng: random.Random) -> Question:
    """Every shape and its place, row by row. Not among `questions`: a lesson that teaches to look shapes up."""
    things = sorted(scene.things, key=lambda thing: (thing.row, thing.column))
    answer = ", ".join(f"{with_article(name(thing))} {place(thing)}" for thing in things)
    return ask(rng, "inventory", wordings.INVENTORY, answer)


def about_anything(scene: Scene, rng: random.Random) -> Iterator[Question]:
    """Questions that any picture has an answer to."""
    yield ask(rng, "content", wordings.CONTENT, caption(scene))
    yield ask(rng, "yes/no", wordings.ANY_DIGIT, "yes" if scene.digit else "no")
    if scene.digit is None:
        yield ask(rng, "yes/no", wordings.ANY_SHAPE, "yes" if scene.things else "no")
    color = scene.background if rng.random() < 0.5 else rng.choice(COLORS)
    yield ask(rng, "yes/no", wordings.IS_BACKGROUND, "yes" if color == scene.background else "no", color=color)


def about_colors(scene: Scene, rng: random.Random) -> Iterator[Question]:
    """Colours of the background, of the digit, and of each form whose shapes share one colour."""
    yield ask(rng, "color", wordings.BACKGROUND_COLOR, scene.background)
    if scene.digit is not None:
        yield ask(rng, "color", wordings.COLOR_OF_DIGIT, scene.digit.color)
    for shape in SHAPES:
        colors = [thing.color for thing in scene.things if thing.shape == shape]
        if len(colors) == 1:
            yield ask(rng, "color", wordings.COLOR_OF_SHAPE, colors[0], shape=shape)
            guess = colors[0] if rng.random() < 0.5 else rng.choice(COLORS)
            answer = "yes" if guess == colors[0] else "no"
            yield ask(rng, "yes/no", wordings.IS_SHAPE_COLOR, answer, shape=shape, color=guess)
        elif len(set(colors)) == 1:
            yield ask(rng, "color", wordings.COLOR_OF_SHAPES, colors[0], shapes=plural(shape))


def about_digit(scene: Scene, rng: random.Random) -> Iterator[Question]:
    """Which digit it is, three times over, as digits are in few pictures."""
    assert scene.digit is not None
    value = scene.digit.value
    for forms in (wordings.DIGIT[:3], wordings.DIGIT[3:6], wordings.DIGIT[6:]):
        yield ask(rng, "digit", forms, str(value))
    guess = value if rng.random() < 0.5 else rng.randrange(10)
    yield ask(rng, "yes/no", wordings.IS_DIGIT, "yes" if guess == value else "no", digit=str(guess))


def about_shapes(scene: Scene, rng: random.Random) -> Iterator[Question]:
    """The form of the only shape, of the only one in a colour, and of the one at a place."""
    if len(scene.things) == 1:
        yield ask(rng, "shape", wordings.ONLY_SHAPE, scene.things[0].shape)
    for color in COLORS:
        shapes = [thing.shape for thing in scene.things if thing.color == color]
        if len(shapes) == 1:
            yield ask(rng, "shape", wordings.SHAPE_OF_COLOR, shapes[0], color=color)
    for thing in rng.sample(scene.things, min(2, len(scene.things))):
        yield ask(rng, "shape", wordings.SHAPE_AT_PLACE, thing.shape, place=place(thing))


def about_counts(scene: Scene, rng: random.Random) -> Iterator[Question]:
    """How many in all, of a form, of a colour, and of both; sometimes none."""
    yield ask(rng, "count", wordings.COUNT_ALL, str(len(scene.things)))
    shape = rng.choice(SHAPES if rng.random() < 0.2 else [thing.shape for thing in scene.things])
    color = rng.choice(COLORS if rng.random() < 0.2 else [thing.color for thing in scene.things])
    num_like = sum(thing.shape == shape for thing in scene.things)
    yield ask(rng, "count", wordings.COUNT_SHAPE, str(num_like), shapes=plural(shape))
    num_like = sum(thing.color == color for thing in scene.things)
    yield ask(rng, "count", wordings.COUNT_COLOR, str(num_like), color=color)
    num_like = sum(thing.color == color and thing.shape == shape for thing in scene.things)
    yield ask(rng, "count", wordings.COUNT_BOTH, str(num_like), color=color, shapes=plural(shape))


def is_left(one: Thing, other: Thing) -> bool:
    """Whether `one` is in a column further left."""
    return one.column < other.column


def is_above(one: Thing, other: Thing) -> bool:
    """Whether `one` is in a row further up."""
    return one.row < other.row


def about_positions(scene: Scene, rng: random.Random) -> Iterator[Question]:
    """Where a shape is, and what is left of, right of, above and below one where a single shape or none is."""
    singles = unique(scene)
    if not singles:
        return
    for thing in rng.sample(singles, min(2, len(singles))):
        yield ask(rng, "position", wordings.WHERE, place(thing), a=name(thing))
    sides: list[tuple[tuple[str, ...], Callable[[Thing, Thing], bool]]] = [
        (wordings.LEFT_OF, is_left),
        (wordings.RIGHT_OF, lambda one, other: is_left(other, one)),
        (wordings.ABOVE, is_above),
        (wordings.BELOW, lambda one, other: is_above(other, one)),
    ]
    for forms, is_there in sides:
        thing = rng.choice(singles)
        found = [other for other in scene.things if is_there(other, thing)]
        if len(found) == 1:
            yield ask(rng, "position", forms, with_article(name(found[0])), a=name(thing))
        elif not found and rng.random() < 0.2:
            yield ask(rng, "position", forms, "nothing", a=name(thing))


def about_sizes(scene: Scene, rng: random.Random) -> Iterator[Question]:
    """The size of a shape, the one that stands out by size, and comparisons of a large one with a small one."""
    by_size = {size: [thing for thing in scene.things if thing.size == size] for size in ("small", "large")}
    if len(scene.things) > 1:
        for size, forms in (("large", wordings.LARGEST), ("small", wordings.SMALLEST)):
            if len(by_size[size]) == 1:
                yield ask(rng, "size", forms, with_article(name(by_size[size][0])))
    singles = unique(scene)
    if singles:
        thing = rng.choice(singles)
        yield ask(rng, "size", wordings.SIZE_OF, thing.size, a=name(thing))
    large, small = ([thing for thing in by_size[size] if thing in singles] for size in ("large", "small"))
    if large and small:
        pair = [rng.choice(large), rng.choice(small)]
        winners = {wordings.WHICH_LARGER: pair[0], wordings.WHICH_SMALLER: pair[1]}
        rng.shuffle(pair)
        a, b = map(name, pair)
        for wording, winner in winners.items():
            yield ask(rng, "size", wording, f"the {name(winner)}", a=a, b=b)
        yield ask(rng, "yes/no", wordings.IS_LARGER, "yes" if pair[0].size == "large" else "no", a=a, b=b)
        yield ask(rng, "yes/no", wordings.IS_SMALLER, "yes" if pair[0].size == "small" else "no", a=a, b=b)


def yes_or_no(scene: Scene, rng: random.Random) -> Iterator[Question]:
    """Whether something is there and which of two shapes is on which side; yes and no about equally often."""
    present = {name(thing) for thing in scene.things}
    shapes, colors = ({thing.shape for thing in scene.things}, {thing.color for thing in scene.things})
    # A wrong guess shares a colour or a form with what is there, so that one glance at either is not enough.
    near = f"{rng.choice(sorted(colors))} {rng.choice(SHAPES)}" if rng.random() < 0.5 else ""
    guess = rng.choice(sorted(present)) if rng.random() < 0.4 else near or f"{rng.choice(COLORS)} {rng.choice(SHAPES)}"
    yield ask(rng, "yes/no", wordings.IS_THERE, "yes" if guess in present else "no", an=with_article(guess))
    shape = rng.choice(sorted(shapes) if rng.random() < 0.35 else SHAPES)
    yield ask(rng, "yes/no", wordings.ARE_THERE, "yes" if shape in shapes else "no", shapes=plural(shape))
    color = rng.choice(sorted(colors) if rng.random() < 0.5 else COLORS)
    yield ask(rng, "yes/no", wordings.ARE_THERE_COLOR, "yes" if color in colors else "no", color=color)
    singles = unique(scene)
    if len(singles) > 1:
        one, other = rng.sample(singles, 2)
        a, b = name(one), name(other)
        if one.column != other.column:
            yield ask(rng, "yes/no", wordings.IS_LEFT, "yes" if is_left(one, other) else "no", a=a, b=b)
            yield ask(rng, "yes/no", wordings.IS_RIGHT, "no" if is_left(one, other) else "yes", a=a, b=b)
        if one.row != other.row:
            yield ask(rng, "yes/no", wordings.IS_ABOVE, "yes" if is_above(one, other) else "no", a=a, b=b)
            yield ask(rng, "yes/no", wordings.IS_BELOW, "no" if is_above(one, other) else "yes", a=a, b=b)
