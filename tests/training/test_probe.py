"""The probe is logistic regression, scikit-learn's, on the network's pooled features."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from sklearn.linear_model import LogisticRegression

import zoo
from training import recipe
from training.job import Job
from training.probe import STRENGTHS, fit, probe
from zoo.sources import opened


@settings(max_examples=10, deadline=None)
@given(seed=st.integers(0, 1000), classes=st.integers(2, 5), strength=st.sampled_from([1e-3, 1e-2, 1.0]))
def test_it_is_scikit_learns(seed, classes, strength):
    """Which minimises C times the summed loss plus half the squared weights: C = 1 / (n strength)."""
    rng = np.random.default_rng(seed)
    x, labels = rng.normal(size=(40, 6)), np.arange(40) % classes
    x += np.eye(6)[labels]
    kernel, bias = fit(x, labels, classes, strength)
    theirs = LogisticRegression(C=1 / (40 * strength), tol=1e-8, max_iter=5000).fit(x, labels)
    if classes == 2:  # it has one column for two classes, whose penalty is then twice as strong for the same odds
        theirs = LogisticRegression(C=2 / (40 * strength), tol=1e-8, max_iter=5000).fit(x, labels)
    odds = np.exp(x @ kernel + bias)
    np.testing.assert_allclose(odds / odds.sum(1, keepdims=True), theirs.predict_proba(x), atol=2e-3)


@pytest.fixture(scope="module")
def colours(tmp_path_factory):
    """Two classes that differ in colour, and a third in texture."""
    root = tmp_path_factory.mktemp("data") / "colours"
    rng = np.random.default_rng(0)
    for number in range(90):
        name = ("red", "blue", "noise")[number % 3]
        pixels = rng.integers(0, 30, (32, 32, 3))
        if name == "noise":
            pixels += rng.integers(0, 200, (32, 32, 1))
        else:
            pixels[..., 0 if name == "red" else 2] += 180
        folder = root / ("test" if number % 5 == 0 else "train") / name
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.uint8(pixels)).save(folder / f"{number}.png")
    return root


def test_a_probe_of_real_weights(colours, tmp_path):
    job = Job("efficientnet-lite0", str(colours), recipe.load("transfer", ["resolution=64"]), pretrained=True)
    result = probe(job, tmp_path / "run", command="a test")
    assert result["test"]["top1"] > 90
    assert result["strength"] in STRENGTHS
    assert result["steps"] == 0
    # The same by hand: what was saved, on the test pictures.
    model = zoo.load(str(tmp_path / "run" / "model"), True)
    paths = sorted((colours / "test").glob("*/*"))
    side, crop = (zoo.record_of(model)["preprocessing"][key] for key in ("resize", "crop"))
    assert crop == 64
    pictures = []
    for path in paths:
        image = Image.open(path).resize((side, side), Image.Resampling.BICUBIC)
        edge = (side - crop) // 2
        pictures.append(np.asarray(image)[edge : edge + crop, edge : edge + crop])
    classes = ["blue", "noise", "red"]
    answers = model.predict(np.stack(pictures), verbose=0).argmax(1)
    right = np.mean([classes[answer] == path.parent.name for answer, path in zip(answers, paths, strict=True)])
    assert 100 * right == pytest.approx(result["test"]["top1"])
    # Nothing but the classifier is another than published.
    whole = zoo.variables(zoo.load("efficientnet-lite0", True))
    for path, value in zoo.variables(model).items():
        if not path.startswith("head.classifier"):
            np.testing.assert_array_equal(value, whole[path], err_msg=path)
    record = opened(tmp_path / "run" / "model")[0].config.record
    assert record["measured"][0]["value"] == pytest.approx(result["test"]["top1"])
    # And a finished one is not fitted again.
    assert probe(job, tmp_path / "run") == result


def test_random_features_are_refused(colours, tmp_path):
    job = Job("efficientnet-lite0", str(colours), recipe.load("transfer"))
    with pytest.raises(
        zoo.ZooError, match=r"a probe needs features that were learned: give pretrained weights of effic"
    ):
        probe(job, tmp_path / "run")
    assert not (tmp_path / "run").exists()
