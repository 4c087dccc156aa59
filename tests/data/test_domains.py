"""Several domains, of pictures with any kind of targets: which are used, what the budget means, who only helps."""

import json

import numpy as np
import pytest
import segmentation_folder
import tiny
from PIL import Image
from segmentation_folder import load

from configs import domains as domains_config
from configs import helping
from ctd_jax import data
from ctd_jax.data import synthetic
from ctd_jax.data.drawn_anatomies import CLASSES
from ctd_jax.data.points import read_folder
from ctd_jax.errors import UserError


@pytest.fixture
def root(tmp_path):
    return segmentation_folder.write(tmp_path / "anatomies")


def load_faces(**changes):
    return data.load(tiny.config("none", domains_config, **changes).data, None)


# ---------------------------------------------------------------- landmarks


def test_several_folders_are_one_source(landmark_folder, tmp_path):
    """Rows one after the other under their domain's name; of other domains' landmarks nothing is known."""
    roots = [landmark_folder(people=4, shots=1, size=32, name=name) for name in ("north", "south")]
    content = json.loads((roots[1] / "dataset.json").read_text())
    content |= {"landmarks": content["landmarks"][-3:], "flip_pairs": None, "normalizer": None, "measurements": None}
    (roots[1] / "dataset.json").write_text(json.dumps(content))
    config = tiny.config("none", data__root=f"{roots[0]}, {roots[1]}").data
    pictures = data.load(config, tmp_path)
    tables = [read_folder(root) for root in roots]
    everything = pictures.everything
    assert everything.domains == ("north", "south") and everything.domain.tolist() == [0] * 4 + [1] * 4
    assert everything.images[4] == f"south/{tables[1].images[0]}"
    assert everything.subjects[3] == f"north/{tables[0].subjects[3]}"
    names = [f"north/{name}" for name in synthetic.LANDMARKS] + [f"south/{name}" for name in content["landmarks"]]
    assert list(pictures.targets.landmarks.names) == names and pictures.targets.landmarks.normalizer is None
    assert pictures.targets.landmarks.flip_pairs[0] == tuple(f"north/{name}" for name in synthetic.FLIP_PAIRS[0])
    np.testing.assert_array_equal(everything.targets.xy[:4, :30], tables[0].xy)
    np.testing.assert_array_equal(everything.targets.xy[4:, 30:], tables[1].xy)
    assert np.isnan(everything.targets.xy[:4, 30:]).all() and np.isnan(everything.targets.xy[4:, :30]).all()
    np.testing.assert_array_equal(
        pictures.picture(everything.images[5]), pictures.parts["south"].picture(tables[1].images[1])
    )
    assert pictures.split_of == ["train", "train", "val", "test"] * 2
    val = pictures.split("val")
    assert val.domain.tolist() == [0, 1] and val.batch(np.array([1]))["domain"].tolist() == [1]
    one = tiny.config("none", data__root=f"{roots[0]},{roots[1]}", data__domains=("south",)).data
    alone = data.load(one, tmp_path)
    assert alone.everything.domains == () and alone.everything.images == tables[1].images
    assert "domain" not in alone.split("val").batch(np.array([0]))


def test_a_split_file_names_domain_and_picture(landmark_folder, tmp_path):
    roots = [landmark_folder(people=4, shots=1, size=32, name=name) for name in ("north", "south")]
    splits = dict(zip(read_folder(roots[0]).images, ["test", "train", "val", "train"], strict=True))
    rows = [f"{name}/{image},{split}" for name in ("north", "south") for image, split in splits.items()]
    (tmp_path / "split.csv").write_text("\n".join(["image,split", *rows]))
    config = tiny.config("none", data__root=",".join(map(str, roots)), data__split=str(tmp_path / "split.csv")).data
    assert data.load(config, tmp_path).split_of == [*splits.values()] * 2
    (tmp_path / "split.csv").write_text("\n".join(["image,split", *rows, "east/a.png,train"]))
    with pytest.raises(UserError, match="split.csv names east/a.png; expected <domain>/<image>, of north, south"):
        data.load(config, tmp_path)


def test_the_budget_is_each_domains_but_not_a_helpers():
    assert load_faces(data__budget=3).split_of.count("train") == 6
    pictures = data.load(tiny.config("none", helping, data__budget=3).data, None)
    counts = [part.split_of.count("train") for part in pictures.parts.values()]
    assert counts == [3, 16]  # all that a helper has
    assert list(pictures.evaluated) == ["synthetic"]
    assert set(pictures.split("val").domain) == set(pictures.split("test").domain) == {0}
    left_out = data.load(tiny.config("none", helping, data__helped=False).data, None)
    assert (
        left_out.everything.domains == ()
        and left_out.everything.images == pictures.parts["synthetic"].everything.images
    )


# ---------------------------------------------------------------- class maps


def test_a_share_of_the_training_pictures_of_each_domain(root, tmp_path):
    """Half of 4 each; a share that rounds to nothing keeps one; a smaller choice is part of a larger one."""
    chosen = {}
    for share, each in ((1.0, 4), (0.5, 2), (0.01, 1)):
        pictures = load(root, tmp_path, data__share=share)
        train = pictures.split("train")
        assert np.bincount(train.domain).tolist() == [each, each]
        assert len(pictures.split("test")) == 4
        chosen[share] = set(train.images)
    assert chosen[0.01] < chosen[0.5] < chosen[1.0]


def test_a_domain_without_val_gives_some_of_its_train(root, tmp_path):
    rows = segmentation_folder.read_rows(root)
    rows = [[*row[:4], "train" if row[2] == "heads" and row[4] == "val" else row[4], *row[5:]] for row in rows]
    segmentation_folder.write_rows(root, rows)
    pictures = load(root, tmp_path)
    assert np.bincount(pictures.split("val").domain).tolist() == [1, 2]
    assert np.bincount(pictures.split("train").domain).tolist() == [5, 4]


def test_some_domains_of_several_folders(root, tmp_path):
    other = segmentation_folder.write(tmp_path / "other", people=4)
    text = (other / "segmentation.csv").read_text().replace(",heads,", ",skulls,").replace(",spines,", ",backs,")
    (other / "segmentation.csv").write_text(text)
    names = {"skulls": ["none", "rim", "inside"], "backs": ["none", "block", "disc"]}
    (other / "classes.json").write_text(json.dumps(names))
    both = f"{root},{other}"
    pictures = load(both, tmp_path)
    assert pictures.everything.domains == ("heads", "spines", "skulls", "backs")
    assert np.bincount(pictures.split("train").domain).tolist() == [4, 4, 2, 2]
    assert pictures.everything.images[-1] == "backs/spines/3.png"
    pictures = load(both, tmp_path, data__domains=("backs", "heads"))
    assert pictures.targets.classes == {"backs": ("none", "block", "disc"), "heads": CLASSES["heads"]}
    train = pictures.split("train")
    assert train.images[0].startswith("backs/") and np.bincount(train.domain).tolist() == [2, 4]
    np.testing.assert_array_equal(train.targets.class_map(0), np.array(Image.open(other / "spines" / "0_mask.png")))


def test_without_help_a_helping_domain_is_left_out(root, tmp_path):
    pictures = load(root, tmp_path, data__helping=("spines",), data__helped=False)
    assert pictures.everything.domains == ("heads",) and pictures.helping == ()
    assert np.bincount(pictures.split("train").domain).tolist() == [4]
    assert all(image.startswith("heads/") for image in pictures.everything.images)


def test_folders_whose_domains_clash(root, tmp_path):
    other = segmentation_folder.write(tmp_path / "other", people=4)
    with pytest.raises(UserError, match="other: domain 'heads' is also one of another folder"):
        load(f"{root},{other}", tmp_path)


def test_a_split_file_of_other_pictures(root, tmp_path):
    (tmp_path / "split.csv").write_text("image,split\nheads/0.png,train\nhands/1.png,test\n")
    with pytest.raises(UserError, match="split.csv names hands/1.png; expected <domain>/<image>, of heads, spines"):
        load(root, tmp_path, data__split=str(tmp_path / "split.csv"))


def test_the_parts_have_their_own_names(root, tmp_path):
    pictures = load(root, tmp_path)
    assert list(pictures.parts) == list(pictures.evaluated) == ["heads", "spines"]
    spines = pictures.parts["spines"]
    assert spines.everything.images[3] == "3.png" and spines.everything.subjects[3] == "person3"
    assert spines.everything.domains == () and dict(spines.targets.classes) == {"spines": CLASSES["spines"]}
    want = pictures.split("test").batch(np.array([2, 3]))
    found = spines.split("test").batch(np.arange(2))
    assert want.keys() - found.keys() == {"domain"} and want["domain"].tolist() == [1, 1]
    for key in found:
        np.testing.assert_array_equal(found[key], want[key])


def test_drawn_ones_and_a_folder_are_domains_of_one_source(root, tmp_path):
    names = {"heads": "skulls", "spines": "backs"}
    for file in ("segmentation.csv", "classes.json"):
        text = (root / file).read_text()
        for old, new in names.items():
            text = text.replace(f",{old},", f",{new},").replace(f'"{old}"', f'"{new}"')
        (root / file).write_text(text)
    pictures = load(f"synthetic,{root}", tmp_path)
    assert pictures.everything.domains == ("heads", "spines", "skulls", "backs") and not pictures.drawn
    assert [part.drawn for part in pictures.parts.values()] == [True, True, False, False]
    assert len(pictures.split("train")) == 2 * 8 + 2 * 4


# ---------------------------------------------------------------- any kind of targets


@pytest.fixture(params=["landmarks", "identities", "class maps"])
def kind(request, landmark_folder, root):
    """Two domains of 8 pictures, half of them for training: a kind of targets, what names them in data.root, and their
    names."""
    if request.param == "class maps":
        return data.CLASS_MAPS, str(root), ("heads", "spines")
    roots = [landmark_folder(people=8, shots=1, size=32, name=name) for name in ("north", "south")]
    targets = {"landmarks": data.LANDMARKS, "identities": data.IDENTITIES}[request.param]
    return targets, ",".join(map(str, roots)), ("north", "south")


def load_any(kind, tmp_path, **changes):
    config = tiny.config("none", domains_config, **{"data__root": kind[1]} | changes)
    return data.load(config.data, tmp_path / "tfds", targets=kind[0])


def counts(pictures):
    return {name: part.split_of.count("train") for name, part in pictures.parts.items()}


def test_one_budget_for_each_domain_and_none_for_a_helper(kind, tmp_path):
    first, second = kind[2]
    assert counts(load_any(kind, tmp_path)) == {first: 4, second: 4}
    assert counts(load_any(kind, tmp_path, data__budget=3)) == {first: 3, second: 3}
    assert counts(load_any(kind, tmp_path, data__share=0.5)) == {first: 2, second: 2}
    helped = load_any(kind, tmp_path, data__budget=3, data__helping=(first,), data__helped=True)
    assert counts(helped) == {first: 8, second: 3}
    assert helped.helping == (first,) and list(helped.evaluated) == [second]
    assert {split: set(helped.split(split).domain.tolist()) for split in ("val", "test")} == {"val": {1}, "test": {1}}


def test_what_a_run_left_unused_of_a_helper_helps(kind, tmp_path):
    """Its split.csv calls so what was beyond the budget."""
    first, second = kind[2]
    helping = {"data__helping": (first,), "data__helped": True}
    rows = load_any(kind, tmp_path, **helping).rows()
    splits = {image: "unused" if image == rows[2][0] else split for image, _, split, _ in rows}
    (tmp_path / "split.csv").write_text("\n".join(["image,split", *map(",".join, splits.items())]))
    pictures = load_any(kind, tmp_path, data__split=str(tmp_path / "split.csv"), **helping)
    assert counts(pictures) == {first: 8, second: 4}


def test_what_is_listed_as_unused_of_a_helper_does_not_help(landmark_folder, tmp_path):
    roots = [landmark_folder(people=4, shots=1, size=32, name=name) for name in ("north", "south")]
    table = roots[0] / "landmarks.csv"
    table.write_text(table.read_text().replace(",test,", ",Unused,"))
    keys = {"data__root": ",".join(map(str, roots)), "data__helping": ("north",), "data__helped": True}
    pictures = data.load(tiny.config("none", domains_config, **keys).data, tmp_path)
    assert counts(pictures) == {"north": 3, "south": 2} and pictures.split_of[3] == "unused"


def test_a_helper_that_does_not_help_is_left_out(kind, tmp_path):
    first, second = kind[2]
    left_out = load_any(kind, tmp_path, data__helping=(first,), data__helped=False)
    chosen = load_any(kind, tmp_path, data__domains=(second,))
    assert left_out.rows() == chosen.rows() and left_out.helping == ()
    assert len(left_out.everything) == 8 and left_out.split_of.count("train") == 4


def test_domains_come_as_they_are_named(kind, tmp_path):
    pictures = load_any(kind, tmp_path, data__domains=kind[2][::-1])
    assert pictures.everything.domains == kind[2][::-1] and pictures.everything.domain.tolist() == [0] * 8 + [1] * 8
    assert pictures.everything.images[0].startswith(f"{kind[2][1]}/")


def test_a_split_file_is_of_all_domains(kind, tmp_path):
    images = load_any(kind, tmp_path).everything.images
    splits = [("test", "val", "train", "train")[i % 4] for i in range(16)]
    rows = [f"{image},{split}" for image, split in zip(images, splits, strict=True)]
    (tmp_path / "split.csv").write_text("\n".join(["image,split", *rows]))
    assert load_any(kind, tmp_path, data__split=str(tmp_path / "split.csv")).split_of == splits


MISTAKES = [
    ({"data__domains": ("FIRST", "hands")}, "data.domains names 'hands'; the domains of data.root are FIRST, SECOND"),
    ({"data__helping": ("hands",)}, "data.helping names 'hands'; the domains of data.root are FIRST, SECOND"),
    ({"data__helping": ("SECOND", "FIRST")}, "data.helping names all the domains that are used; expected one or more"),
    (
        {"data__budget": 5},
        "1 x domain SECOND: domain SECOND: data.budget asks for 5 training pictures, but there are 4",
    ),
]


@pytest.mark.parametrize(("changes", "message"), MISTAKES)
def test_the_messages_are_the_same_for_all(kind, changes, message, tmp_path):
    def named(text):
        return text.replace("FIRST", kind[2][0]).replace("SECOND", kind[2][1])

    changes = {key: tuple(map(named, value)) if isinstance(value, tuple) else value for key, value in changes.items()}
    with pytest.raises(UserError) as error:
        load_any(kind, tmp_path, **changes)
    assert named(message) in str(error.value)
