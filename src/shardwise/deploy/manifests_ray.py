"""A package on a cluster of Ray's that KubeRay runs. Pure, as `manifests`.

Fields of the RayService are those of https://ray-project.github.io/kuberay/reference/api/, those of its serveConfigV2
are of https://docs.ray.io/en/latest/serve/production-guide/config.html.
"""

import math

import yaml

from shardwise.deploy.manifests import (
    CONFINED,
    MIB,
    NO_ROOT,
    SPARE_S,
    TMP,
    ManifestConfig,
    Values,
    keys_of,
    labels_of,
    manifest,
)

APPLICATION = "shardwise.serve.on_ray:app"
DEPLOYMENT = "shardwise"
SERVE_PORT = 8000
_DASHBOARD_PORT, _AGENT_PORT = 8265, 52365
_OPERATOR = {"app.kubernetes.io/name": "kuberay-operator"}  # as KubeRay's chart labels its pods
_HEAD_BYTES = 3072 * MIB  # for the cluster's state, its dashboard and Serve's controller
_RAY_BYTES = 1024 * MIB  # beside a replica: Ray's own processes and Serve's proxy
_OBJECTS_BYTES = 128 * MIB  # of shared memory: requests and answers go through it where they are large
_ONGOING = 8  # requests under way for each replica, which the autoscaler aims at


def ray(config: ManifestConfig) -> list[Values]:
    """RayService: a head without replicas, and as many workers as replicas, which Ray's autoscaler asks for; and a
    NetworkPolicy, since Ray's own ports ask nobody who he is."""
    least, most = config.replicas
    worker = {
        "groupName": "replicas", "replicas": least, "minReplicas": least, "maxReplicas": most,
        "rayStartParams": {"object-store-memory": str(_OBJECTS_BYTES)},
        "template": {"metadata": {"labels": labels_of(config)}, "spec": _worker(config)},
    }  # fmt: skip
    head = {
        "rayStartParams": {"num-cpus": "0", "object-store-memory": str(_OBJECTS_BYTES)},
        "template": {"metadata": {"labels": labels_of(config)}, "spec": _head(config)},
    }
    return [manifest("ray.io/v1", "RayService", config.name, labels_of(config), {
        "serveConfigV2": yaml.safe_dump(serve_config(config), sort_keys=False, width=120),
        "rayClusterConfig": {
            "rayVersion": config.ray, "enableInTreeAutoscaling": True,
            "headGroupSpec": head, "workerGroupSpecs": [worker],
        },
    }), _fence(config)]  # fmt: skip


def _fence(config: ManifestConfig) -> Values:
    """Requests come from anywhere; to all other ports only pods of the same cluster, and KubeRay's operator, wherever
    it runs, to those by which it gives the application and asks how it is."""
    ours = {"matchLabels": labels_of(config)}
    operator = {"namespaceSelector": {}, "podSelector": {"matchLabels": _OPERATOR}}
    told = [{"port": port, "protocol": "TCP"} for port in (_DASHBOARD_PORT, _AGENT_PORT)]
    return manifest("networking.k8s.io/v1", "NetworkPolicy", config.name, labels_of(config), {
        "podSelector": ours, "policyTypes": ["Ingress"],
        "ingress": [
            {"ports": [{"port": SERVE_PORT, "protocol": "TCP"}]},
            {"from": [{"podSelector": ours}]},
            {"from": [operator], "ports": told},
        ],
    })  # fmt: skip


def serve_config(config: ManifestConfig) -> Values:
    """What Ray Serve is told: as a file it does for `serve deploy` on any cluster of the same image."""
    least, most = config.replicas
    replica = {
        "name": DEPLOYMENT,
        "ray_actor_options": {"num_cpus": config.cpu, "memory": config.memory_bytes},
        "autoscaling_config": {"min_replicas": least, "max_replicas": most, "target_ongoing_requests": _ONGOING},
    }
    return {
        "proxy_location": "EveryNode",
        "http_options": {"host": "0.0.0.0", "port": SERVE_PORT},  # noqa: S104
        "applications": [{
            "name": config.name, "route_prefix": "/", "import_path": APPLICATION,
            "args": {"packages": f"{config.name}=/model", "deadline": f"{config.deadline_s:g}s",
                     "drain": f"{config.drain_s:g}s"},
            "deployments": [replica],
        }],
    }  # fmt: skip


def image_of(config: ManifestConfig) -> str:
    """The image with Ray in it."""
    return f"{config.image}:{config.version}-ray"


def _head(config: ManifestConfig) -> Values:
    ports = {"gcs-server": 6379, "dashboard": _DASHBOARD_PORT, "serve": SERVE_PORT}
    alive = _asks(_AGENT_PORT, "/api/local_raylet_healthz")
    container = _container(config, "ray-head", 1, _HEAD_BYTES, ports)
    container |= {"startupProbe": {**alive, "periodSeconds": 5, "failureThreshold": 60},
                  "readinessProbe": {**_asks(_DASHBOARD_PORT, "/api/gcs_healthz"), "periodSeconds": 10},
                  "livenessProbe": {**alive, "periodSeconds": 10, "failureThreshold": 6}}  # fmt: skip
    return _pod(config, container)  # its autoscaler talks to Kubernetes: with a token


def _worker(config: ManifestConfig) -> Values:
    alive = _asks(_AGENT_PORT, "/api/local_raylet_healthz")
    container = _container(
        config, "ray-worker", config.cpu, config.memory_bytes + _RAY_BYTES + _OBJECTS_BYTES, {"serve": SERVE_PORT}
    )
    container |= {"startupProbe": {**alive, "periodSeconds": 5, "failureThreshold": 60},
                  "readinessProbe": {"httpGet": {"path": "/-/healthz", "port": "serve"}, "periodSeconds": 5,
                                     "timeoutSeconds": 5, "failureThreshold": 2},
                  "livenessProbe": {**alive, "periodSeconds": 10, "failureThreshold": 6}}  # fmt: skip
    container["env"] += keys_of(config)
    return {"automountServiceAccountToken": False, **_pod(config, container)}


def _pod(config: ManifestConfig, container: Values) -> Values:
    return {
        "terminationGracePeriodSeconds": math.ceil(config.drain_s) + 2 * SPARE_S,
        "securityContext": NO_ROOT,
        "containers": [container],
        "volumes": [{"name": TMP["name"], "emptyDir": {"sizeLimit": "2Gi"}}],  # Ray's logs, too
    }


def _container(config: ManifestConfig, name: str, cpu: int, size_bytes: int, ports: dict[str, int]) -> Values:
    """Without a command: KubeRay puts `ray start` there."""
    resources = {"cpu": str(cpu), "memory": f"{-(-size_bytes // MIB)}Mi"}
    return {
        "name": name,
        "image": image_of(config),
        "env": [{"name": "USER", "value": "shardwise"}, {"name": "RAY_USAGE_STATS_ENABLED", "value": "0"}],
        "ports": [{"name": port, "containerPort": number} for port, number in ports.items()],
        "resources": {"requests": resources, "limits": resources.copy()},
        "securityContext": CONFINED,
        "volumeMounts": [TMP],
    }


def _asks(port: int, path: str) -> Values:
    """A probe by Python, for KubeRay's own ones ask by wget, which the image has not."""
    code = (
        f"import urllib.request as r; assert b'success' in r.urlopen('http://127.0.0.1:{port}{path}', timeout=4).read()"
    )
    return {"exec": {"command": ["python", "-c", code]}, "timeoutSeconds": 5}
