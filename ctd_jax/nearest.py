"""Which names somebody may have meant."""

import difflib
import re
from collections.abc import Sequence

# What other programs call it: the word of ours.
SYNONYMS = {"learning": "lr", "rate": "lr", "epochs": "steps", "iterations": "steps", "iters": "steps", "bs": "batch",
            "size": "size", "resolution": "size", "lambda": "weight", "path": "root", "dir": "root",
            "checkpoint": "weights", "pretrained": "weights"}  # fmt: skip
CLOSE = 0.02  # below the best score: such a key may be meant as well


def keys(wrong: str, known: Sequence[str]) -> list[str]:
    """The dotted key that is most like `wrong`, and those that are about as like it: at most three.

    A key is like another as far as each of its words (between dots and underscores) has one like it in the other; or
    as far as the whole is spelt alike.
    """
    scores = {key: max(_of_words(wrong, key), difflib.SequenceMatcher(None, wrong, key).ratio()) for key in known}
    ordered = sorted(known, key=lambda key: -scores[key])
    return [key for key in ordered[:3] if scores[key] >= scores[ordered[0]] - CLOSE]


def _of_words(wrong: str, key: str) -> float:
    asked, has = _words(wrong), _words(key)
    there = sum(max(_alike(a, b) for b in has) for a in asked) / len(asked)
    back = sum(max(_alike(a, b) for a in asked) for b in has) / len(has)
    return 0.8 * there + 0.2 * back


def _words(key: str) -> list[str]:
    words = [word for word in re.split(r"[._\-]+", key.lower()) if word] or [""]
    return list(dict.fromkeys(SYNONYMS.get(word, word) for word in words))


def _alike(a: str, b: str) -> float:
    return difflib.SequenceMatcher(None, a, b).ratio()
