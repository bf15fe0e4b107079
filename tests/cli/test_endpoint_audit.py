"""Audits of endpoints from the command line: MLServer, and a server that fails as it is told."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from audit_tools import Cli, lenet, snapshot
from inference_server import Endpoint, hangs_up, says, served

from robustkit.reports import AuditRecord, read

SECRET, PASSWORD, KEY = "Zt0ken-9Q", "hushWord7", "k3yOfQuery"
AUDIT = ("audit", "--data", "mnist-samples", "--samples", "6", "--eps", "0.1,0.3")
ATTACKS = ("--attack", "square:queries=40", "--attack", "hopskipjump:queries=60")

RUNTIME = """
import numpy as np
import torch
from mlserver import MLModel
from mlserver.codecs import NumpyCodec
from mlserver.types import InferenceResponse
from robustkit import load_model

class LeNet(MLModel):
    async def load(self):
        torch.set_num_threads(1)
        self.net = load_model("lenet-mnist", device="cpu")
        return True

    async def predict(self, payload):
        x = np.asarray(NumpyCodec.decode_input(payload.inputs[0]), dtype=np.float32)
        scores = self.net.logits(torch.from_numpy(x)).softmax(1).numpy()
        out = NumpyCodec.encode_output("scores", scores.round(4))
        return InferenceResponse(model_name=self.name, outputs=[out])
"""


def ports(count: int) -> list[int]:
    sockets = [socket.socket() for _ in range(count)]
    for each in sockets:
        each.bind(("127.0.0.1", 0))
    found = [each.getsockname()[1] for each in sockets]
    for each in sockets:
        each.close()
    return found


@pytest.fixture(scope="module")
def mlserver(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of the LeNet behind an MLServer that runs: probabilities, rounded to four digits."""
    pytest.importorskip("mlserver")
    folder = tmp_path_factory.mktemp("mlserver")
    http, grpc, metrics = ports(3)
    settings = {"http_port": http, "grpc_port": grpc, "metrics_port": metrics, "host": "127.0.0.1"}
    model = {
        "name": "lenet",
        "implementation": "runtime.LeNet",
        "inputs": [{"name": "x", "datatype": "FP32", "shape": [-1, 1, 28, 28]}],
        "outputs": [{"name": "scores", "datatype": "FP32", "shape": [-1, 10]}],
    }
    (folder / "settings.json").write_text(json.dumps({**settings, "parallel_workers": 0}))
    (folder / "model-settings.json").write_text(json.dumps(model))
    (folder / "runtime.py").write_text(RUNTIME)
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    with (folder / "log").open("w") as log:
        command = [sys.executable, "-c", "from mlserver.cli import main; main()", "start", str(folder)]
        process = subprocess.Popen(command, cwd=folder, env=environment, stdout=log, stderr=log)
    try:
        for _ in range(2000):  # a guard against a server that never comes up, minutes even where it is quick to refuse
            assert process.poll() is None, (folder / "log").read_text()
            try:
                urllib.request.urlopen(f"http://127.0.0.1:{http}/v2/models/lenet/ready", timeout=5).close()
                break
            except OSError:
                time.sleep(0.3)
        else:
            pytest.fail((folder / "log").read_text())
        yield f"http://127.0.0.1:{http}/v2/models/lenet"
    finally:
        process.terminate()
        process.wait(60)


def served_lenet(**extra: object) -> Endpoint:
    model = lenet()
    return Endpoint(lambda x: model.logits(torch.from_numpy(x.astype(np.float32))).numpy(), **extra)


def figures(record: AuditRecord) -> list[object]:
    attacks = [(each.name, each.curve, each.arrived, each.forwards) for each in record.attacks]
    return [record.clean.count, record.worst_case, attacks, record.samples]


def test_mlserver_is_audited_by_scores_and_labels(cli: Cli, mlserver: str, tmp_path: Path) -> None:
    done = cli(*AUDIT, "--model", mlserver, *ATTACKS, "--out", tmp_path / "out")
    assert done.status == 0, done
    record = read(tmp_path / "out" / "report.json")
    assert record.status == "complete"
    assert (record.model.classes, record.model.input) == (10, [1, 28, 28])
    assert record.model.title == "lenet at 127.0.0.1"
    assert record.clean.count == 6
    square, hopskipjump = record.attacks
    assert square.forwards <= 80  # forty at each ε
    assert hopskipjump.forwards <= 60
    assert record.worst_case[-1].robust.count < 6
    probabilities = next(each for each in record.checks if each.id == "probabilities")
    assert probabilities.status == "n/a"  # they are known to be some
    refused = cli.refuses(*AUDIT, "--model", mlserver, "--attack", "pgd", "--out", tmp_path / "no")
    assert "PGD needs gradients" in refused


def test_an_audit_through_an_address_finds_what_one_of_the_network_finds(cli: Cli, tmp_path: Path) -> None:
    faults = [None, says(503), None, hangs_up, says(429, Retry_After="0")]
    with served(served_lenet(faults=faults)) as server:
        over = cli(*AUDIT, "--no-checks", "--model", server.url, *ATTACKS, "--out", tmp_path / "over")
        assert over.status == 0, over
        assert not server.faults
        answered = server.answered
    direct = cli(*AUDIT, "--no-checks", "--model", "lenet-mnist", "--device", "cpu", *ATTACKS, "--out", tmp_path / "by")
    assert direct.status == 0, direct
    ours, theirs = (read(tmp_path / name / "report.json") for name in ("over", "by"))
    assert figures(ours) == figures(theirs)
    assert answered >= sum(round(6 * attack.forwards) for attack in ours.attacks)


def test_a_server_that_dies_half_way_leaves_what_was_finished(cli: Cli, tmp_path: Path) -> None:
    with served(served_lenet(every=hangs_up, after=100)) as server:
        words = (*AUDIT, "--no-checks", "--model", server.url, *ATTACKS, "--batch-size", "2", "--endpoint-retries", "1")
        done = cli(*words, "--out", tmp_path / "out")
        assert server.posts == 102
    assert done.status == 3, done
    last = done.stderr.splitlines()[-1]
    assert last.startswith(f"robustkit: {server.url} cannot be reached (")
    assert "2 times: start it, or look into its log; what was finished is in" in last
    record = read(tmp_path / "out" / "report.json")
    assert record.status == "incomplete"
    assert 0 < record.clean.total < 6
    assert "incomplete: the audit broke off" in done.stdout
    assert "incomplete" in (tmp_path / "out" / "index.html").read_text("utf-8")


def test_a_server_that_dies_in_the_checks_is_not_waited_for_by_each(cli: Cli, tmp_path: Path) -> None:
    with served(served_lenet(every=says(503), after=6)) as server:
        words = (*AUDIT, "--model", server.url, *ATTACKS, "--endpoint-retries", "1", "--out", tmp_path / "out")
        line = cli(*words).stderr.splitlines()[-1]
        assert server.posts == 8  # no check after the first asks again
    assert "answers 503, 'overloaded', 2 times" in line


def test_the_options_of_endpoints_are_heard(cli: Cli, tmp_path: Path) -> None:
    with served(served_lenet()) as server:
        words = (*AUDIT, "--no-checks", "--model", server.url, "--attack", "square:queries=5", "--samples", "2")
        assert cli(*words, "--endpoint-rate", "20", "--out", tmp_path / "out").status == 0
        pictures = [body["inputs"][0]["shape"][0] for _, _, body in server.seen if body]
        assert server.times[-1] - server.times[0] >= sum(pictures[:-1]) / 20 - 0.05
        for option, value, reason in (
            ("--endpoint-rate", "0", "rate is a number above 0"),
            ("--endpoint-timeout", "-1", "timeout is a number above 0"),
            ("--endpoint-retries", "99", "from 0 to 20"),
            ("--output-name", "logits", "no output 'logits'"),
        ):
            assert reason in cli.refuses(*words, option, value, "--out", tmp_path / "no")
        (tmp_path / "audit.toml").write_text('endpoint-timeout = 0.2\nendpoint-retries = 0\noutput-name = "scores"\n')
        server.every = lambda: time.sleep(1)
        line = cli.refuses(*words, "--config", tmp_path / "audit.toml", "--out", tmp_path / "no")
        assert "does not answer within 0.2 s: start it" in line
    assert "are of an endpoint" in cli.refuses("audit", "--model", "lenet-mnist", "--endpoint-rate", "1")


def test_no_secret_is_in_anything_that_is_written(cli: Cli, tmp_path: Path) -> None:
    with served(served_lenet()) as server:
        url = server.url.replace("http://", f"http://me:{PASSWORD}@") + f"?key={KEY}"
        words = (*AUDIT, f"--model={url}", *ATTACKS, "--out", tmp_path / "password")
        first = cli.start(*words)
        second = cli.start(
            *AUDIT, "--model", f"{server.url}?key={KEY}", *ATTACKS, "--out", tmp_path / "token", ROBUSTKIT_TOKEN=SECRET
        )
        printed = [text for process in (first, second) for text in process.communicate(timeout=600)]
        assert (first.returncode, second.returncode) == (0, 0), printed
        logins = {headers["Authorization"] for _, headers, _ in server.seen}
        assert f"Bearer {SECRET}" in logins
        assert len(logins) == 2
        server.every = says(403, f"no {PASSWORD} {KEY}")
        third = cli.start("doctor", url)
        printed += third.communicate(timeout=600)
    written = [*snapshot(tmp_path).values(), *(text.encode() for text in printed)]
    for secret in (SECRET, PASSWORD, KEY):
        assert not any(secret.encode() in content for content in written)
    command = read(tmp_path / "password" / "report.json").run.command
    assert "'--model=http://***@127.0.0.1:" in command
    assert "/v2/models/net?***' --attack" in command
