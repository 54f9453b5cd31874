"""shardwise deploy render PACKAGE --image IMAGE --to DIR"""

from pathlib import Path

import click

from shardwise.cli import print_json
from shardwise.cli.options import json_option, registry_option
from shardwise.core.units import format_size, parse_duration, parse_size
from shardwise.deploy.manifests import ManifestConfig
from shardwise.deploy.render import memory_of, render, version_of
from shardwise.registry.references import open_package


@click.group("deploy")
def command() -> None:
    """From a package to a service."""


@command.command("render")
@click.argument("package")
@click.option("--image", required=True, help="What the image is to be called, without a tag: the package's hash is it.")
@click.option("--to", "folder", required=True, metavar="DIR", help="Where the files go; replaced as a whole.")
@click.option("--name", default="model", show_default=True, help="Of the service, and of the model in its addresses.")
@click.option("--canary", metavar="PACKAGE", help="A second package, which gets a share of the requests by Istio.")
@click.option("--canary-weight", default=0, help="That share, in percent.")
@click.option("--cpu", default=1, show_default=True, help="Cores of a replica.")
@click.option("--memory", help="Of a replica; else what loading and predicting takes here, with room for requests.")
@click.option("--replicas", nargs=2, type=int, default=(2, 10), show_default=True, help="The least and the most.")
@click.option("--deadline", default="10s", show_default=True, help="The longest that a request may take.")
@click.option("--drain-delay", default="5s", show_default=True, help="For balancers to hear that a replica ends.")
@click.option("--drain", default="30s", show_default=True, help="For requests that are under way then.")
@click.option("--ray", default=ManifestConfig.ray, show_default=True, help="Version of Ray, for ray.yaml.")
@registry_option
@json_option
def render_command(
    package: str, *, image: str, folder: str, name: str, canary: str | None, canary_weight: int, cpu: int,
    memory: str | None, replicas: tuple[int, int], deadline: str, drain_delay: str, drain: str, ray: str,
    registry: str | None, as_json: bool,
) -> int:  # fmt: skip
    """Write Dockerfile, manifests and build.sh for PACKAGE: a folder, NAME@3 or NAME@champion.

    \b
    kubernetes.yaml   Deployment, Service, HorizontalPodAutoscaler, PodDisruptionBudget
    istio.yaml        VirtualService and DestinationRule, with the weight of the canary
    kserve.yaml       InferenceService, in the place of the others
    ray.yaml          RayService: a cluster of Ray that serves, also in their place
    API keys come from the secret NAME-keys (api-keys, admin-keys), if it is there.
    """
    packages = [open_package(text, registry) for text in (package, canary) if text is not None]
    taken = parse_size(memory) if memory else max(map(memory_of, packages))
    config = ManifestConfig(
        name=name, image=image, version=version_of(packages[0]), cpu=cpu, memory_bytes=taken, replicas=replicas,
        deadline_s=parse_duration(deadline), drain_delay_s=parse_duration(drain_delay), drain_s=parse_duration(drain),
        ray=ray, canary=version_of(packages[1]) if canary else None, canary_weight=canary_weight,
    )  # fmt: skip
    files = render(packages, Path(folder), config)
    if as_json:
        print_json({"folder": folder, "files": files, "memory_bytes": taken, "version": config.version})
    else:
        print(f"{folder}: {', '.join(files)}; {format_size(taken)} of memory for a replica")
    return 0
