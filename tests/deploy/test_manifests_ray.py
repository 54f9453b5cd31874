"""The RayService: its pods by Kubernetes' schemas, what Ray Serve is told by Ray's, other fields as documented.

No package that pip or npm install has KubeRay's own schema.
"""

import pytest
import yaml

from shardwise.core.errors import ConfigError
from shardwise.deploy.manifests import ManifestConfig
from shardwise.deploy.manifests_ray import APPLICATION, DEPLOYMENT, SERVE_PORT, image_of, ray
from shardwise.serve.online.keys import ADMIN_VARIABLE, VARIABLE

MIB = 1024**2


def config(**changes):
    plain = {"name": "m", "image": "registry.example:5000/team/m", "version": "abc123", "memory_bytes": 512 * MIB}
    return ManifestConfig(**{**plain, **changes})


def cluster(**changes):
    return ray(config(**changes))[0]["spec"]["rayClusterConfig"]


def pods(**changes):
    told = cluster(**changes)
    return told["headGroupSpec"]["template"]["spec"], told["workerGroupSpecs"][0]["template"]["spec"]


def test_the_pods_are_valid():
    found = pytest.importorskip("kubernetes_validate", reason="kubernetes-validate is not installed")
    for template in (cluster()["headGroupSpec"]["template"], cluster()["workerGroupSpecs"][0]["template"]):
        pod = {"apiVersion": "v1", "kind": "Pod", **template}
        found.validate({**pod, "metadata": {"name": "m", **pod["metadata"]}}, found.latest_version(), strict=True)


def test_other_fields_are_those_documented():
    service, _ = ray(config(replicas=(2, 5), ray="2.59.1"))
    assert (service["apiVersion"], service["kind"]) == ("ray.io/v1", "RayService")
    assert set(service["spec"]) == {"serveConfigV2", "rayClusterConfig"}
    told = service["spec"]["rayClusterConfig"]
    assert set(told) == {"rayVersion", "enableInTreeAutoscaling", "headGroupSpec", "workerGroupSpecs"}
    assert set(told["headGroupSpec"]) == {"rayStartParams", "template"}
    (workers,) = told["workerGroupSpecs"]
    assert set(workers) == {"groupName", "replicas", "minReplicas", "maxReplicas", "rayStartParams", "template"}
    assert [workers[name] for name in ("replicas", "minReplicas", "maxReplicas")] == [2, 2, 5]
    for params in (told["headGroupSpec"]["rayStartParams"], workers["rayStartParams"]):
        assert all(isinstance(value, str) for value in params.values())
    assert told["rayVersion"] == "2.59.1"


def test_serve_takes_its_config_and_the_application_its_args():
    pytest.importorskip("ray.serve", reason="Ray Serve is not installed")
    from ray.serve.schema import ServeDeploySchema

    from shardwise.serve import on_ray

    content = yaml.safe_load(ray(config(replicas=(2, 5), cpu=2))[0]["spec"]["serveConfigV2"])
    told = ServeDeploySchema(**content)  # unknown fields are refused
    (application,) = told.applications
    (deployment,) = application.deployments
    assert f"{on_ray.__name__}:{on_ray.app.__name__}" == application.import_path == APPLICATION
    assert deployment.name == DEPLOYMENT == on_ray.DEPLOYMENT
    assert deployment.ray_actor_options.num_cpus == 2
    packages, registry, settings = on_ray.read_args(application.args)
    assert (packages, registry) == (("m=/model",), None)
    assert (settings.deadline_s, settings.drain_s) == (10.0, 30.0)
    assert told.http_options.port == SERVE_PORT


def test_a_replica_finds_room_on_a_worker_and_none_on_the_head():
    _, worker = pods(cpu=2)
    assert cluster()["headGroupSpec"]["rayStartParams"]["num-cpus"] == "0"
    limits = worker["containers"][0]["resources"]["limits"]
    assert limits["cpu"] == "2"
    assert int(limits["memory"].removesuffix("Mi")) >= 512 + 1024


def test_nothing_runs_as_root_or_writes_to_the_image_and_keys_are_for_workers():
    for pod in pods():
        (container,) = pod["containers"]
        assert pod["securityContext"]["runAsNonRoot"]
        assert container["securityContext"]["readOnlyRootFilesystem"]
        assert container["image"] == image_of(config())
        assert "command" not in container  # KubeRay's own
        assert "args" not in container
        for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
            if "exec" in container[probe]:
                compile(container[probe]["exec"]["command"][2], probe, "exec")
    head, worker = pods()
    assert {VARIABLE, ADMIN_VARIABLE} <= {each["name"] for each in worker["containers"][0]["env"]}
    assert not worker["automountServiceAccountToken"]
    assert "automountServiceAccountToken" not in head  # its autoscaler needs the token


def test_the_fence_is_valid_and_lets_in_requests_the_cluster_and_the_operator():
    found = pytest.importorskip("kubernetes_validate", reason="kubernetes-validate is not installed")
    _, fence = ray(config())
    found.validate(fence, found.latest_version(), strict=True)
    labels = cluster()["headGroupSpec"]["template"]["metadata"]["labels"]
    assert labels == cluster()["workerGroupSpecs"][0]["template"]["metadata"]["labels"]
    assert fence["spec"]["podSelector"]["matchLabels"].items() <= labels.items()
    anybody, cluster_itself, operator = fence["spec"]["ingress"]
    assert anybody == {"ports": [{"port": SERVE_PORT, "protocol": "TCP"}]}
    assert cluster_itself == {"from": [{"podSelector": fence["spec"]["podSelector"]}]}
    head = {each["name"]: each["containerPort"] for each in pods()[0]["containers"][0]["ports"]}
    assert head["dashboard"] in {each["port"] for each in operator["ports"]}
    assert SERVE_PORT not in {each["port"] for each in operator["ports"]}


def test_a_version_that_is_none_is_refused():
    with pytest.raises(ConfigError, match="no version of Ray"):
        config(ray="latest")
