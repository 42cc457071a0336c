"""What the vision tower is told about each patch while it trains, so that it learns to see within minutes.

Dense targets beside the answers: the shape, colour, size and grid cell of the thing that covers the patch, and whether
its centre lies there; for the whole picture, the colour of the background and the number of shapes. The heads that
predict these are dropped after training.
"""

import torch

from demo_format import IMAGE_SIZE, NUM_PATCHES, PATCH_SIZE
from drawings import COLORS, NUM_COLUMNS, NUM_ROWS, SHAPES, SIZES, Digit, Scene, Thing

SceneLabels = dict[str, torch.Tensor]  # name of a target to classes, [NUM_PATCHES] or [] for the whole picture

# Class 0 of a patch target is the bare background; a digit is a shape of its own, one class a value.
NUM_CLASSES = {
    "shape": 1 + len(SHAPES) + 10,
    "color": 1 + len(COLORS),
    "size": 1 + len(SIZES),
    "column": 1 + NUM_COLUMNS,
    "row": 1 + NUM_ROWS,
    "center": 2,
    "background": len(COLORS),
    "count": 7,
}
PER_PICTURE = ("background", "count")


def label(scene: Scene) -> SceneLabels:
    """The targets of one scene."""
    side = IMAGE_SIZE // PATCH_SIZE
    middles = (torch.arange(side) + 0.5) / side
    grids = {name: torch.zeros(side, side, dtype=torch.long) for name in NUM_CLASSES if name not in PER_PICTURE}
    covering: tuple[Thing | Digit, ...] = scene.things if scene.digit is None else (scene.digit,)
    for thing in covering:
        row, column = int(thing.y * side), int(thing.x * side)
        is_row_covered = (middles - thing.y).abs() < thing.half_height
        is_column_covered = (middles - thing.x).abs() < thing.half_width
        covered = is_row_covered[:, None] & is_column_covered
        covered[row, column] = True
        if isinstance(thing, Thing):
            grids["shape"][covered] = 1 + SHAPES.index(thing.shape)
            grids["size"][covered] = 1 + SIZES.index(thing.size)
            grids["column"][covered] = 1 + thing.column
            grids["row"][covered] = 1 + thing.row
        else:
            grids["shape"][covered] = 1 + len(SHAPES) + thing.value
        grids["color"][covered] = 1 + COLORS.index(thing.color)
        grids["center"][row, column] = 1
    labels = {name: grid.reshape(NUM_PATCHES) for name, grid in grids.items()}
    labels["background"] = torch.tensor(COLORS.index(scene.background))
    labels["count"] = torch.tensor(len(scene.things))
    return labels
