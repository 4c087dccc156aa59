"""What other tools would say, for the terminal and for JSON; the numbers are tested with `metrics.peers`."""

import json

from point_tables import NAN, table

from ctd_jax import report
from ctd_jax.metrics import peers

TABLE = table([[2, 4, NAN], [6, 0, 12]], mm_per_px=0.5)


def test_theirs_and_ours_stand_side_by_side():
    options = peers.Options(normalizer=("p0", "p1"))
    results = {name: peers.numbers(name, TABLE, options) for name in ("landmarker", "mmpose")}
    content = {name: report.other_tools.content(name, TABLE, result) for name, result in results.items()}
    json.dumps(content, allow_nan=False)
    lines = [" ".join(line.split()) for line in report.other_tools.text(content).splitlines()]
    # pooled: 24 px / 5; ours: (3 + 6) / 2; within 2 mm: 2 of 6, ours 3 of 5
    assert "point_error, nanmean 2.400 mm 2.250 me_mm" in lines
    assert "sdr, 2 mm 50.00 % 60.00 sdr_le_2mm" in lines
    assert "epe 4.800 px 4.500 me_px" in lines
    assert "nme 0.0960 0.0900 nme_p0_p1" in lines
    assert any(line.startswith("Differs from ours: All points are pooled, not first averaged") for line in lines)
    assert any(line.startswith("Not from this table: PCK (needs the box") for line in lines)


def test_a_number_that_is_unknown_is_a_dash():
    result = peers.numbers("deeplabcut", TABLE, peers.Options(pcutoff=0.9))  # all have a confidence of 0.5
    content = report.other_tools.content("deeplabcut", TABLE, result)
    json.dumps(content, allow_nan=False)
    lines = [" ".join(line.split()) for line in report.other_tools.text({"deeplabcut": content}).splitlines()]
    assert "rmse_pcutoff, 0.9 - px" in lines
