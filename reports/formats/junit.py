"""junit.xml: one test case a gate and one a check, so that a CI system shows which condition was not met."""

from __future__ import annotations

from xml.etree import ElementTree

from ..page import wording
from ..record.audit_record import AuditRecord
from ..record.ranking import strongest
from ..record.verdicts import CheckResult


def render(record: AuditRecord) -> str:
    """Write gates and checks as JUnit XML; gates of a run that did not finish are errors: nothing is established.

    A check that failed is a failure where a gate asks for it, else a remark; one that raised is an error.
    """
    whole = record.status == "complete"
    strict = any(gate.kind == "strict" for gate in record.gates)
    failures = sum(not gate.passed for gate in record.gates) if whole else 0
    failures += sum(check.status == "fail" for check in record.checks) if strict else 0
    errors = sum(check.status == "error" for check in record.checks) + (0 if whole else len(record.gates))
    skipped = str(sum(check.status == "n/a" for check in record.checks))
    totals = {
        "tests": str(len(record.gates) + len(record.checks)),
        "failures": str(failures),
        "errors": str(errors),
        "time": f"{record.run.seconds:.3f}",
    }
    root = ElementTree.Element("testsuites", {"name": "robustkit", **totals})
    suite = ElementTree.SubElement(
        root,
        "testsuite",
        {
            "name": f"robustkit: {wording.clean(record.model.name)} on {wording.clean(record.data.name)}",
            **totals,
            "skipped": skipped,
            "timestamp": record.run.created.partition("+")[0].rstrip("Z"),
        },
    )
    properties = ElementTree.SubElement(suite, "properties")
    for name, value in _properties(record):
        ElementTree.SubElement(
            properties, "property", {"name": wording.clean(name), "value": wording.clean(value, 1000)}
        )
    for gate in record.gates:
        case = ElementTree.SubElement(
            suite,
            "testcase",
            {"classname": f"robustkit.{gate.kind}", "name": wording.clean(gate.name, 300), "time": "0"},
        )
        detail = wording.clean(gate.detail, 1000)
        if not whole:
            message = "not established: the audit did not finish"
            ElementTree.SubElement(case, "error", {"message": message, "type": "incomplete"}).text = detail
        elif not gate.passed:
            ElementTree.SubElement(case, "failure", {"message": detail, "type": gate.kind}).text = detail
    for check in record.checks:
        _check(suite, check, strict)
    ElementTree.indent(root)
    return '<?xml version="1.0" encoding="UTF-8"?>\n' + ElementTree.tostring(root, encoding="unicode") + "\n"


def _check(suite: ElementTree.Element, check: CheckResult, strict: bool) -> None:
    name = wording.clean(f"{check.id}: {check.title}", 300)
    case = ElementTree.SubElement(suite, "testcase", {"classname": "robustkit.check", "name": name, "time": "0"})
    detail = wording.clean(check.detail, 1000)
    if check.status == "n/a":
        ElementTree.SubElement(case, "skipped", {"message": detail})
    elif check.status == "error":
        error = ElementTree.SubElement(case, "error", {"message": detail, "type": "check"})
        error.text = wording.clean(f"{check.detail} {check.remedy}", 2000)
    elif check.status == "fail" and strict:
        failure = ElementTree.SubElement(case, "failure", {"message": detail, "type": "check"})
        failure.text = wording.clean(f"{check.detail} {check.remedy} ({check.source})", 2000)
    elif check.status != "pass":
        remark = f"{check.status}: {check.detail} {check.remedy} ({check.source})"
        ElementTree.SubElement(case, "system-out").text = wording.clean(remark, 2000)


def _properties(record: AuditRecord) -> list[tuple[str, str]]:
    best = strongest(record)
    rows = [
        ("model", record.model.name),
        ("model digest", record.model.digest),
        ("data", record.data.name),
        ("samples", str(len(record.samples.ids))),
        ("norm", record.norm),
        ("seed", str(record.run.seed)),
        ("attacks", ", ".join(attack.name for attack in record.attacks)),
        *([("surrogates", ", ".join(model.name for model in record.surrogates))] if record.surrogates else []),
        *([("strongest attack", record.attacks[best].title)] if best is not None else []),
        ("clean accuracy", f"{wording.share(record.clean)} ({wording.interval(record.clean)})"),
    ]
    rows += [
        (f"robust accuracy at {point.text}", f"{wording.share(point.robust)} ({wording.interval(point.robust)})")
        for point in record.worst_case
    ]
    return [
        *rows,
        ("status", record.status),
        ("verdict on these numbers", record.verdict),
        ("command", record.run.command),
        ("robustkit", record.run.robustkit),
    ]
