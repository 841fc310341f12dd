"""The Helm chart: linted and rendered by Helm's own code, its resources held against Kubernetes' schemas."""

import importlib.util
import tomllib

import pytest
from deploy_chart import Refused, lint_findings, rendered

from doyen.config import parse_settings

kubernetes_validate = pytest.importorskip("kubernetes_validate")
if not importlib.util.find_spec("helm_python"):
    pytest.skip("helm-python-sdk has no wheel for this machine", allow_module_level=True)

KEYS = {"keys": {"existingSecret": "hr-keys"}}
CLUSTER = KEYS | {
    "settings": '[store]\nuri = "postgresql://doyen@db/experts?schema=hr"\n',
    "postgresql": {"existingSecret": "db", "podSelector": {"matchLabels": {"app": "db"}}, "cidrs": ["10.0.0.0/8"]},
    "expert": {"accessModes": ["ReadWriteMany"]},
    "models": {"pull": {"enabled": True, "env": [{"name": "PIP_NO_INDEX", "value": "1"}]}},
    "documents": {"existingClaim": "papers"},
    "ingest": {"once": True, "schedule": "15 2 * * *", "args": ["--prune"]},
    "autoscaling": {"enabled": True},
    "podDisruptionBudget": {"enabled": True},
    "imagePullSecrets": [{"name": "registry"}],
    "nodeSelector": {"disk": "fast"},
    "tolerations": [{"key": "gpu", "operator": "Exists"}],
    "extraEnv": [{"name": "OTEL_EXPORTER_OTLP_ENDPOINT", "value": "http://otel:4318"}],
    "networkPolicy": {"from": [{"namespaceSelector": {}}], "egress": [{"ports": [{"port": 4318}]}]},
}
CASES = {"least": KEYS, "cluster": CLUSTER, "nodes": KEYS | {"ingest": {"once": True}}}


@pytest.fixture(scope="module", params=CASES, ids=list(CASES))
def resources(request):
    return rendered(CASES[request.param])


def pods(resources):
    for (kind, name), row in resources.items():
        spec = row.get("spec", {})
        if kind == "CronJob":
            spec = spec["jobTemplate"]["spec"]
        if "template" in spec:
            yield f"{kind} {name}", spec["template"]


@pytest.mark.parametrize("values", CASES.values(), ids=list(CASES))
def test_lint_finds_nothing(values):
    assert lint_findings(values) == []


def test_lint_finds_what_breaks_the_schema():
    assert any("replicas" in found for found in lint_findings(KEYS | {"replicas": 0}))


@pytest.mark.parametrize("version", ["1.27", "1.37"])
def test_resources_keep_to_the_schemas_of_kubernetes(resources, version):
    for row in resources.values():
        kubernetes_validate.validate(row, version, strict=True)


def test_a_wrong_field_breaks_the_schema():
    deployment = rendered(KEYS)["Deployment", "hr-doyen"]
    deployment["spec"]["replica"] = 1
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(deployment, "1.37", strict=True)


def test_pods_keep_to_the_restricted_profile(resources):
    found = list(pods(resources))
    assert found
    for name, template in found:
        spec = template["spec"]
        assert spec["securityContext"]["runAsNonRoot"] and spec["securityContext"]["runAsUser"] == 10001, name
        assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}, name
        assert spec["automountServiceAccountToken"] is False
        assert not any("hostPath" in volume for volume in spec["volumes"])
        for container in spec["containers"] + spec.get("initContainers", []):
            own = container["securityContext"]
            assert own["allowPrivilegeEscalation"] is False and own["readOnlyRootFilesystem"], name
            assert own["capabilities"] == {"drop": ["ALL"]}
            assert container["resources"]["limits"]["memory"]
            mounted = {mount["name"] for mount in container["volumeMounts"]}
            assert mounted <= {volume["name"] for volume in spec["volumes"]}, name


def test_probes_and_the_command_are_those_of_doyen_serve():
    (container,) = rendered(KEYS)["Deployment", "hr-doyen"]["spec"]["template"]["spec"]["containers"]
    assert container["args"] == ["serve", "--expert", "/expert", "--host", "0.0.0.0", "--port", "8000"]
    paths = {name: container[f"{name}Probe"]["httpGet"]["path"] for name in ("startup", "liveness", "readiness")}
    assert paths == {"startup": "/healthz", "liveness": "/healthz", "readiness": "/readyz"}


@pytest.mark.parametrize("values", CASES.values(), ids=list(CASES))
def test_selectors_meet_the_pods(values):
    made = rendered(values)
    labels = {name: template["metadata"]["labels"] for name, template in pods(made)}
    selector = made["Service", "hr-doyen"]["spec"]["selector"]
    assert [n for n, own in labels.items() if selector.items() <= own.items()] == ["Deployment hr-doyen"]
    policy = made["NetworkPolicy", "hr-doyen"]["spec"]["podSelector"]["matchLabels"]
    assert all(policy.items() <= own.items() for own in labels.values())


def test_settings_are_read_by_doyen():
    for values in ({}, {"settings": CLUSTER["settings"]}):
        text = rendered(KEYS | values)["ConfigMap", "hr-doyen"]["data"]["doyen.toml"]
        assert tomllib.loads(text) and parse_settings(text)


def test_no_keys_and_one_volume_for_many_are_refused():
    with pytest.raises(Refused, match=r"keys\.existingSecret"):
        rendered({})
    for many in ({"replicas": 2}, {"autoscaling": {"enabled": True}}):
        with pytest.raises(Refused, match="ReadWriteMany"):
            rendered(KEYS | many)
    with pytest.raises(Refused, match="replicas"):
        rendered(KEYS | {"replicas": 0})


def test_an_ingest_runs_beside_the_server_where_the_volume_is_of_one_node():
    job = rendered(CASES["nodes"])["Job", "hr-doyen-ingest-1"]["spec"]["template"]["spec"]
    (rule,) = job["affinity"]["podAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"]
    assert rule["labelSelector"]["matchLabels"]["app.kubernetes.io/component"] == "server"
    assert job["containers"][0]["args"] == ["ingest", "/documents", "--expert", "/expert"]
    spread = rendered(CLUSTER)
    assert "affinity" not in spread["Job", "hr-doyen-ingest-1"]["spec"]["template"]["spec"]
    assert spread["CronJob", "hr-doyen-ingest"]["spec"]["concurrencyPolicy"] == "Forbid"


def test_the_way_out_leads_to_names_and_the_database_only():
    egress = rendered(CLUSTER | {"networkPolicy": {}})["NetworkPolicy", "hr-doyen"]["spec"]["egress"]
    assert sorted(p["port"] for rule in egress for p in rule["ports"]) == [53, 53, 5432]
    assert len(rendered(KEYS)["NetworkPolicy", "hr-doyen"]["spec"]["egress"]) == 1


def test_what_prepares_the_folder_copies_settings_and_keys(tmp_path):
    spec = rendered(KEYS)["Deployment", "hr-doyen"]["spec"]["template"]["spec"]
    script = spec["initContainers"][0]["command"][2]
    given, expert = tmp_path / "given", tmp_path / "expert"
    for place, text in (("settings/doyen.toml", "[answer]\n"), ("keys/keys.json", "[]")):
        (given / place).parent.mkdir(parents=True)
        (given / place).write_text(text)
    expert.mkdir()
    script = script.replace('"/given"', repr(str(given))).replace('"/expert"', repr(str(expert)))
    for _ in range(2):
        exec(script, {})
    assert (expert / "doyen.toml").read_text() == "[answer]\n"
    assert (expert / "serving" / "keys.json").stat().st_mode & 0o777 == 0o600
