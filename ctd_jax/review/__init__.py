"""The review page: look at the points of pictures, correct them, train again.

`journal.py` keeps every edit on disk, `edits.py` says what they add up to, `folder.py` which pictures and landmarks
there are, `proposals.py` what the page shows before anybody has placed a point, `fitting.py` moves the rest of a shape
along, `blinding.py` says what is hidden from a second rater, `lease.py` lets one window edit at a time, `server.py`
answers the page, which `page.py` puts together from the files of `page/`, and `training_folder.py` writes the result.

Which picture comes next: `candidates.py` says which may, `expected.py` what a run expects of them, `order.py` is the
rule, `listing.py` the list that follows, `sorting.py` makes it beside the page, and `estimate.py` reads off its random
pictures how wrong the run is. Only `server.py` needs the packages of the extra `review`.
"""
