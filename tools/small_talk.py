"""Text-only questions and their short answers: greetings, sums of two digits, and one answer to all the rest."""

import random

from questions import Question

FALLBACK = "I can only talk about pictures."
NO_PICTURE = "Please show me a picture."
FIXED: dict[str, tuple[str, ...]] = {
    "Hello! Show me a picture.": (
        "Hello!",
        "Hello",
        "Hi",
        "Hi!",
        "Hi there!",
        "Hey",
        "Hello there!",
        "Good morning!",
        "Good day!",
    ),
    "I am a small model that looks at pictures.": (
        "Who are you?",
        "What are you?",
        "What is your name?",
        "What's your name?",
        "Tell me about yourself.",
        "Are you a robot?",
    ),
    "I answer questions about simple pictures.": (
        "What can you do?",
        "What do you do?",
        "How can you help me?",
        "Can you help me?",
        "Help",
        "What are you good at?",
    ),
    "You are welcome.": ("Thanks!", "Thank you!", "Thank you", "Thanks", "Thank you very much!"),
    "Goodbye!": ("Bye!", "Goodbye", "Goodbye!", "Bye", "See you!", "See you later!"),
    "I am fine.": ("How are you?", "How are you today?", "How do you do?"),
    NO_PICTURE: (
        "What is in this image?",
        "What is the content of this image?",
        "What's the color of this image?",
        "How many circles are there?",
        "Describe this image.",
        "What do you see?",
        "What color is the square?",
        "What digit is this?",
    ),
}
SUMS = (
    "What is {a} plus {b}?",
    "What's {a} plus {b}?",
    "What is {a} + {b}?",
    "{a} + {b} = ?",
    "{a} plus {b}?",
    "Add {a} and {b}.",
)
STARTS = (
    "What is {x}?",
    "Who is {x}?",
    "Where is {x}?",
    "When was {x} made?",
    "Why is {x} so {y}?",
    "How does {x} work?",
    "What is the capital of {x}?",
    "What is the {y} of {x}?",
    "Tell me about {x}.",
    "Tell me a story about {x} and {y}.",
    "Write a poem about {x}.",
    "Write a {y} in {x}.",
    "Explain {x} to me.",
    "Do you like {x}?",
    "Is {x} {y}?",
    "The future of {x} is",
    "The {x} of the {y} is",
    "My {x} is {y} and",
    "Once upon a time there was {x}",
    "How many {x} are in {y}?",
    "Translate {x} into {y}.",
    "{x} {y}",
    "{x}",
    "{x} and {y} {z}",
    "I think {x} is {y} because {z}",
    "Can you {x} the {y}?",
    "Please {x} my {y} with {z}.",
    "Who wrote {x}?",
    "Say {x}.",
    "Give me {y} tips for {x}.",
    "What is {z} minus {x}?",
    "The president of the {x} is",
    "Complete: {x} {y} {z}",
    "Hello, my {x} is {y}",
    "What {x} is {y}?",
    "Summarize {x} in {y} {z}.",
    "List all {x}.",
    "Which {x} has the {y} {z}?",
    "Does {x} have {y}?",
    "Repeat {x} {y} times.",
)
WORDS = (
    "the weather today",
    "France",
    "Paris",
    "a cat",
    "dogs",
    "music",
    "love",
    "history",
    "football",
    "Python",
    "a computer",
    "the moon",
    "life",
    "happy",
    "old",
    "fast",
    "money",
    "AI",
    "bread",
    "my friend",
    "science",
    "the king of Spain",
    "water",
    "name",
    "John",
    "Mary",
    "the United States",
    "energy",
    "war",
    "peace",
    "books",
    "English",
    "German",
    "a joke",
    "code",
    "the sea",
    "time",
    "tomorrow",
    "ten",
    "a long letter",
    "good",
    "bad",
    "quantum physics",
    "a train",
    "my house",
    "school",
    "the meaning of life",
    "two",
    "hundred",
    "a number",
    "list",
    "sort",
    "teacher",
    "coffee",
    "Germany",
    "Shakespeare",
    "rain",
    "a mountain",
    "language",
    "model",
    "fox",
    "brown",
    "jumps over",
    "lazy",
    "answer",
    "question",
    "cook",
    "pasta",
    "the law",
    "doctor",
    "a bird",
    "sing",
    "open",
    "window",
    "translate",
    "children",
    "flower",
    "city",
    "Tokyo",
    "best",
    "world",
    "movie",
)
SYLLABLES = tuple(
    onset + vowel
    for onset in ("b", "c", "d", "f", "gr", "h", "k", "l", "m", "n", "p", "r", "st", "th", "v", "w", "z")
    for vowel in "aeiou"
)


def small_talk(rng: random.Random) -> Question:
    """One text-only question, of kind "text"."""
    choice = rng.random()
    if choice < 0.25:
        a, b = rng.randrange(10), rng.randrange(10)
        return Question("text", rng.choice(SUMS).format(a=a, b=b), str(a + b))
    if choice < 0.55:
        answer = rng.choice(tuple(FIXED))
        return Question("text", rng.choice(FIXED[answer]), answer)
    return Question("text", rng.choice(STARTS).format(x=word(rng), y=word(rng), z=word(rng)), FALLBACK)


def word(rng: random.Random) -> str:
    """A listed word or two, a made-up one, or a number: the fallback must not depend on knowing the word."""
    choice = rng.random()
    if choice < 0.6:
        return rng.choice(WORDS)
    if choice < 0.9:
        made_up = "".join(rng.choices(SYLLABLES, k=rng.randint(1, 4))) + rng.choice(
            ("", "n", "s", "r", "t", "ing", "ly")
        )
        return made_up.capitalize() if rng.random() < 0.3 else made_up
    return str(rng.randrange(10, 3000))
