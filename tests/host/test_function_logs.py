"""Logs: Lambda's lines around what the function wrote, on the host's standard output and in the tail."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.host.serving import RUNS, Serving, serving

UUID = r"[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}"


@pytest.fixture(scope="module")
def host(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Serving]:
    options = ("--memory", "512", "--timeout", "10", "--env", "AB=c")
    with serving(tmp_path_factory.mktemp("logs"), RUNS, *options) as host:
        host.settle()
        yield host


def output_of(host: Serving, request_id: str) -> str:
    """The lines of one invocation on the host's standard output."""
    assert host.output is not None
    pattern = rf"START RequestId: {request_id} [^\n]*\n(?s:.*?)REPORT RequestId: {request_id}[^\n]*\n"
    return host.output.wait(pattern)[0]


def test_start_end_and_report_are_lambdas_to_the_byte(host: Serving) -> None:
    host.run("")
    answer = host.run("print('one'); print('two')")
    assert re.fullmatch(UUID, answer.request_id)
    expected = (
        rf"START RequestId: {answer.request_id} Version: \$LATEST\n"
        r"one\ntwo\n"
        rf"END RequestId: {answer.request_id}\n"
        rf"REPORT RequestId: {answer.request_id}\tDuration: \d+\.\d\d ms\tBilled Duration: \d+ ms\t"
        r"Memory Size: 512 MB\tMax Memory Used: \d+ MB\t\n"
    )
    assert re.fullmatch(expected, answer.log), answer.log
    assert output_of(host, answer.request_id) == answer.log


def test_the_billed_duration_is_the_duration_rounded_up(host: Serving) -> None:
    host.run("")
    report = host.run("import time; time.sleep(0.0123)").report
    duration = float(report["Duration"].removesuffix(" ms"))
    assert duration >= 12.3
    assert duration <= int(report["Billed Duration"].removesuffix(" ms")) < duration + 1


def test_a_line_left_open_belongs_to_the_invocation_that_began_it(host: Serving) -> None:
    first = host.run("import sys; print('whole'); sys.stdout.write('half')")
    second = host.run("print('of another')")
    assert f"whole\nhalf\nEND RequestId: {first.request_id}\n" in first.log
    assert f"Version: $LATEST\nof another\nEND RequestId: {second.request_id}\n" in second.log
    assert output_of(host, first.request_id) == first.log


def test_standard_error_descriptors_and_children_are_logged_as_well(host: Serving) -> None:
    code = """
import os, subprocess, sys
sys.stderr.write("from stderr\\n")
os.write(1, b"from the descriptor\\n")
subprocess.run(["sh", "-c", "echo from a child"])
"""
    assert "from stderr\nfrom the descriptor\nfrom a child\nEND" in host.run(code).log


def test_logging_writes_lambdas_records(host: Serving) -> None:
    answer = host.run("import logging; logging.warning('careful'); logging.info('not shown')")
    pattern = rf"\n\[WARNING\]\t\d{{4}}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{{3}}Z\t{answer.request_id}\tcareful\nEND"
    assert re.search(pattern, answer.log)
    assert "not shown" not in answer.log


def test_the_tail_is_the_last_4096_bytes_of_the_log(host: Serving) -> None:
    answer = host.run("for number in range(2000): print(f'line {number}')")
    assert len(answer.log) == 4096
    assert answer.log.splitlines()[-3] == "line 1999"
    assert answer.log.splitlines()[-2] == f"END RequestId: {answer.request_id}"
    whole = output_of(host, answer.request_id)
    assert "\nline 0\n" in whole
    assert whole.endswith(answer.log)


def test_output_that_is_no_text_does_no_harm(host: Serving) -> None:
    answer = host.run("import os; os.write(1, bytes(range(256)) + b'\\n'); result = 1")
    assert answer.value == 1
    assert answer.request_id in answer.log


def test_ten_megabytes_of_output_block_neither_the_function_nor_the_host(host: Serving) -> None:
    answer = host.run("import os\nfor _ in range(160): os.write(1, b'x' * 65535 + b'\\n')\nresult = 'done'")
    assert answer.value == "done"
    assert host.output is not None
    # Function output may be dropped where it comes faster than it is read, and is then counted; Lambda's lines may not.
    host.output.wait(rf"END RequestId: {answer.request_id}\n", 5)
    text = host.output.text
    begin = text.index(f"START RequestId: {answer.request_id}")
    came = text.count("x", begin, text.index(f"END RequestId: {answer.request_id}"))
    dropped = sum(int(count) for count in re.findall(r"(\d+) bytes of log in \d+ records were dropped", text[begin:]))
    assert came + dropped >= 160 * 65535
    assert host.run("result = 'next'").value == "next"


def test_ten_megabytes_without_a_line_end_do_not_gather_in_the_host(host: Serving) -> None:
    before = resident(host.pid)
    answer = host.run("import os\nfor _ in range(160): os.write(1, b'y' * 65536)\nresult = 'done'")
    assert answer.value == "done"
    assert resident(host.pid) - before < 24 << 20


def resident(pid: int) -> int:
    with open(f"/proc/{pid}/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def test_a_host_whose_output_nobody_reads_goes_on_serving_within_its_memory(tmp_path: Path) -> None:
    with serving(tmp_path, RUNS, "--memory", "1769", "--timeout", "10", read_output=False) as host:
        assert host.run("result = 0").value == 0
        before = resident(host.pid)
        for number in range(20):
            code = f"import os\nfor _ in range(32): os.write(1, b'z' * 65535 + b'\\n')\nresult = {number}"
            assert host.run(code).value == number
        assert resident(host.pid) - before < 32 << 20  # 40 MB were written


def test_a_host_whose_output_was_closed_goes_on_serving(tmp_path: Path) -> None:
    with serving(tmp_path, RUNS, read_output=False) as host:
        assert host.process.stdout is not None
        host.process.stdout.close()
        for number in range(5):
            assert host.run(f"print('unheard'); result = {number}").value == number


def test_in_json_every_line_of_both_streams_is_an_object(tmp_path: Path) -> None:
    with serving(tmp_path, RUNS, "--log-format", "json") as host:
        code = "import logging, sys; print('plain'); logging.error('bad'); sys.stdout.write('open')"
        answer = host.run(code)
        assert host.output is not None
        host.output.wait(r'"platform\.report"[^\n]*REPORT[^\n]*\n')
        records = [json.loads(line) for line in host.output.text.splitlines()]
        mine = [record for record in records if record.get("requestId") == answer.request_id]
        assert {record["type"] for record in mine} == {"platform.start", "function", "platform.report"}
        said = [record["record"] for record in mine if record["type"] == "function"]
        assert said[0] == "plain"
        assert json.loads(said[1])["message"] == "bad"
        assert said[2] == "open"
        assert {record["function"] for record in mine} == {"probe"}
        assert len({record["logStream"] for record in mine}) == 1
        host_lines = [json.loads(line) for line in host.errors.text.splitlines()]
        assert {line["type"] for line in host_lines} == {"host"}


def test_a_full_report_says_what_was_used_and_what_held_it(tmp_path: Path) -> None:
    with serving(tmp_path, RUNS, "--report", "full") as host:
        host.run("")
        report = host.run("open('/tmp/x', 'wb').write(bytes(3 << 20)); sum(range(10**6))").report
        assert float(report["CPU Time"].removesuffix(" ms")) > 0
        assert float(report["Throttled"].removesuffix(" ms")) >= 0
        assert int(report["Page Faults"]) > 0
        for limit in ("memory", "cpu", "processes", "files", "timeout", "tmp"):
            assert f"{limit}=" in report["Enforcement"]
        if os.geteuid() == 0:
            assert 3.0 <= float(report["Tmp Used"].removesuffix(" MB")) < 4.0
        for stage in ("clone", "worker", "ready"):
            assert f"{stage}=" in report["Stages"]
