"""docker-compose.yml and Dockerfile, read against each other, the command line and the Compose Specification."""

from __future__ import annotations

import fnmatch
import importlib.metadata
import importlib.util
import json
import re
import shlex
import subprocess
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from nightline.cli import COMMANDS

ROOT = Path(__file__).resolve().parent.parent
COMPOSE: dict[str, Any] = yaml.safe_load((ROOT / "docker-compose.yml").read_text(encoding="utf-8"))
SERVICES: dict[str, Any] = COMPOSE["services"]
OURS = [name for name, service in SERVICES.items() if service["image"] == "nightline"]


def instructions() -> list[tuple[str, str]]:
    """(instruction, arguments) of the Dockerfile, continued lines joined."""
    text = re.sub(r"^#.*\n", "", (ROOT / "Dockerfile").read_text(encoding="utf-8"), flags=re.MULTILINE)
    lines = text.replace("\\\n", " ").splitlines()
    return [(line.split(maxsplit=1)[0], line.split(maxsplit=1)[1]) for line in lines if line.strip()]


def final_stage() -> list[tuple[str, str]]:
    found = instructions()
    last = max(number for number, (name, _) in enumerate(found) if name == "FROM")
    return found[last:]


def user() -> str:
    return [arguments for name, arguments in final_stage() if name == "USER"][-1]


def test_the_file_follows_the_compose_specification():
    # carried by the PyPI package check-jsonschema; looked up without importing it
    package = importlib.util.find_spec("check_jsonschema")
    if package is None or not package.submodule_search_locations:
        pytest.skip("the Compose Specification's schema comes with the package check-jsonschema, which is not installed")
    schema = Path(package.submodule_search_locations[0]) / "builtin_schemas" / "vendor" / "compose-spec.json"
    jsonschema.validate(COMPOSE, json.loads(schema.read_text(encoding="utf-8")))


def test_docker_compose_accepts_the_file():
    try:
        version = subprocess.run(["docker", "compose", "version"], capture_output=True, timeout=60, check=False)
    except FileNotFoundError:
        pytest.skip("docker is not installed")
    if version.returncode:
        pytest.skip("docker is installed without its compose plugin")
    # needs no engine
    config = subprocess.run(
        ["docker", "compose", "-f", ROOT / "docker-compose.yml", "config", "--quiet"],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert config.returncode == 0, config.stderr


def test_kafka_is_the_version_the_tests_run_against():
    image, version = SERVICES["kafka"]["image"].split(":")
    assert image == "apache/kafka"
    tested = re.search(r'^KAFKA\b.*?"([\d.]+)"', (ROOT / "scripts" / "kafka").read_text(encoding="utf-8"), re.MULTILINE)
    assert tested is not None
    assert version == tested[1]


def test_each_service_waits_for_what_it_needs():
    assert SERVICES["kafka"]["healthcheck"]["test"][0] in ("CMD", "CMD-SHELL")
    assert SERVICES["topics"]["depends_on"] == {"kafka": {"condition": "service_healthy"}}
    assert SERVICES["worker"]["depends_on"] == {"topics": {"condition": "service_completed_successfully"}}


def test_the_health_check_asks_a_listener_that_exists():
    environment = SERVICES["kafka"]["environment"]
    ports = re.findall(r"://:(\d+)", environment["KAFKA_LISTENERS"])
    check = SERVICES["kafka"]["healthcheck"]["test"]
    assert check[check.index("--bootstrap-server") + 1].split(":")[1] in ports


def test_listeners_agree_with_each_other():
    environment = SERVICES["kafka"]["environment"]
    names = {
        key: re.findall(r"(?:^|,)([A-Z]+):", environment[key])
        for key in ("KAFKA_LISTENERS", "KAFKA_ADVERTISED_LISTENERS", "KAFKA_LISTENER_SECURITY_PROTOCOL_MAP")
    }
    controller = environment["KAFKA_CONTROLLER_LISTENER_NAMES"]
    assert names["KAFKA_LISTENERS"] == names["KAFKA_LISTENER_SECURITY_PROTOCOL_MAP"]
    assert set(names["KAFKA_ADVERTISED_LISTENERS"]) == {*names["KAFKA_LISTENERS"]} - {controller}
    assert environment["KAFKA_INTER_BROKER_LISTENER_NAME"] in names["KAFKA_ADVERTISED_LISTENERS"]
    voter = re.fullmatch(r"(\d+)@kafka:(\d+)", environment["KAFKA_CONTROLLER_QUORUM_VOTERS"])
    assert voter is not None
    assert voter[1] == environment["KAFKA_NODE_ID"]
    assert f"{controller}://:{voter[2]}" in environment["KAFKA_LISTENERS"].split(",")


def test_the_broker_keeps_its_log_on_a_volume_and_makes_no_topics_by_itself():
    environment = SERVICES["kafka"]["environment"]
    assert f"kafka-data:{environment['KAFKA_LOG_DIRS']}" in SERVICES["kafka"]["volumes"]
    assert environment["KAFKA_AUTO_CREATE_TOPICS_ENABLE"] == "false"


def test_the_broker_is_published_to_this_machine_only():
    for port in SERVICES["kafka"]["ports"]:
        address, host, container = port.split(":")
        assert address == "127.0.0.1"
        assert f"HOST://localhost:{host}" in SERVICES["kafka"]["environment"]["KAFKA_ADVERTISED_LISTENERS"]
        assert f"HOST://:{container}" in SERVICES["kafka"]["environment"]["KAFKA_LISTENERS"]


@pytest.mark.parametrize("name", OURS)
def test_our_services_run_commands_that_exist_against_the_broker(name: str):
    command = SERVICES[name]["command"]
    assert command[0] in COMMANDS
    listeners = SERVICES["kafka"]["environment"]["KAFKA_ADVERTISED_LISTENERS"]
    assert f"INTERNAL://{command[command.index('--bootstrap') + 1]}" in listeners.split(",")
    assert SERVICES[name]["build"] == "."


def test_workers_can_be_scaled_and_come_back():
    worker = SERVICES["worker"]
    assert "container_name" not in worker
    assert "ports" not in worker
    assert worker["restart"] == "unless-stopped"


def test_the_topics_service_ends():
    assert SERVICES["topics"].get("restart", "no").startswith(("no", "on-failure"))


def test_the_site_is_mounted_read_only_where_the_worker_looks():
    site = next(volume for volume in SERVICES["worker"]["volumes"] if isinstance(volume, dict))
    assert site["target"] == SERVICES["worker"]["command"][1]
    assert site["read_only"] is True
    # a mistyped folder is an error, not an empty folder owned by root
    assert site["bind"]["create_host_path"] is False


def test_named_volumes_are_declared_and_used():
    used = {
        volume.split(":")[0]
        for service in SERVICES.values()
        for volume in service.get("volumes", [])
        if isinstance(volume, str)
    }
    assert used == set(COMPOSE["volumes"])


def test_mount_points_exist_in_the_image_and_belong_to_its_user():
    made = " ".join(arguments for name, arguments in final_stage() if name == "RUN" and "install -d" in arguments)
    folders = shlex.split(re.search(rf"install -d -o {user()} -g {user()} (.*)", made)[1])  # type: ignore[index]
    for volume in SERVICES["worker"]["volumes"]:
        target = volume["target"] if isinstance(volume, dict) else volume.split(":")[1]
        assert target in folders


def test_the_image_runs_as_an_ordinary_user_and_starts_the_command_line():
    assert user() not in ("root", "0")
    assert ("ENTRYPOINT", '["nightline"]') in final_stage()


def test_nothing_is_installed_without_a_hash():
    for _, arguments in [found for found in instructions() if found[0] == "RUN"]:
        for install in re.findall(r"pip (?:install|wheel)[^&]*", arguments):
            assert "--require-hashes" in install or "--no-deps" in install, install
            assert "--require-hashes" in install or "--no-build-isolation" in install or ".whl" in install, install


def test_the_build_backend_is_in_the_lock_with_all_it_needs():
    backend = next(arguments for name, arguments in instructions() if name == "RUN" and "awk" in arguments)
    names = re.search(r"\^\(([a-z|-]+)\)==", backend)
    assert names is not None
    # as far as pip needs them on the image's Python 3.12
    needed = {"hatchling"} | {
        re.split(r"[^\w-]", requirement)[0]
        for requirement in importlib.metadata.requires("hatchling") or ()
        if "python_version <" not in requirement
    }
    assert set(names[1].split("|")) == needed
    lock = (ROOT / "requirements-dev.lock").read_text(encoding="utf-8")
    for name in needed:
        assert re.search(rf"^{name}==\S+ \\\n    --hash=", lock, re.MULTILINE), name


def test_everything_the_image_copies_is_there_and_not_ignored():
    ignored = (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines()
    allowed = [line.removeprefix("!").rstrip("/") for line in ignored if line.startswith("!")]
    for name, arguments in instructions():
        if name != "COPY" or "--from=" in arguments:
            continue
        for source in arguments.split()[:-1]:
            assert (ROOT / source).exists(), source
            assert any(fnmatch.fnmatch(source.rstrip("/"), pattern) for pattern in allowed), source


def test_every_package_of_the_wheel_is_copied():
    copied = {arguments.split()[0].rstrip("/") for name, arguments in instructions() if name == "COPY"}
    packages = re.search(
        r"^packages = (\[\"models.*\])$", (ROOT / "pyproject.toml").read_text(encoding="utf-8"), re.MULTILINE
    )
    assert packages is not None
    assert set(json.loads(packages[1])) <= copied
