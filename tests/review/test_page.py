"""The page is one text, whose programs and style a browser takes from nowhere else."""

import re

from ctd_jax.review import page


def test_all_is_in_the_page_and_bears_its_word():
    text, nonce = page.page()
    assert page.page()[1] != nonce and len(nonce) >= 16
    assert text.count(f'nonce="{nonce}"') == 2 == len(re.findall("<(?:style|script)", text))
    assert not re.search(r"""https?://(?!www\.w3\.org/2000/svg)|\bsrc=|\bon\w+=|\bstyle=["']|@import|innerHTML""", text)
    assert sorted(path.name for path in page.FOLDER.iterdir() if path.suffix == ".js") == sorted(page.PROGRAMS)
    assert all((page.FOLDER / name).read_text("utf-8") in text for name in (*page.PROGRAMS, "style.css"))
