"""What all annotation files have in common: they are read whole, and what is wrong in one is told with its name."""

from __future__ import annotations

import re
from pathlib import Path, PurePosixPath
from typing import Any

from ladic.errors import UsageError
from ladic.json_files import parse_json, read_text

SPLITS = {"train": "train", "restval": "train", "val": "val", "dev": "val", "validation": "val", "test": "test"}
"""Names that files give to splits, and ours. COCO's "restval" belongs to training, as in the literature."""


def load_text(path: Path, option: str, expected: str) -> str:
    """Text of a file.

    Args:
        path: the file.
        option: as typed, e.g. "data.annotations".
        expected: what should be there, for the complaint.

    Raises:
        UsageError: if it is missing, can't be read or is no text.
    """
    try:
        return read_text(path)
    except FileNotFoundError as error:
        raise UsageError(f"{option}='{path}': no such file; give {expected}") from error
    except OSError as error:
        raise UsageError(f"{option}='{path}': can't be read ({error.strerror}); give {expected}") from error
    except UnicodeDecodeError as error:
        kind = "not JSON" if path.suffix == ".json" else "not text"
        raise UsageError(f"{option}='{path}': {kind} ({error}); is the download complete?") from error


def load_json(path: Path, option: str, expected: str) -> Any:
    """Value of a JSON file.

    Raises:
        UsageError: if it is missing, or cut off, or no JSON at all.
    """
    text = load_text(path, option, expected)
    try:
        return parse_json(text)
    except ValueError as error:
        raise UsageError(f"{option}='{path}': not JSON ({error}); is the download complete?") from error


def picture_file(name: Any, where: str) -> str:
    """A picture's file as an annotation gives it, relative and inside the folder of pictures.

    Raises:
        UsageError: if it isn't text or leaves the folder.
    """
    if not isinstance(name, str) or not name.strip():
        raise UsageError(f"{where}: a picture's file is text, not {short(name)}")
    file = PurePosixPath(name.replace("\\", "/"))
    if ".." in file.parts or file.is_absolute():
        raise UsageError(f"{where}: '{file}' leaves the folder of pictures")
    return str(file)


def image_id(value: Any, where: str) -> int | str:
    """An image id; text that is a number counts as the number, so that files that quote their ids agree with others.

    Raises:
        UsageError: for anything but a whole number or text.

    Example:
        >>> image_id("391895", "x.json"), image_id("dog.jpg", "x.json")
        (391895, 'dog.jpg')
    """
    if isinstance(value, bool) or not isinstance(value, int | str) or value == "":
        raise UsageError(f"{where}: an image id is a whole number or text, not {short(value)}")
    return int(value) if isinstance(value, str) and re.fullmatch(r"0|-?[1-9]\d{0,17}", value) else value


def number_in(file: str) -> int | str:
    """The number at the end of a picture's name, which is its id in COCO; the name where it has none.

    Example:
        >>> number_in("val2014/COCO_val2014_000000391895.jpg"), number_in("dog.jpg")
        (391895, 'dog.jpg')
    """
    path = PurePosixPath(file)
    digits = re.search(r"(\d{1,18})$", path.stem)
    return int(digits[1]) if digits else path.name


def texts(value: Any, where: str) -> tuple[str, ...]:
    """A caption, or a list of captions.

    Raises:
        UsageError: for anything else.
    """
    listed = value if isinstance(value, list) else [value]
    wrong = [text for text in listed if not isinstance(text, str)]
    if wrong:
        raise UsageError(f"{where}: a caption is text, not {short(wrong[0])}")
    return tuple(listed)


def split_name(value: Any, where: str) -> str:
    """Our name of a split.

    Raises:
        UsageError: if there is no such split.
    """
    if not isinstance(value, str) or value not in SPLITS:
        raise UsageError(f"{where}: no split is called {short(value)}; accepted are {', '.join(SPLITS)}")
    return SPLITS[value]


def split_of(file: Path) -> str | None:
    """The split that a file's name says it is of, if it says one.

    Example:
        >>> [split_of(Path(name)) for name in ("coco_karpathy_val.json", "captions_train2014.json", "refs.json")]
        ['val', 'train', None]
    """
    words = re.split(r"[_.\d-]+", file.stem.lower())
    found = {SPLITS[word] for word in words if word in SPLITS}
    return found.pop() if len(found) == 1 else None


def fields(entry: Any, names: tuple[str, ...], where: str) -> dict[str, Any]:
    """An entry that has to be an object with these keys.

    Raises:
        UsageError: naming the first that is missing.
    """
    absent = [name for name in names if not isinstance(entry, dict) or name not in entry]
    if absent:
        raise UsageError(f"{where} has no '{absent[0]}'")
    return entry


def short(value: Any) -> str:
    """A value for a complaint, cut."""
    text = repr(value)
    return text if len(text) < 40 else text[:37] + "..."
