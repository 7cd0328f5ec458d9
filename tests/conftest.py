"""What all tests share: where ../shared is, a cache of their own, and the rule that nothing else is skipped."""

import importlib.util
import os
from pathlib import Path

import pytest

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("KERAS_BACKEND", "tensorflow")

SHARED = Path(os.environ.get("ZOO_SHARED", Path(__file__).parents[2] / "shared"))
ABSENT = "../shared is absent"


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of facts and oracles that lies beside the checkout on the developers' machines."""
    if not SHARED.is_dir():
        pytest.skip(ABSENT)
    return SHARED


@pytest.fixture(autouse=True, scope="session")
def _own_cache(tmp_path_factory):
    """No test reads or writes the user's cache; the workers of one run share theirs as real processes do."""
    root = tmp_path_factory.getbasetemp()
    os.environ["ZOO_CACHE"] = str((root.parent if os.environ.get("PYTEST_XDIST_WORKER") else root) / "zoo-cache")


@pytest.fixture(scope="session")
def photos() -> Path:
    """Folder of scikit-image's photographs."""
    spec = importlib.util.find_spec("skimage")
    assert spec is not None
    assert spec.origin is not None
    return Path(spec.origin).parent / "data"


def pytest_sessionfinish(session):
    """Fail a run that skipped anything but for the absence of ../shared."""
    reporter = session.config.pluginmanager.get_plugin("terminalreporter")
    if reporter is None or hasattr(session.config, "workerinput"):
        return
    for report in reporter.stats.get("skipped", []):
        reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)
        if ABSENT not in reason:
            session.exitstatus = 1
            reporter.write_line(f"not allowed to skip: {report.nodeid}: {reason}", red=True)
