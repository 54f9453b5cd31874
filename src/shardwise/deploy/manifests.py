"""A package on Kubernetes: what is rendered as YAML, as plain values. Pure: the same settings give the same values.

Fields are those of https://kubernetes.io/docs/reference/kubernetes-api/, https://istio.io/latest/docs/reference/config/,
https://kserve.github.io/website/docs/reference/crd-api; those of Ray are in `manifests_ray`.
"""

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from shardwise.core.errors import ConfigError

PORT = 8080
USER = 10_001
STABLE, CANARY = "stable", "canary"
_NAME = re.compile(r"[a-z]([a-z0-9-]{0,40}[a-z0-9])?")
_SECRETS = {"SHARDWISE_API_KEYS": "api-keys", "SHARDWISE_ADMIN_KEYS": "admin-keys"}
SPARE_S = 5  # after the drain, until Kubernetes kills
MIB = 1024**2
Values = dict[str, Any]
NO_ROOT: Values = {"runAsNonRoot": True, "runAsUser": USER, "runAsGroup": USER,
                   "seccompProfile": {"type": "RuntimeDefault"}}  # fmt: skip
CONFINED: Values = {"allowPrivilegeEscalation": False, "readOnlyRootFilesystem": True,
                    "capabilities": {"drop": ["ALL"]}}  # fmt: skip
TMP: Values = {"name": "tmp", "mountPath": "/tmp"}  # noqa: S108 - the only place that can be written


@dataclass(frozen=True, kw_only=True)
class ManifestConfig:
    """How a package is run.

    name           of the service, and of the model in its addresses
    image          what the Dockerfile is built as; `version` (the package's hash) is its tag
    cpu            cores of a replica, whole: as many threads predict
    memory_bytes   of a replica, as request and as limit
    replicas       the least and the most; in between the autoscaler decides by the load of the CPUs
    deadline_s, drain_delay_s, drain_s   as of `shardwise serve`
    ray            version of Ray, in the image and of the cluster that runs it
    canary, canary_weight   version of a second package, and percent of the requests that Istio sends to it
    """

    name: str
    image: str
    version: str
    memory_bytes: int
    cpu: int = 1
    replicas: tuple[int, int] = (2, 10)
    deadline_s: float = 10.0
    drain_delay_s: float = 5.0
    drain_s: float = 30.0
    ray: str = "2.60.0"
    canary: str | None = None
    canary_weight: int = 0

    def __post_init__(self) -> None:
        if not _NAME.fullmatch(self.name):
            hint = "Use at most 42 small letters, digits and '-', and begin with a letter; --name gives another one."
            raise ConfigError(f"{self.name!r} is no name of a service of Kubernetes", hint=hint)
        if not re.fullmatch(r"[a-z0-9][\w./:-]*", self.image) or ":" in self.image.rpartition("/")[2]:
            raise ConfigError(f"{self.image!r} is no image", hint="Give it without a tag: registry.example/team/model.")
        least, most = self.replicas
        if not 1 <= least <= most:
            raise ConfigError(f"replicas are {least} to {most}", hint="Give the least, at least 1, and the most.")
        if not re.fullmatch(r"\d+(\.\d+){1,2}", self.ray):
            raise ConfigError(f"{self.ray!r} is no version of Ray", hint="Give one such as 2.60.0.")
        if self.cpu < 1 or self.memory_bytes < 64 * MIB:
            raise ConfigError("a replica needs at least one core and 64MB", hint="Look at --cpu and --memory.")
        if not 0 <= self.canary_weight <= 100 or (self.canary_weight > 0 and self.canary is None):
            raise ConfigError(f"the weight of the canary is {self.canary_weight}", hint="Give 0 to 100, and --canary.")


def kubernetes(config: ManifestConfig) -> list[Values]:
    """Deployment (two with a canary), Service, HorizontalPodAutoscaler, PodDisruptionBudget."""
    tracks = {STABLE: config.version} | ({} if config.canary is None else {CANARY: config.canary})
    return [
        *(_deployment(config, track, version) for track, version in tracks.items()),
        manifest("v1", "Service", config.name, labels_of(config), {
            "selector": labels_of(config),
            "ports": [{"name": "http", "port": 80, "targetPort": "http", "appProtocol": "http"}],
        }),
        *(_autoscaler(config, track) for track in tracks),
        manifest("policy/v1", "PodDisruptionBudget", config.name, labels_of(config), {
            "maxUnavailable": 1, "selector": {"matchLabels": labels_of(config)},
        }),
    ]  # fmt: skip


def istio(config: ManifestConfig) -> list[Values]:
    """VirtualService and DestinationRule: the share of requests that the canary gets."""
    shares = {STABLE: 100 - config.canary_weight} | ({} if config.canary is None else {CANARY: config.canary_weight})
    routes = [
        {"destination": {"host": config.name, "subset": track}, "weight": share} for track, share in shares.items()
    ]
    retries = {"attempts": 2, "retryOn": "connect-failure,refused-stream,unavailable"}
    timeout = f"{config.deadline_s + 1:g}s"  # the server's own answer comes first
    return [
        manifest("networking.istio.io/v1", "VirtualService", config.name, labels_of(config), {
            "hosts": [config.name], "http": [{"route": routes, "retries": retries, "timeout": timeout}],
        }),
        manifest("networking.istio.io/v1", "DestinationRule", config.name, labels_of(config), {
            "host": config.name,
            "subsets": [{"name": track, "labels": {"track": track}} for track in shares],
        }),
    ]  # fmt: skip


def kserve(config: ManifestConfig) -> list[Values]:
    """InferenceService with a predictor of our own, which speaks the Open Inference Protocol.

    As a plain Deployment: Knative refuses parts of the security context and named ports of probes.
    """
    pod = _pod(config, config.version)
    container = pod["containers"][0]
    container["name"] = "kserve-container"  # which KServe looks for
    least, most = config.replicas
    service = manifest("serving.kserve.io/v1beta1", "InferenceService", config.name, labels_of(config), {
        "predictor": {"minReplicas": least, "maxReplicas": most, "timeout": math.ceil(config.deadline_s + 1), **pod},
    })  # fmt: skip
    service["metadata"]["annotations"] = {"serving.kserve.io/deploymentMode": "RawDeployment"}
    return [service]


def manifest(version: str, kind: str, name: str, labels: Mapping[str, str], spec: Values) -> Values:
    return {"apiVersion": version, "kind": kind, "metadata": {"name": name, "labels": dict(labels)}, "spec": spec}


def labels_of(config: ManifestConfig) -> dict[str, str]:
    return {"app.kubernetes.io/name": "shardwise", "app.kubernetes.io/instance": config.name}


def keys_of(config: ManifestConfig) -> list[Values]:
    """The environment that gives a server its keys, where the secret is there."""
    secret = {"name": f"{config.name}-keys", "optional": True}
    return [{"name": variable, "valueFrom": {"secretKeyRef": {**secret, "key": key}}}
            for variable, key in _SECRETS.items()]  # fmt: skip


def _track_name(config: ManifestConfig, track: str) -> str:
    return config.name if track == STABLE else f"{config.name}-{track}"


def _deployment(config: ManifestConfig, track: str, version: str) -> Values:
    own = {**labels_of(config), "track": track}
    labels = {**own, "app.kubernetes.io/version": version}
    spread = {"maxSkew": 1, "topologyKey": "kubernetes.io/hostname", "whenUnsatisfiable": "ScheduleAnyway",
              "labelSelector": {"matchLabels": own}}  # fmt: skip
    return manifest("apps/v1", "Deployment", _track_name(config, track), labels, {
        "selector": {"matchLabels": own},
        "strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": 0, "maxSurge": 1}},
        "template": {
            "metadata": {"labels": labels},
            "spec": {**_pod(config, version), "topologySpreadConstraints": [spread]},
        },
    })  # fmt: skip


def _pod(config: ManifestConfig, version: str) -> Values:
    return {
        "automountServiceAccountToken": False,
        "terminationGracePeriodSeconds": math.ceil(config.drain_delay_s + config.drain_s) + SPARE_S,
        "securityContext": NO_ROOT,
        "containers": [_container(config, version)],
        "volumes": [{"name": "tmp", "emptyDir": {"sizeLimit": "256Mi"}}],
    }  # fmt: skip


def _container(config: ManifestConfig, version: str) -> Values:
    """The server drains by itself on SIGTERM: it says at once that it is not ready, and listens on for a while."""
    resources = {"cpu": str(config.cpu), "memory": f"{-(-config.memory_bytes // MIB)}Mi"}
    ready, live = ({"httpGet": {"path": f"/v2/health/{what}", "port": "http"}} for what in ("ready", "live"))
    return {
        "name": "server",
        "image": f"{config.image}:{version}",
        "args": ["--host", "0.0.0.0", "--port", str(PORT), "--deadline", f"{config.deadline_s:g}s",  # noqa: S104
                 "--drain-delay", f"{config.drain_delay_s:g}s", "--drain", f"{config.drain_s:g}s"],
        "env": keys_of(config),
        "ports": [{"name": "http", "containerPort": PORT}],
        "resources": {"requests": resources, "limits": resources.copy()},
        "startupProbe": {**ready, "periodSeconds": 2, "failureThreshold": 150},
        "readinessProbe": {**ready, "periodSeconds": 2, "failureThreshold": 2},
        "livenessProbe": {**live, "periodSeconds": 10, "timeoutSeconds": 5, "failureThreshold": 3},
        "securityContext": CONFINED,
        "volumeMounts": [TMP],
    }  # fmt: skip


def _autoscaler(config: ManifestConfig, track: str) -> Values:
    least, most = config.replicas if track == STABLE else (1, config.replicas[1])
    name = _track_name(config, track)
    busy = {
        "type": "Resource",
        "resource": {"name": "cpu", "target": {"type": "Utilization", "averageUtilization": 70}},
    }
    return manifest("autoscaling/v2", "HorizontalPodAutoscaler", name, labels_of(config), {
        "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": name},
        "minReplicas": least, "maxReplicas": most, "metrics": [busy],
        "behavior": {"scaleDown": {"stabilizationWindowSeconds": 300}},
    })  # fmt: skip
