"""A real S3 server for tests and benchmarks: moto's, over HTTP in a process of its own. It knows conditional writes."""

import json
import os
import socket
import subprocess
import sys
import time
import urllib.request
from contextlib import contextmanager

KEYS = {"AWS_ACCESS_KEY_ID": "tester", "AWS_SECRET_ACCESS_KEY": "tester-secret"}
BUCKET = "experts"


@contextmanager
def running_s3():
    """Run a server with an empty bucket; give its address."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    program = "from moto.server import main; import sys; main(sys.argv[1:])"
    environment = {**os.environ, **KEYS, "MOTO_PORT": str(port), "AWS_DEFAULT_REGION": "us-east-1"}
    command = [sys.executable, "-c", program, "-H", "127.0.0.1", "-p", str(port)]
    server = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    address = f"http://127.0.0.1:{port}"
    try:
        _wait(server, address)
        request = urllib.request.Request(f"{address}/{BUCKET}", method="PUT", headers=_plain_headers())
        urllib.request.urlopen(request).close()
        yield address
    finally:
        server.terminate()
        server.wait()


@contextmanager
def running_rclone(program, folder):
    """Serve a folder of buckets by rclone, for readers: it ignores conditions on writes. Give its address."""
    (folder / BUCKET).mkdir(parents=True, exist_ok=True)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    keys = ",".join(KEYS.values())
    command = [program, "serve", "s3", str(folder), "--config", "", "--addr", f"127.0.0.1:{port}", "--auth-key", keys]
    server = subprocess.Popen(
        [*command, "--dir-cache-time", "1s"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        for _ in range(600):
            if server.poll() is not None:
                raise RuntimeError("rclone did not start")
            with socket.socket() as tried:
                if tried.connect_ex(("127.0.0.1", port)) == 0:
                    break
            time.sleep(0.1)
        yield f"http://127.0.0.1:{port}"
    finally:
        server.terminate()
        server.wait()


def _plain_headers():
    """Name an access key: without authentication the server only looks at it."""
    return {"Authorization": "AWS4-HMAC-SHA256 Credential=tester/20260101/us-east-1/s3/aws4_request, Signature=x"}


def _wait(server, address):
    for _ in range(600):
        if server.poll() is not None:
            raise RuntimeError("the S3 server did not start")
        try:
            urllib.request.urlopen(f"{address}/moto-api/", timeout=5).close()
            return
        except OSError:
            time.sleep(0.1)
    raise RuntimeError("the S3 server does not answer")


class Refusing:
    """Lets the server check keys: `user` makes one that may do some actions; `forget` takes a user's key away again."""

    def __init__(self, address):
        import boto3

        self.address = address
        self._iam = boto3.client(
            "iam", endpoint_url=address, region_name="us-east-1", aws_access_key_id="tester", aws_secret_access_key="x"
        )

    def user(self, name, actions="*"):
        self._iam.create_user(UserName=name)
        allowed = {"Version": "2012-10-17", "Statement": {"Effect": "Allow", "Action": actions, "Resource": "*"}}
        self._iam.put_user_policy(UserName=name, PolicyName="its", PolicyDocument=json.dumps(allowed))
        made = self._iam.create_access_key(UserName=name)["AccessKey"]
        return {"AWS_ACCESS_KEY_ID": made["AccessKeyId"], "AWS_SECRET_ACCESS_KEY": made["SecretAccessKey"]}

    def check_keys(self, on):
        """Check keys from now on, or not."""
        data = b"0" if on else b"inf"
        request = urllib.request.Request(f"{self.address}/moto-api/reset-auth", data, {"Content-Type": "text/plain"})
        urllib.request.urlopen(request).close()

    def forget(self, name, key):
        self._iam.delete_access_key(UserName=name, AccessKeyId=key)
