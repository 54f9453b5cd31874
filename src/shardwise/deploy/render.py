"""`shardwise deploy render`: a folder with all that is needed to build an image of a package and to run it."""

import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import yaml

from shardwise.core.errors import ConfigError, context
from shardwise.deploy.costs import peak_memory
from shardwise.deploy.manifests import PORT, USER, ManifestConfig, istio, kserve, kubernetes
from shardwise.deploy.manifests_ray import image_of, ray
from shardwise.registry.golden import read_golden
from shardwise.registry.package import Package
from shardwise.store.files import staged_folder

VERSION_DIGITS = 12
MARK = "# Rendered by shardwise."
KINDS = {"kubernetes": kubernetes, "istio": istio, "kserve": kserve, "ray": ray}
_EXTRAS = {"catboost": "catboost"}
_STEP_BYTES = 128 * 1024**2  # of memory: what is measured is rounded up, so that the same package gives the same bytes
_REQUESTS_BYTES = 384 * 1024**2  # for the server's libraries, rows that wait, and a large request
_MEASURED_ROWS = 4_096
_ALIVE = f"import urllib.request as r; r.urlopen('http://127.0.0.1:{PORT}/v2/health/live', timeout=3)"


def memory_of(package: Package) -> int:
    """Bytes for a replica: the measured peak of loading it and predicting a batch, with room for requests, in steps."""
    golden, _ = read_golden(package.folder)
    times = -(-_MEASURED_ROWS // max(1, golden.num_rows))
    rows = pa.Table.from_batches([golden] * times).slice(0, _MEASURED_ROWS)
    needed = peak_memory(package.folder, rows) + _REQUESTS_BYTES
    return -(-needed // _STEP_BYTES) * _STEP_BYTES


def version_of(package: Package) -> str:
    """The tag of its image."""
    return package.hash[:VERSION_DIGITS]


def render(packages: Sequence[Package], folder: Path, config: ManifestConfig) -> list[str]:
    """Write the files for a package, and for a canary if there are two; their names.

    The folder is replaced as a whole. Raises `ConfigError` where it holds something else than such files.
    """
    _check_place(folder)
    with context(path=str(folder)), staged_folder(folder) as temp:
        for place, package in zip(("stable", "canary"), packages, strict=False):
            shutil.copytree(package.folder, temp / place / "package")
            (temp / place / "Dockerfile").write_text(dockerfile(package, config.name))
            (temp / place / ".dockerignore").write_text("*\n!package\n")
        for kind, make in KINDS.items():
            (temp / f"{kind}.yaml").write_text(_yaml(make(config)))
        (temp / "build.sh").write_text(_build(packages, config))
        return sorted(str(path.relative_to(temp)) for path in temp.rglob("*")
                      if path.is_file() and "package" not in path.relative_to(temp).parts)  # fmt: skip


def dockerfile(package: Package, name: str) -> str:
    """With the versions of the libraries that the package was made with, so that its answers are the same bits."""
    libraries = dict(package.manifest.libraries)
    python = ".".join(libraries.pop("python").split(".")[:2])
    own = libraries.pop("shardwise")
    extras = ",".join(["${EXTRAS}", *sorted({_EXTRAS[m.family] for m in package.members if m.family in _EXTRAS})])
    pins = " ".join(f"{library}=={version}" for library, version in sorted(libraries.items()))
    return f"""{MARK} The package {package.hash}
FROM python:{python}-slim
# LightGBM needs OpenMP.
# hadolint ignore=DL3008
RUN apt-get update && apt-get install -y --no-install-recommends libgomp1 && rm -rf /var/lib/apt/lists/*
# Another one: docker build --build-arg SHARDWISE=https://.../shardwise.whl[serve]
ARG EXTRAS="serve"
ARG SHARDWISE="shardwise[{extras}]=={own}"
# With a version, such as ray==2.60.0, where EXTRAS names ray-serve.
ARG RAY=""
RUN pip install --no-cache-dir "${{SHARDWISE}}" {pins} ${{RAY}}
COPY package/ /model/
USER {USER}:{USER}
ENV HOME=/tmp PYTHONUNBUFFERED=1
EXPOSE {PORT}
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=5s --start-period=60s CMD ["python", "-c", "{_ALIVE}"]
ENTRYPOINT ["shardwise", "serve", "{name}=/model"]
CMD ["--host", "0.0.0.0", "--port", "{PORT}"]
"""


def _build(packages: Sequence[Package], config: ManifestConfig) -> str:
    images = [f"{config.image}:{version_of(package)}" for package in packages]
    lines = [_image(image, place) for place, image in zip(("stable", "canary"), images, strict=False)]
    with_ray = _image(image_of(config), "stable", f"--build-arg EXTRAS=ray-serve --build-arg RAY=ray=={config.ray} ")
    return "\n".join([
        "#!/bin/sh", MARK, "# sh build.sh      then: kubectl apply -f kubernetes.yaml, with Istio also -f istio.yaml;",
        "#                  or with KServe -f kserve.yaml alone.",
        "# sh build.sh ray  then: kubectl apply -f ray.yaml, with the operator KubeRay.",
        "set -eu", 'cd "$(dirname "$0")"', 'if [ "${1:-}" = ray ]; then', f"  {with_ray}", "  exit", "fi", *lines, "",
    ])  # fmt: skip


def _image(image: str, place: str, options: str = "") -> str:
    return f'docker build {options}--tag "{image}" {place} && docker push "{image}"'


def _yaml(objects: Sequence[Mapping[str, Any]]) -> str:
    return f"{MARK}\n" + yaml.dump_all(objects, sort_keys=False, width=120, Dumper=_Plain)


class _Plain(yaml.SafeDumper):
    """Without anchors, which people do not read."""

    def ignore_aliases(self, data: Any) -> bool:  # noqa: ARG002 - yaml's interface
        return True


def _check_place(folder: Path) -> None:
    if folder.exists() and not folder.is_dir():
        raise ConfigError(f"{str(folder)!r} is a file", hint="Give a folder that is new.")
    mark = folder / "kubernetes.yaml"
    if folder.exists() and any(folder.iterdir()) and not (mark.is_file() and mark.read_text().startswith(MARK)):
        raise ConfigError(f"{str(folder)!r} holds something else than what was rendered before",
                          hint="Give a new folder, or empty this one yourself.")  # fmt: skip
