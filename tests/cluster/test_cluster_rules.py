"""What is checked of a cluster before any work is given to it; no cluster is needed for that."""

import http.server
import sys
import threading
import time

import pytest
import tiny_models
from small_stores import make_expert, write_files

from doyen.cli import main
from doyen.cluster.connecting import address_of, connected
from doyen.cluster.crew import Places, places
from doyen.cluster.ingesting import Ready, require_alike
from doyen.cluster.machines import Machine, require_same
from doyen.errors import ClusterError, UsageError

HERE = {"doyen": "0.1.0 (aa11)", "python": "3.11.7", "ray": "2.60.0"}


def machine(name="b (10.0.0.2)", *, cores=4, gpus=0, **versions):
    return Machine(name, name, cores, gpus, {k: v for k, v in (HERE | versions).items() if v})


def test_a_place_is_ray_or_a_ray_address():
    for wrong in ("spark", "ray:", "ray://", "ray://host", "ray://host:x", "http://host:1", "rays://h:1"):
        with pytest.raises(UsageError, match="names no cluster"):
            address_of(wrong)
    assert address_of("ray://head:10001") == "ray://head:10001"


def test_ray_alone_is_the_cluster_of_the_environment_then_the_started_one(monkeypatch, tmp_path):
    monkeypatch.setenv("RAY_TMPDIR", str(tmp_path))
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    assert address_of("ray") is None
    (tmp_path / "ray").mkdir()
    (tmp_path / "ray" / "ray_current_cluster").write_text("10.0.0.1:6379")
    assert address_of("ray") == "10.0.0.1:6379"
    monkeypatch.setenv("RAY_ADDRESS", "head:6379")
    assert address_of("ray") == "head:6379"
    monkeypatch.setenv("RAY_ADDRESS", "local")
    assert address_of("ray") is None


def test_workers_fill_the_machines():
    assert places([machine(cores=4), machine(cores=3)], 0, 2) == Places(3, 2)
    assert places([machine(cores=4), machine(cores=1)], 0, 2) == Places(5, 1), "the smallest machine has one too"
    assert places([machine(cores=64)], 3, 2) == Places(3, 2)
    assert places([machine(cores=16, gpus=4), machine(cores=8)], 0, 8, gpus=True) == Places(4, 4, 1)
    assert places([machine(cores=8)], 0, 8, gpus=True) == Places(1, 8)


def test_workers_fit_into_the_memory_of_the_machines():
    small, unknown = Machine("s", "s", 4, 0, {}, 8.0), Machine("u", "u", 2, 0, {})
    assert places([small, unknown], 0, 1, memory_gib=3.0) == Places(4, 1, 0, 3.0), "two and two"
    with pytest.raises(ClusterError, match="a worker needs 9.0 GiB, and no machine gives more than 8.0 GiB"):
        places([small], 0, 1, memory_gib=9.0)


def test_without_ray_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(ClusterError, match="needs Ray, which is not installed") as caught, connected("ray"):
        pass
    assert caught.value.hint == "pip install 'doyen[ray]'"


def test_machines_that_differ_are_named_with_what_they_have():
    require_same([machine(), machine(python="3.11.9")], HERE)  # pickles of 3.11.x are alike
    with pytest.raises(ClusterError) as caught:
        require_same(
            [machine("a"), machine("b", python="3.12.1"), machine("c", doyen="0.1.0 (bb22)"), machine("d", doyen="")],
            HERE,
        )
    said = str(caught.value)
    assert "b has python 3.12.1" in said and "c has doyen 0.1.0 (bb22)" in said and "d has no doyen" in said
    assert "a has" not in said and "here it is doyen 0.1.0 (aa11), python 3.11.7" in said
    assert "doyen[ray]==0.1.0" in caught.value.hint and "ray==2.60.0" in caught.value.hint
    with pytest.raises(ClusterError, match="a has ray 2.59.0"):
        require_same([machine("a", ray="2.59.0")], HERE)


def test_workers_with_another_model_are_named():
    first = Ready("a", "minilm@1/openvino-f32", 384, 512, frozenset(), "tokenizer@1")
    other = Ready("b", "minilm@2/openvino-f32", 384, 512, frozenset(), "tokenizer@1")
    require_alike([first, first], "tokenizer@1", "minilm")
    with pytest.raises(ClusterError, match="worker on b has weights or precision of minilm .*on a") as caught:
        require_alike([first, other], "tokenizer@1", "minilm")
    assert "doyen models pull minilm" in caught.value.hint
    with pytest.raises(ClusterError, match="worker on a has tokenizer of minilm .* here"):
        require_alike([first], "tokenizer@2", "minilm")


def asked(on):
    pytest.importorskip("ray", reason="Ray is not installed (pip install 'doyen[ray]')")
    began = time.monotonic()
    with pytest.raises(ClusterError, match="no Ray cluster answers at") as caught, connected(on):
        pass
    assert time.monotonic() - began < 20
    return caught.value


def test_a_cluster_that_is_not_there_is_told_at_once(monkeypatch):
    error = asked("ray://127.0.0.1:9")
    assert "refused" in str(error) and "ray start --head" in error.hint
    monkeypatch.setenv("RAY_ADDRESS", "127.0.0.1:9")
    assert "unset RAY_ADDRESS" in asked("ray").hint
    monkeypatch.setenv("RAY_ADDRESS", "nonsense")
    with pytest.raises(ClusterError, match="RAY_ADDRESS=nonsense is no address"), connected("ray"):
        pass


def test_another_server_at_the_address_is_told_in_seconds():
    server = http.server.HTTPServer(("127.0.0.1", 0), http.server.BaseHTTPRequestHandler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        assert "does not answer as Ray does" in str(asked(f"ray://127.0.0.1:{server.server_port}"))
    finally:
        server.shutdown()
        server.server_close()


@pytest.mark.parametrize(
    "command",
    [
        ["ask", "What?", "--arm", "base"],
        ["ingest", "FILES"],
        ["compare", "--questions", "QUESTIONS", "--arms", "base"],
        ["run", "FLOW", "ROWS", "-o", "OUT", "--arm", "base"],
        ["finetune", "--examples", "EXAMPLES"],
    ],
)
def test_each_command_goes_to_the_cluster_that_it_is_given(command, settings, tmp_path, monkeypatch, capsys):
    pytest.importorskip("ray", reason="Ray is not installed (pip install 'doyen[ray]')")
    expert = make_expert(tmp_path / "expert", settings)
    flow = '[input]\ncolumns = { text = "text" }\n[steps.kind]\ndo = "classify"\ninstruction = "Which?"\ninput = "{text}"\nchoices = ["a", "b"]\n'
    files = write_files(
        tmp_path / "files", {"leave.md": "# Leave\n\n27 days.\n", "flow.toml": flow, "rows.csv": "text\nx\n"}
    )
    chats = [
        {"messages": [{"role": "user", "content": f"{n}?"}, {"role": "assistant", "content": str(n)}]} for n in range(4)
    ]
    paths = {
        "FILES": files / "leave.md",
        "FLOW": files / "flow.toml",
        "ROWS": files / "rows.csv",
        "OUT": tmp_path / "out.csv",
        "QUESTIONS": tiny_models.write_jsonl(
            tmp_path / "q.jsonl", [{"id": "1", "question": "What?", "answers": ["x"]}]
        ),
        "EXAMPLES": tiny_models.write_jsonl(tmp_path / "e.jsonl", chats),
    }
    given = [str(paths.get(word, word)) for word in command]
    monkeypatch.setattr("sys.argv", ["doyen", *given, "--expert", str(expert), "--on", "ray://127.0.0.1:9"])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 1 and "no Ray cluster answers at" in capsys.readouterr().err
