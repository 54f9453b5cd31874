"""What `shardwise deploy render` writes: whole, the same bytes again, and nothing that was not its own is replaced."""

import json
import os
import re
import subprocess

import pytest
import yaml
from click.testing import CliRunner
from tests.registry.parts import make_package

from shardwise.cli.deploy import command
from shardwise.core.errors import ConfigError
from shardwise.deploy.manifests import ManifestConfig
from shardwise.deploy.render import dockerfile, memory_of, render, version_of
from shardwise.registry.package import load_package


@pytest.fixture(scope="module")
def packages(tmp_path_factory):
    folder = tmp_path_factory.mktemp("packages")
    return [load_package(make_package(folder / str(rows), families=("linear",), rows=rows)) for rows in (80, 90)]


def config(packages, **changes):
    given = {"name": "m", "image": "team/m", "version": version_of(packages[0]), "memory_bytes": 512 * 1024**2}
    return ManifestConfig(**{**given, **changes})


def files(folder):
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_the_same_package_gives_the_same_bytes_and_a_package_that_loads(packages, tmp_path):
    for place in ("first", "second", "second"):
        listed = render(packages[:1], tmp_path / place, config(packages))
    assert listed == [
        "build.sh",
        "istio.yaml",
        "kserve.yaml",
        "kubernetes.yaml",
        "ray.yaml",
        "stable/.dockerignore",
        "stable/Dockerfile",
    ]
    assert files(tmp_path / "first") == files(tmp_path / "second")
    assert load_package(tmp_path / "first" / "stable" / "package").hash == packages[0].hash


def test_a_canary_is_a_second_image(packages, tmp_path):
    render(packages, tmp_path / "out", config(packages, canary=version_of(packages[1]), canary_weight=10))
    objects = list(yaml.safe_load_all((tmp_path / "out" / "kubernetes.yaml").read_text()))
    images = [
        each["spec"]["template"]["spec"]["containers"][0]["image"] for each in objects if each["kind"] == "Deployment"
    ]
    assert images == [f"team/m:{version_of(package)}" for package in packages]
    script = (tmp_path / "out" / "build.sh").read_text()
    assert all(image in script for image in images)


def test_the_dockerfile_pins_what_the_package_was_made_with_and_is_no_root(packages):
    text = dockerfile(packages[0], "m")
    libraries = packages[0].manifest.libraries
    assert f"FROM python:{'.'.join(libraries['python'].split('.')[:2])}-slim" in text
    for name in ("lightgbm", "numpy", "pyarrow", "scikit-learn"):
        assert f"{name}=={libraries[name]}" in text
    steps = re.findall(r"^([A-Z]+) ", text, re.MULTILINE)
    assert steps.index("USER") > max(place for place, step in enumerate(steps) if step in ("RUN", "COPY"))
    told = {step: json.loads(words) for step, words in re.findall(r"^(ENTRYPOINT|CMD) (\[.*\])$", text, re.MULTILINE)}
    assert told["ENTRYPOINT"] == ["shardwise", "serve", "m=/model"]
    probe = json.loads(re.search(r"HEALTHCHECK .* CMD (\[.*\])", text)[1])
    compile(probe[2], "probe", "exec")


def test_the_image_with_ray_is_another_one_from_the_same_dockerfile(packages, tmp_path):
    render(packages[:1], tmp_path / "out", config(packages, ray="2.59.1"))
    calls = tmp_path / "docker"
    calls.write_text('#!/bin/sh\necho "$@"\n')
    calls.chmod(0o755)
    words = ["sh", str(tmp_path / "out" / "build.sh")]
    told = {
        argument: subprocess.run(
            [*words, *argument], env={**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}"}, check=True, text=True,
            capture_output=True,
        ).stdout.splitlines()
        for argument in ((), ("ray",))
    }  # fmt: skip
    plain = f"team/m:{version_of(packages[0])}"
    assert told[()] == [f"build --tag {plain} stable", f"push {plain}"]
    built, pushed = told[("ray",)]
    assert built == f"build --build-arg EXTRAS=ray-serve --build-arg RAY=ray==2.59.1 --tag {plain}-ray stable"
    assert pushed == f"push {plain}-ray"
    text = (tmp_path / "out" / "stable" / "Dockerfile").read_text()
    assert 'ARG EXTRAS="serve"' in text
    assert "shardwise[${EXTRAS}]==" in text
    service, _ = yaml.safe_load_all((tmp_path / "out" / "ray.yaml").read_text())
    assert service["spec"]["rayClusterConfig"]["rayVersion"] == "2.59.1"


def test_only_what_was_rendered_is_replaced(packages, tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("years of work")
    with pytest.raises(ConfigError, match="something else"):
        render(packages[:1], tmp_path / "mine", config(packages))
    assert (tmp_path / "mine" / "thesis.txt").read_text() == "years of work"
    with pytest.raises(ConfigError, match="is a file"):
        render(packages[:1], tmp_path / "mine" / "thesis.txt", config(packages))


def test_memory_is_measured_in_steps(packages):
    taken = memory_of(packages[0])
    assert taken % (128 * 1024**2) == 0
    assert 384 * 1024**2 < taken < 4 * 1024**3


def test_the_command_line_tells_what_it_wrote(packages, tmp_path):
    words = [
        "render",
        str(packages[0].folder),
        "--image",
        "team/m",
        "--to",
        str(tmp_path / "out"),
        "--memory",
        "1GB",
        "--json",
    ]
    done = CliRunner().invoke(command, words, standalone_mode=False)
    assert done.exception is None, done.output
    told = json.loads(done.output)
    assert told["version"] == version_of(packages[0])
    assert told["memory_bytes"] == 10**9
    assert {"kubernetes.yaml", "stable/Dockerfile"} <= set(told["files"])
