"""Dockerfile and compose file: their forms, their promises, and (slow) the commands of the build in a clean environment."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

yaml = pytest.importorskip("yaml")

ROOT = Path(__file__).parents[2]
DOCKERFILE = ROOT / "deploy" / "Dockerfile"
COMPOSE = ROOT / "deploy" / "docker-compose.yml"


def instructions():
    text = re.sub(r"^#.*\n", "", DOCKERFILE.read_text(), flags=re.MULTILINE)
    lines = re.sub(r"\\\n\s*", "", text).splitlines()
    return [tuple(line.split(maxsplit=1)) for line in lines if line.strip()]


def all_of(name):
    return [rest for word, rest in instructions() if word == name]


@pytest.fixture(scope="module")
def compose():
    return yaml.safe_load(COMPOSE.read_text())


def interpolated(text):
    """Put the defaults in, as Compose does before it reads the rest."""
    return re.sub(r"\$\{\w+:-([^}]*)\}", r"\1", text)


def test_the_image_runs_without_root_and_without_network():
    assert all_of("USER") == ["10001:10001"]
    assert instructions().index(("USER", "10001:10001")) < instructions().index(("ENTRYPOINT", '["doyen"]'))
    environment = " ".join(all_of("ENV"))
    assert "HF_HUB_OFFLINE=1" in environment and "DOYEN_CACHE=/models" in environment
    assert json.loads(all_of("VOLUME")[0]) == ["/expert", "/models"]
    assert "/healthz" in all_of("HEALTHCHECK")[0]


def test_bases_are_official_images_and_no_other_host_is_named():
    bases = {rest.split()[0] for rest in all_of("FROM")}
    assert bases == {"python:3.11-slim-bookworm"}
    text = DOCKERFILE.read_text() + COMPOSE.read_text()
    assert set(re.findall(r"https?://([\w.-]+)", text)) == {"127.0.0.1"}


def test_what_is_copied_is_there_and_passes_dockerignore():
    kept = [line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")]
    sources = [rest.split()[:-1] for rest in all_of("COPY") if not rest.startswith("--from")]
    for source in (name for row in sources for name in row):
        assert (ROOT / source).exists() and source in kept


def test_the_command_is_one_that_doyen_takes():
    from typer.main import get_command

    from doyen.cli import app

    command = json.loads(all_of("CMD")[-1])
    serve = get_command(app).commands["serve"]
    serve.make_context("serve", command[1:])
    assert command[0] == "serve" and "0.0.0.0" in command


def test_extras_of_the_image_are_extras_of_the_package():
    import tomllib

    known = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    extras = all_of("ARG")[0].partition("=")[2].split(",")
    assert set(extras) <= set(known) and "finetune" not in extras


def test_the_compose_file_keeps_to_the_specification():
    spec = pytest.importorskip("compose_spec", reason="compose-spec has no wheel for this machine")
    spec.PyCompose.from_yaml(yaml.safe_dump(yaml.safe_load(interpolated(COMPOSE.read_text())))).validate()


def test_a_wrong_key_breaks_the_specification():
    spec = pytest.importorskip("compose_spec", reason="compose-spec has no wheel for this machine")
    with pytest.raises(Exception, match="prots"):
        spec.PyCompose.from_yaml(yaml.safe_dump({"services": {"a": {"image": "b", "prots": ["1:1"]}}}))


def test_compose_keeps_passwords_in_files_and_the_database_inside(compose):
    assert all("file" in secret for secret in compose["secrets"].values())
    text = COMPOSE.read_text()
    assert not re.search(
        r"(?i)password[\"']?[ \t]*[:=][ \t]*[\"']?(?!/run/secrets)[a-z0-9]{3}", re.sub(r"#.*", "", text)
    )
    services = compose["services"]
    assert services["database"]["networks"] == ["inside"] and compose["networks"]["inside"]["internal"]
    assert "ports" not in services["database"]
    assert [name for name, row in services.items() if "outside" in row["networks"]] == ["pull"]
    assert services["doyen"]["ports"][0].startswith("${DOYEN_LISTEN:-127.0.0.1}")
    for name in ("doyen", "pull", "tool"):
        assert services[name]["read_only"] and services[name]["cap_drop"] == ["ALL"]
        assert set(services[name]["secrets"]) <= set(compose["secrets"])
    for service in services.values():
        for volume in service["volumes"]:
            source = volume.split(":")[0]
            assert source in compose["volumes"] or source.startswith(("./", "${")), source


def test_secrets_are_not_part_of_the_repository():
    assert (ROOT / "deploy/secrets/.gitignore").read_text().splitlines()[1:] == ["*", "!.gitignore"]


def test_the_first_script_of_the_database_is_a_shell_script(tmp_path):
    script = COMPOSE.parent / "postgres" / "01-doyen.sh"
    subprocess.run(["sh", "-n", script], check=True)
    assert os.access(script, os.X_OK)


@pytest.mark.slow
def test_the_first_script_makes_the_extension_and_doyens_user(postgresql, tmp_path):
    import pgserver

    programs = Path(pgserver.__file__).parent / "pginstall" / "bin"
    environment = os.environ | {"PATH": f"{programs}:{os.environ['PATH']}", "PGHOST": postgresql}
    password = tmp_path / "password"
    password.write_text("it's a secret\n")
    script = (COMPOSE.parent / "postgres" / "01-doyen.sh").read_text()
    script = script.replace("/run/secrets/doyen_password", str(password))

    def asked(user, sql):
        command = [
            "psql",
            "--no-align",
            "--tuples-only",
            "--set",
            "ON_ERROR_STOP=1",
            "-U",
            user,
            "-d",
            "experts",
            "-c",
            sql,
        ]
        return subprocess.run(command, env=environment, check=True, capture_output=True, text=True).stdout.strip()

    subprocess.run(["createdb", "-U", "postgres", "experts"], env=environment, check=True)
    subprocess.run(["sh", "-c", script], env=environment, check=True, capture_output=True)
    asked("doyen", "CREATE SCHEMA mine; CREATE TABLE mine.vectors (v vector(3))")
    stored = asked("postgres", "SELECT rolsuper, rolpassword IS NOT NULL FROM pg_authid WHERE rolname = 'doyen'")
    assert stored == "f|t"


@pytest.mark.skipif(not shutil.which("hadolint"), reason="hadolint is not installed")
def test_hadolint_finds_nothing():
    done = subprocess.run(["hadolint", str(DOCKERFILE)], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout


@pytest.mark.slow
def test_the_builds_commands_make_a_doyen_that_refuses_without_keys_and_serves_with_one(tmp_path):
    """The first stage's RUN in a folder of its own, with what COPY brings; then the command of the image, as it would start."""
    src = tmp_path / "src"
    src.mkdir()
    for name in ("pyproject.toml", "constraints.txt", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, src)
    shutil.copytree(ROOT / "doyen", src / "doyen", ignore=shutil.ignore_patterns("__pycache__"))
    run = (
        all_of("RUN")[0]
        .replace("/opt/doyen", str(tmp_path / "opt"))
        .replace("${EXTRAS}", all_of("ARG")[0].partition("=")[2])
    )
    run = run.replace("python -m venv", f"{sys.executable} -m venv", 1)
    environment = {k: v for k, v in os.environ.items() if not k.startswith("PYTHON")}
    subprocess.run(["sh", "-ec", run], cwd=src, env=environment, check=True, timeout=1200)
    doyen = tmp_path / "opt" / "bin" / "doyen"
    probe = [tmp_path / "opt" / "bin" / "python", "-c", "import importlib.util as u; print(u.find_spec('torch'))"]
    assert subprocess.run(probe, capture_output=True, text=True, env=environment).stdout.strip() == "None"

    expert = tmp_path / "expert"
    subprocess.run([doyen, "init", expert], check=True, env=environment)
    serve = [str(expert) if part == "/expert" else part for part in json.loads(all_of("CMD")[-1])]
    serve[serve.index("8000")] = "18431"
    refused = subprocess.run([doyen, *serve], capture_output=True, text=True, env=environment, timeout=120)
    assert refused.returncode == 2 and "doyen keys add" in refused.stderr
    subprocess.run([doyen, "keys", "add", "Ada", "--expert", expert], check=True, env=environment)
    check = json.loads(all_of("HEALTHCHECK")[0].partition("CMD ")[2])
    check = [str(probe[0]), *(part.replace(":8000", ":18431") for part in check[1:])]
    with subprocess.Popen([doyen, *serve], env=environment, stderr=subprocess.PIPE, text=True) as server:
        try:
            ends = time.monotonic() + 90
            while subprocess.run(check, capture_output=True).returncode:
                assert time.monotonic() < ends and server.poll() is None
                time.sleep(0.5)
        finally:
            server.terminate()
    assert server.returncode in (0, -signal.SIGTERM)  # ended in order, then told so by the signal
