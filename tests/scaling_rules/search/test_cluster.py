"""A Ray cluster of two nodes on this machine, of which one is lost in the middle of a search."""

import os
import threading
import time
from pathlib import Path

import engine_jobs
import pytest

from scaling_rules.errors import ZooError
from scaling_rules.search import engines


@pytest.fixture
def cluster():
    import ray
    from ray.cluster_utils import Cluster

    made = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
    env = {"PYTHONPATH": os.pathsep.join([str(Path(engine_jobs.__file__).parent), os.environ.get("PYTHONPATH", "")])}
    try:
        ray.init(made.address, log_to_driver=False, runtime_env={"env_vars": env})
        yield made
    finally:
        ray.shutdown()
        made.shutdown()


def test_a_job_whose_node_is_lost_answers_from_another(cluster, tmp_path):
    import ray

    second = cluster.add_node(num_cpus=1)
    cluster.wait_for_nodes()
    lost = []

    def lose():
        end = time.monotonic() + 60
        while time.monotonic() < end:
            for path in tmp_path.iterdir():
                if second.node_id in path.name:
                    lost.append(path.name.split()[0])
                    cluster.remove_node(second, allow_graceful=False)
                    return
            time.sleep(0.05)

    killer = threading.Thread(target=lose)
    killer.start()
    jobs = [(number, str(tmp_path)) for number in range(6)]
    found = dict(engines.engine("ray")(engine_jobs.where, jobs))
    killer.join()
    assert lost, "no job began on the second node"
    assert found == {number: number for number in range(6)}
    begun = [path.name.split() for path in tmp_path.iterdir()]
    nodes = [node for number, node, _ in begun if number == lost[0]]
    assert len(nodes) >= 2
    assert set(nodes) == {second.node_id, ray.get_runtime_context().get_node_id()}


@pytest.mark.parametrize("address", ["127.0.0.1:1", "auto", "nonsense:x"])
def test_no_cluster_is_one_line(monkeypatch, address):
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    with pytest.raises(ZooError, match=rf"no Ray cluster at '{address}': .*; `ray start --head` begins one"):
        list(engines.engine("ray", address=address)(engine_jobs.square, [(1,)]))
