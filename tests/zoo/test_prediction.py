"""Real weights on real photographs, by every way in, against stored answers."""

import json
import shutil
from pathlib import Path

import keras
import numpy as np
import pytest
from PIL import Image

import zoo
from zoo.prediction import class_names

ORACLE = json.loads((Path(__file__).parents[1] / "golden" / "photos_lite0.json").read_text())["answers"]


@pytest.fixture(scope="module")
def lite0():
    return zoo.load("efficientnet-lite0", pretrained=True)


@pytest.mark.parametrize("photo", ORACLE)
def test_photographs_through_pil(lite0, photos, photo):
    (best,) = zoo.classify(lite0, photos / photo)
    assert [answer.index for answer in best] == ORACLE[photo]["top5"]
    for answer, probability in zip(best, ORACLE[photo]["probability"], strict=True):
        assert answer.probability == pytest.approx(probability, abs=0.002)


def test_photographs_through_tf_data(lite0, photos):
    import tensorflow as tf

    from training.data import decode, eval_transform

    transform = eval_transform(zoo.record_of(lite0)["preprocessing"])
    paths = tf.data.Dataset.from_tensor_slices([str(photos / photo) for photo in ORACLE])
    probabilities = keras.ops.softmax(lite0.predict(paths.map(decode).map(transform).batch(4), verbose=0))
    for row, answer in zip(keras.ops.convert_to_numpy(probabilities), ORACLE.values(), strict=True):
        assert list(np.argsort(-row)[:5]) == answer["top5"]
        np.testing.assert_allclose(row[answer["top5"]], answer["probability"], atol=0.01)


@pytest.mark.parametrize("name", ["efficientnet-lite1", "efficientnet-lite2"])
def test_the_larger_ones_see_a_cat_and_a_coffee(name, photos):
    model = zoo.load(name, pretrained=True)
    cat, coffee = zoo.classify(model, [photos / "chelsea.png", photos / "coffee.png"], top=3)
    assert {282, 285, 281} >= {cat[0].index}
    assert coffee[0].index == 967
    assert (cat[0].name in ("tiger cat", "Egyptian cat", "tabby"), coffee[0].name) == (True, "espresso")


def test_every_kind_of_input_gives_the_same_answer(lite0, photos):
    path = photos / "coffee.png"
    image = Image.open(path)
    array = np.asarray(image)
    reference = zoo.classify(lite0, path)
    for same in (str(path), image, array, [path], (image,), array[None]):
        assert zoo.classify(lite0, same) == reference
    mixed = zoo.classify(lite0, [path, photos / "rocket.jpg", array], top=2, batch=2)
    assert [best[0].index for best in mixed] == [967, 657, 967]


def test_a_reloaded_model_still_prepares_and_classifies(lite0, photos, tmp_path):
    lite0.save(tmp_path / "m.keras")
    again = keras.models.load_model(tmp_path / "m.keras")
    record = zoo.record_of(again)
    assert record == zoo.record_of(lite0)
    assert json.loads(json.dumps(record)) == record
    assert (record["tag"], record["license"], record["classes"]) == ("pypi_in1k", "Apache-2.0", "imagenet-1k")
    np.testing.assert_array_equal(
        zoo.preprocess(photos / "chelsea.png", again), zoo.preprocess(photos / "chelsea.png", "efficientnet-lite0")
    )
    assert zoo.classify(again, photos / "chelsea.png") == zoo.classify(lite0, photos / "chelsea.png")


def test_a_fixed_square_input_gets_pictures_of_its_size(photos):
    model = zoo.load("efficientnet-lite0", pretrained=True, input_shape=192, dialect="tensorflow")
    assert zoo.record_of(model)["preprocessing"] | {"mean": 0, "std": 0} == {
        "resize": 219, "crop": 192, "interpolation": "bicubic", "mean": 0, "std": 0,
    }  # fmt: skip
    assert zoo.classify(model, photos / "coffee.png")[0][0].index == 967
    whole = zoo.load("efficientnet-lite0", pretrained=True, input_shape=(None, 224, 3))
    assert zoo.record_of(whole)["preprocessing"]["crop"] == 224


def test_a_bare_network_gets_normalised_pixels(lite0, photos):
    bare = zoo.load("efficientnet-lite0", pretrained=True, include_preprocessing=False)
    pixels = zoo.preprocess(photos / "coffee.png", bare)
    assert -1 <= pixels.min() < 0 < pixels.max() <= 1
    ours, theirs = zoo.classify(bare, photos / "coffee.png"), zoo.classify(lite0, photos / "coffee.png")
    assert [a.index for a in ours[0]] == [a.index for a in theirs[0]]
    assert ours[0][0].probability == pytest.approx(theirs[0][0].probability, abs=1e-5)


def test_a_model_without_a_record_says_how_to_pass_one(photos):
    model = zoo.build("efficientnet-lite0")
    for call in (
        lambda: zoo.preprocess(photos / "coffee.png", model),
        lambda: zoo.classify(model, photos / "coffee.png"),
    ):
        with pytest.raises(zoo.ZooError, match=r"carries no record.*zoo\.record_of\('efficientnet-lite0'\)"):
            call()
    record = zoo.record_of("efficientnet-lite0")
    assert zoo.preprocess(photos / "coffee.png", record).shape == (1, 224, 224, 3)
    assert len(zoo.classify(model, photos / "coffee.png", record=record)[0]) == 5


def test_other_classes_and_none(photos, caplog):
    model = zoo.load("efficientnet-lite0", pretrained=True, num_classes=7)
    assert "the classifier is new (7 classes)" in caplog.text
    (best,) = zoo.classify(model, photos / "coffee.png", top=9)
    assert sorted(answer.name for answer in best) == [f"class {n}" for n in range(7)]
    embedding = zoo.load("efficientnet-lite0", pretrained=True, num_classes=0)
    assert embedding(zoo.preprocess(photos / "coffee.png", embedding)).shape == (1, 1280)
    with pytest.raises(zoo.ZooError, match="loaded with num_classes=0"):
        zoo.classify(embedding, photos / "coffee.png")


def test_class_names():
    names = class_names({"classes": "imagenet-1k"}, 1000)
    assert (names[0], names[281], names[999]) == ("tench", "tabby", "toilet tissue")
    assert class_names({"classes": ["a", "b"]}, 2) == ["a", "b"]
    with pytest.raises(zoo.ZooError, match="the model has 3 classes, its record names 2"):
        class_names({"classes": ["a", "b"]}, 3)
    with pytest.raises(zoo.ZooError, match="unknown class list 'coco'"):
        class_names({"classes": "coco"}, 80)


@pytest.mark.parametrize(("option", "value"), [("top", 0), ("top", True), ("top", 2.0), ("batch", 0), ("batch", "8")])
def test_bad_options(lite0, photos, option, value):
    with pytest.raises(zoo.ZooError, match=f"{option} must be a whole number of at least 1"):
        zoo.classify(lite0, photos / "coffee.png", **{option: value})


def test_no_pictures_and_a_bad_one(lite0, photos, tmp_path):
    with pytest.raises(zoo.ZooError, match="no pictures"):
        zoo.classify(lite0, [])
    (tmp_path / "broken.png").write_bytes((photos / "coffee.png").read_bytes()[:999])
    with pytest.raises(zoo.ZooError, match=r"broken\.png"):
        zoo.classify(lite0, [photos / "coffee.png", tmp_path / "broken.png"])
    shutil.rmtree(tmp_path)
    with pytest.raises(zoo.ZooError, match="expected a Keras model, a model name or a record, not int"):
        zoo.preprocess(photos / "coffee.png", 7)
