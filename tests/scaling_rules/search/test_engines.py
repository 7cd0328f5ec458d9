"""Engines: the same answers from each, whatever happens to a worker."""

import os
import time
from pathlib import Path

import engine_jobs
import pytest
from engine_jobs import blocks, deadly, difficult, slow, square

from scaling_rules.errors import ZooError
from scaling_rules.search import engines, scoring
from zoo import registry

JOBS = [(number,) for number in range(7)]


@pytest.fixture(scope="module")
def local_ray():
    """Ray on this machine; its processes must find the functions, too."""
    import ray

    env = {"PYTHONPATH": os.pathsep.join([str(Path(engine_jobs.__file__).parent), os.environ.get("PYTHONPATH", "")])}
    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False, runtime_env={"env_vars": env})
    yield
    ray.shutdown()


@pytest.fixture(params=["serial", "processes", "ray"])
def name(request):
    if request.param == "ray":
        request.getfixturevalue("local_ray")
    return request.param


def test_each_engine_gives_every_answer(name):
    assert dict(engines.engine(name)(square, JOBS)) == {number: number**2 for number in range(7)}


def test_scores_of_a_deterministic_scorer_are_the_same(name):
    specs = [registry.architecture(one) for one in ("resnet-20", "resnet-18", "resnet-34")]
    found = scoring.score(specs, (0, 1), blocks, engine=engines.engine(name))
    assert found == scoring.score(specs, (0, 1), blocks)


def test_what_is_raised_is_one_failure(name):
    found = dict(engines.engine(name)(difficult, JOBS))
    assert found.pop(3) == engines.Failed("ValueError: three is no number")
    assert found == {number: number for number in range(7) if number != 3}


@pytest.mark.parametrize("name", ["processes", "ray"], indirect=True)
def test_what_takes_too_long_is_stopped(name):
    start = time.monotonic()
    found = dict(engines.engine(name, timeout=15.0)(slow, JOBS))
    assert found.pop(2) == engines.Failed("took longer than 15 seconds")
    assert found == {number: number for number in range(7) if number != 2}
    assert time.monotonic() - start < 50


@pytest.mark.parametrize("name", ["processes", "ray"], indirect=True)
def test_a_worker_that_dies_is_tried_again(name, tmp_path):
    found = dict(engines.engine(name)(deadly, [(number, str(tmp_path)) for number in range(6)]))
    assert isinstance(found[4], engines.Failed)
    assert "died" in found[4].why
    assert {number: found[number] for number in (0, 1, 2, 3, 5)} == {number: number for number in (0, 1, 2, 3, 5)}


def test_what_cannot_be_sent_is_a_failure():
    (found,) = engines.engine("processes")(lambda number: number, JOBS[:1])
    assert isinstance(found[1], engines.Failed)
    assert "pickle" in found[1].why.lower()


def test_a_search_that_is_left_leaves_no_process():
    answers = engines.engine("processes")(slow, JOBS)
    next(answers)
    start = time.monotonic()
    answers.close()
    assert time.monotonic() - start < 40


@pytest.mark.parametrize(
    ("options", "why"),
    [
        ({"name": "threads"}, r"unknown engine 'threads'; valid: serial, processes, ray"),
        ({"name": "serial", "timeout": 5.0}, r"the serial engine cannot stop a score that takes too long"),
        ({"name": "processes", "timeout": 0.0}, r"timeout must be above 0 seconds, not 0.0"),
        ({"name": "ray", "workers": 0}, r"workers must be a whole number of at least 1, not 0"),
    ],
)
def test_bad_input(options, why):
    with pytest.raises(ZooError, match=why):
        engines.engine(**options)
