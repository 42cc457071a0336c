"""What `import aphrodite` puts into the environment for oneDNN, in processes of their own."""

from tests.test_cpus import python


def test_what_the_user_lets_libraries_keep_of_shapes_stands() -> None:
    names = ("ONEDNN_PRIMITIVE_CACHE_CAPACITY", "LRU_CACHE_CAPACITY")
    code = f"import os, aphrodite; print(*(os.environ.get(name) for name in {names}))"
    assert python(code, **{names[0]: "7"}) == "7 16"
    assert python(code) == "64 16"
