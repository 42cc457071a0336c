"""The many wordings of each question about a picture.

A wording is a `str.format` template. Its fields: `{color}`, `{shape}`, `{shapes}` (plural), `{place}`, `{digit}`,
`{a}` and `{b}` (a shape with its colour, as in "red square"), and `{an}` (the same with its article, "an orange star").
"""

BACKGROUND_COLOR = (
    "What's the color of this image?",
    "What is the color of this image?",
    "What is the color of the background?",
    "What's the background color?",
    "What color is the background?",
    "What colour is the background of this picture?",
    "Which color is this image?",
    "What color is this picture?",
    "What is the main color of this image?",
)
COLOR_OF_SHAPE = (
    "What color is the {shape}?",
    "What colour is the {shape}?",
    "What is the color of the {shape}?",
    "What's the color of the {shape}?",
    "Which color does the {shape} have?",
    "What color is the {shape} in this image?",
)
COLOR_OF_SHAPES = (
    "What color are the {shapes}?",
    "What colour are the {shapes}?",
    "What is the color of the {shapes}?",
    "Which color do the {shapes} have?",
)
COLOR_OF_DIGIT = (
    "What color is the digit?",
    "What colour is the number?",
    "What is the color of the digit?",
    "In which color is the digit written?",
    "What color is the number in this image?",
)

ONLY_SHAPE = (
    "What shape is this?",
    "What shape is in this image?",
    "Which shape do you see?",
    "What is the shape in the picture?",
    "Name the shape.",
)
SHAPE_OF_COLOR = (
    "What shape is {color}?",
    "Which shape is {color}?",
    "What shape is the {color} object?",
    "What is the {color} object?",
    "What is the shape of the {color} thing?",
)
SHAPE_AT_PLACE = (
    "What shape is {place}?",
    "Which shape is {place}?",
    "What shape is {place} of this image?",
)

COUNT_ALL = (
    "How many shapes are there?",
    "How many shapes do you see?",
    "How many objects are in this image?",
    "How many things are in the picture?",
    "Count the shapes.",
    "What is the number of shapes?",
)
COUNT_SHAPE = (
    "How many {shapes} are there?",
    "How many {shapes} do you see?",
    "How many {shapes} are in this image?",
    "How many {shapes} are in the picture?",
    "Count the {shapes}.",
    "What is the number of {shapes}?",
)
COUNT_COLOR = (
    "How many {color} shapes are there?",
    "How many {color} objects are in this image?",
    "How many {color} things do you see?",
    "How many shapes are {color}?",
    "Count the {color} shapes.",
)
COUNT_BOTH = (
    "How many {color} {shapes} are there?",
    "How many {color} {shapes} do you see?",
    "How many {color} {shapes} are in this image?",
    "Count the {color} {shapes}.",
)

LEFT_OF = (
    "What is left of the {a}?",
    "What is to the left of the {a}?",
    "What's left of the {a}?",
    "What do you see left of the {a}?",
    "Which shape is to the left of the {a}?",
)
RIGHT_OF = (
    "What is right of the {a}?",
    "What is to the right of the {a}?",
    "What's right of the {a}?",
    "What do you see right of the {a}?",
    "Which shape is to the right of the {a}?",
)
ABOVE = (
    "What is above the {a}?",
    "What's above the {a}?",
    "What do you see above the {a}?",
    "Which shape is above the {a}?",
)
BELOW = (
    "What is below the {a}?",
    "What's below the {a}?",
    "What is under the {a}?",
    "What do you see below the {a}?",
    "Which shape is below the {a}?",
)
WHERE = (
    "Where is the {a}?",
    "Where is the {a} in this image?",
    "Where do you see the {a}?",
    "In which part of the picture is the {a}?",
    "What is the position of the {a}?",
)

LARGEST = (
    "What is the largest shape?",
    "Which shape is the largest?",
    "What is the biggest object?",
    "Which object is the biggest?",
    "What's the largest shape in this image?",
)
SMALLEST = (
    "What is the smallest shape?",
    "Which shape is the smallest?",
    "What is the smallest object?",
    "Which object is the smallest?",
    "What's the smallest shape in this image?",
)
SIZE_OF = (
    "What size is the {a}?",
    "What is the size of the {a}?",
    "Is the {a} small or large?",
    "How big is the {a}?",
)
WHICH_LARGER = (
    "Which is larger, the {a} or the {b}?",
    "Which is bigger, the {a} or the {b}?",
    "What is larger, the {a} or the {b}?",
)
WHICH_SMALLER = ("Which is smaller, the {a} or the {b}?", "What is smaller, the {a} or the {b}?")

DIGIT = (
    "Which digit is written here?",
    "What digit is this?",
    "What digit is in this image?",
    "What number is this?",
    "Which number do you see?",
    "What number is written in the picture?",
    "Read the digit.",
    "What is the number in this image?",
)

IS_THERE = (
    "Is there {an}?",
    "Is there {an} in this image?",
    "Do you see {an}?",
    "Can you see {an} in the picture?",
    "Does the picture show {an}?",
)
ARE_THERE = ("Are there any {shapes}?", "Are there {shapes} in this image?", "Do you see any {shapes}?")
ARE_THERE_COLOR = ("Are there any {color} shapes?", "Is anything {color}?", "Do you see a {color} shape?")
IS_SHAPE_COLOR = (
    "Is the {shape} {color}?",
    "Is the {shape} in this image {color}?",
    "Is the color of the {shape} {color}?",
)
IS_BACKGROUND = ("Is the background {color}?", "Is this image {color}?", "Is the color of this image {color}?")
IS_LEFT = ("Is the {a} left of the {b}?", "Is the {a} to the left of the {b}?")
IS_RIGHT = ("Is the {a} right of the {b}?", "Is the {a} to the right of the {b}?")
IS_ABOVE = ("Is the {a} above the {b}?",)
IS_BELOW = ("Is the {a} below the {b}?", "Is the {a} under the {b}?")
IS_LARGER = ("Is the {a} larger than the {b}?", "Is the {a} bigger than the {b}?")
IS_SMALLER = ("Is the {a} smaller than the {b}?",)
IS_DIGIT = ("Is this a {digit}?", "Is the digit a {digit}?", "Is this the number {digit}?", "Do you see a {digit}?")
ANY_DIGIT = ("Is there a digit in this image?", "Is there a number?", "Do you see a digit?")
ANY_SHAPE = ("Are there any shapes?", "Are there any shapes in this image?", "Do you see any shapes?")

INVENTORY = ("List all shapes with their places.", "What is where?", "Where is everything?", "Which shape is where?")
CONTENT = (
    "What is the content of this image?",
    "What's the content of the image?",
    "What is in this image?",
    "What's in this image?",
    "What is in the picture?",
    "What do you see?",
    "What do you see in this picture?",
    "What is shown in this image?",
    "What does this image show?",
    "Describe this image.",
    "Describe the image.",
    "Describe this picture.",
    "Please describe the picture in one sentence.",
    "What is this?",
)
