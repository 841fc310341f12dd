"""LanceDB is imported without its REST client, which stays there for who wants it."""

import subprocess
import sys


def run(script):
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout.split()


def test_the_client_is_not_imported_and_can_be():
    script = (
        "import sys; from doyen.index.importing import load_lancedb\n"
        "lancedb = load_lancedb(); name = 'lance_namespace_urllib3_client'\n"
        "print(lancedb.__name__, any(m.startswith(name + '.api') for m in sys.modules), name in sys.modules)\n"
        "print(lancedb.connect('memory://').list_tables().tables == [])\n"
        "from lance_namespace_urllib3_client import ApiClient; print(ApiClient.__name__, load_lancedb() is lancedb)"
    )
    assert run(script) == ["lancedb", "False", "False", "True", "ApiClient", "True"]


def test_where_the_client_is_imported_already_it_is_left_alone():
    script = (
        "import lance_namespace_urllib3_client as client; from doyen.index.importing import load_lancedb\n"
        "load_lancedb(); import sys; print(sys.modules[client.__name__] is client)"
    )
    assert run(script) == ["True"]
