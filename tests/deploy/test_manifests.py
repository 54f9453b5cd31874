"""Manifests: valid by the official schemas, and true of the server that they start."""

import pytest
from tests.serve.online.servers import PATIENCE_S  # noqa: F401 - skips where the extra `serve` is missing

from shardwise.cli.serve import command
from shardwise.core.errors import ConfigError
from shardwise.deploy.manifests import PORT, ManifestConfig, istio, kserve, kubernetes
from shardwise.serve.online.app import OPEN_PATHS
from shardwise.serve.online.keys import ADMIN_VARIABLE, VARIABLE
from shardwise.serve.online.settings import ServeConfig

PLAIN = {"name": "m", "image": "registry.example:5000/team/m", "version": "abc123", "memory_bytes": 512 * 1024**2}
CANARY = {**PLAIN, "canary": "def456", "canary_weight": 5}


def config(**changes):
    return ManifestConfig(**{**PLAIN, **changes})


def by_kind(objects, kind):
    return [each for each in objects if each["kind"] == kind]


def pods():
    """Of all that run the server."""
    deployed = [each["spec"]["template"]["spec"] for each in by_kind(kubernetes(config(**CANARY)), "Deployment")]
    return [*deployed, kserve(config())[0]["spec"]["predictor"]]


@pytest.mark.parametrize("given", [PLAIN, CANARY])
def test_kubernetes_own_schemas_hold(given):
    validate = pytest.importorskip("kubernetes_validate", reason="kubernetes-validate is not installed").validate
    objects = kubernetes(config(**given))
    for each in objects:
        validate(each, validate.__globals__["latest_version"](), strict=True)
    kinds = [each["kind"] for each in objects]
    assert {"Deployment", "Service", "HorizontalPodAutoscaler", "PodDisruptionBudget"} == set(kinds)
    assert kinds.count("Deployment") == kinds.count("HorizontalPodAutoscaler") == 1 + ("canary" in given)


def test_the_schemas_would_find_a_mistake():
    found = pytest.importorskip("kubernetes_validate", reason="kubernetes-validate is not installed")
    wrong = kubernetes(config())[0]
    wrong["spec"]["template"]["spec"]["containers"][0]["readinesProbe"] = {}
    with pytest.raises(found.ValidationError):
        found.validate(wrong, found.latest_version(), strict=True)


@pytest.mark.parametrize("weight", [0, 5, 100])
def test_istio_sends_the_canary_its_share(weight):
    models = pytest.importorskip("cloudcoil.models.istio.networking.v1", reason="Istio's models are not installed")
    service, rule = istio(config(**{**CANARY, "canary_weight": weight}))
    for each in (service, rule):
        told = (
            getattr(models, each["kind"]).model_validate(each).model_dump(mode="json", by_alias=True, exclude_none=True)
        )
        assert told["spec"] == each["spec"]  # nothing that Istio does not know
    routes = service["spec"]["http"][0]["route"]
    assert [route["weight"] for route in routes] == [100 - weight, weight]
    labels = [each["spec"]["template"]["metadata"]["labels"] for each in
              by_kind(kubernetes(config(**CANARY)), "Deployment")]  # fmt: skip
    for route, own in zip(routes, labels, strict=True):
        subset = next(each for each in rule["spec"]["subsets"] if each["name"] == route["destination"]["subset"])
        assert subset["labels"].items() <= own.items()


def test_the_pod_of_kserve_is_valid_and_its_other_fields_are_those_documented():
    """No package has KServe's own schema: its predictor is a PodSpec and a few fields more."""
    found = pytest.importorskip("kubernetes_validate", reason="kubernetes-validate is not installed")
    (service,) = kserve(config())
    assert (service["apiVersion"], service["kind"]) == ("serving.kserve.io/v1beta1", "InferenceService")
    predictor = dict(service["spec"]["predictor"])
    own = {name: predictor.pop(name) for name in ("minReplicas", "maxReplicas", "timeout")}
    assert own == {"minReplicas": 2, "maxReplicas": 10, "timeout": 11}
    pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "m"}, "spec": predictor}
    found.validate(pod, found.latest_version(), strict=True)
    assert predictor["containers"][0]["name"] == "kserve-container"


def test_probes_ask_what_the_server_answers_to_all():
    for pod in pods():
        (container,) = pod["containers"]
        asked = {container[probe]["httpGet"]["path"] for probe in ("startupProbe", "readinessProbe", "livenessProbe")}
        assert asked == {"/v2/health/ready", "/v2/health/live"} <= OPEN_PATHS
        assert container["ports"][0] == {"name": "http", "containerPort": PORT}


def test_the_server_understands_its_arguments_and_drains_before_it_is_killed():
    for pod in pods():
        (container,) = pod["containers"]
        with command.make_context("serve", ["m=/model", *container["args"]]) as context:
            given = {
                name: value for name, value in context.params.items() if name not in ("packages", "registry", "worker")
            }
        told = ServeConfig.from_words({**given, "alert": None})
        assert (told.host, told.port, told.deadline_s) == ("0.0.0.0", PORT, 10.0)
        assert told.drain_delay_s + told.drain_s < pod["terminationGracePeriodSeconds"]
        assert {each["name"] for each in container["env"]} == {VARIABLE, ADMIN_VARIABLE}


def test_nothing_runs_as_root_or_writes_to_the_image():
    for pod in pods():
        (container,) = pod["containers"]
        assert pod["securityContext"]["runAsNonRoot"]
        assert not pod["automountServiceAccountToken"]
        assert container["securityContext"] == {"allowPrivilegeEscalation": False, "readOnlyRootFilesystem": True,
                                                "capabilities": {"drop": ["ALL"]}}  # fmt: skip
        assert container["resources"]["requests"] == container["resources"]["limits"]
        assert container["resources"]["limits"] == {"cpu": "1", "memory": "512Mi"}


def test_selectors_find_their_own_pods_alone():
    objects = kubernetes(config(**CANARY))
    labels = {
        each["metadata"]["name"]: each["spec"]["template"]["metadata"]["labels"]
        for each in by_kind(objects, "Deployment")
    }
    for each in by_kind(objects, "Deployment"):
        chosen = each["spec"]["selector"]["matchLabels"].items()
        assert [name for name, own in labels.items() if chosen <= own.items()] == [each["metadata"]["name"]]
    for chosen in (by_kind(objects, "Service")[0]["spec"]["selector"],
                   by_kind(objects, "PodDisruptionBudget")[0]["spec"]["selector"]["matchLabels"]):  # fmt: skip
        assert all(chosen.items() <= own.items() for own in labels.values())


@pytest.mark.parametrize(
    "wrong",
    [{"name": "My_Model"}, {"name": "1m"}, {"name": "x" * 50}, {"image": "UPPER"}, {"image": "a b"},
     {"image": "m:latest"}, {"replicas": (0, 1)}, {"replicas": (3, 2)}, {"cpu": 0}, {"memory_bytes": 1},
     {"canary_weight": 5}, {"canary": "def456", "canary_weight": 101}],
)  # fmt: skip
def test_what_cannot_be_is_refused(wrong):
    with pytest.raises(ConfigError):
        config(**wrong)
