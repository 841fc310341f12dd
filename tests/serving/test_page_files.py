"""The page's files: what they refer to is there, nothing comes from elsewhere, nothing is made into HTML; their headers."""

import re

import pytest

from doyen.serving.guard import OPEN
from doyen.serving.page_files import FOLDER, page_files

TEXTS = {name: data.decode() for name, data in page_files().items()}
SCRIPTS = {name: text for name, text in TEXTS.items() if name.endswith(".js")}
INDEX = TEXTS["index.html"]
MADE_IDS = set(re.findall(r'\bid: "([\w-]+)"', "".join(SCRIPTS.values())))


def test_every_id_is_there_once():
    ids = re.findall(r'\bid="([\w-]+)"', INDEX)
    assert len(ids) == len(set(ids)) and not set(ids) & MADE_IDS
    used = {found for text in SCRIPTS.values() for found in re.findall(r'byId\("([\w-]+)"\)', text)}
    assert used and used <= {*ids, *MADE_IDS}
    pointed = re.findall(r'(?:for|aria-labelledby|aria-describedby)="([\w-]+)"', INDEX)
    pointed += re.findall(r'(?:for|"aria-describedby"): "([\w-]+)"', "".join(SCRIPTS.values()))
    assert pointed and set(pointed) <= {*ids, *MADE_IDS}


def test_every_route_is_one_of_the_server(served):
    known = [
        re.compile(re.sub(r"\{\w+\}", "[^/]+", path) + "$")
        for path in served.client.get("/openapi.json").json()["paths"]
    ]
    used = set()
    for text in SCRIPTS.values():
        used |= {
            re.sub(r"\$\{[^}]+\}", "x", found) for found in re.findall(r"[\"`](/(?:api|healthz)[^\"`]*)[\"`]", text)
        }
    assert len(used) > 12
    for path in used:
        assert any(one.match(path) for one in known), path


def test_every_file_that_is_named_is_there():
    named = re.findall(r'(?:href|src)="/page/([^"]+)"', INDEX)
    named += [
        f for text in SCRIPTS.values() for f in re.findall(r'from "\./([^"]+)"|"/page/([^"]+)"', text) for f in f if f
    ]
    assert set(named) <= set(TEXTS)
    assert set(TEXTS) <= {*named, "index.html"}, "a file that nothing uses"


@pytest.mark.parametrize("name", sorted(TEXTS))
def test_nothing_comes_from_the_network(name):
    text = TEXTS[name].replace("http://www.w3.org/2000/svg", "")  # a name, not an address
    assert not re.search(r"https?:|[\"'(]//|\bws:|@import", text)


@pytest.mark.parametrize("name", sorted(SCRIPTS))
def test_no_text_becomes_html_or_code(name):
    forbidden = r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\(|new Function|createContextualFragment|\.style\b"
    assert not re.search(forbidden, SCRIPTS[name])


def test_the_page_has_no_inline_script_or_style():
    assert not re.search(r"<style|\bstyle=|\son\w+=|javascript:", INDEX)
    assert all("src=" in tag for tag in re.findall(r"<script[^>]*>", INDEX))


def test_the_frame_of_reports_is_a_sandbox(served):
    answer = served.client.get(FOLDER + "frame.html")
    csp = answer.headers["content-security-policy"]
    assert csp.startswith("sandbox allow-scripts; default-src 'none'") and "same-origin" not in csp
    assert answer.headers["x-frame-options"] == "SAMEORIGIN"
    assert 'sandbox: "allow-scripts"' in SCRIPTS["framed.js"]


def test_headers_and_types(served):
    for path, kind in (("/", "text/html"), ("/page/app.js", "text/javascript"), ("/page/style.css", "text/css")):
        answer = served.client.get(path)
        assert answer.status_code == 200 and answer.headers["content-type"].startswith(kind)
        csp = answer.headers["content-security-policy"]
        assert csp.startswith("default-src 'self'") and "unsafe" not in csp and "frame-ancestors 'none'" in csp
        assert "require-trusted-types-for 'script'" in csp and answer.headers["x-content-type-options"] == "nosniff"


@pytest.mark.parametrize("name", ["nothing.js", "..%2Fkeys.py", "%2e%2e/keys.py", "..%5Ckeys.py", "style.css%00"])
def test_no_name_is_a_path(served, name):
    assert served.client.get(FOLDER + name).status_code == 404


def test_the_files_need_no_key_and_the_rest_does(expert, serve):
    from doyen.serving.keys import add_key

    _, secret = add_key(expert, "Ada", role="reader")
    one = serve(expert)
    assert {FOLDER + name for name in TEXTS} | {"/"} <= OPEN
    assert all(one.client.get(path).status_code == 200 for path in ("/", "/page/app.js"))
    for path in ("/api/me", "/api/runs", "/api/passage?document=leave.md", "/page/nothing.js"):
        assert one.client.get(path).status_code == 401
    me = one.client.get("/api/me", headers={"x-api-key": secret}).json()
    assert (me["name"], me["role"], me["keys"]) == ("Ada", "reader", True)
