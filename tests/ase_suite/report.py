"""Compare the two runs and explain the failures."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from tests.ase_suite.plugin import TIMEOUT

#: What a listed failure is about.
KINDS = {
    "numbers": "EMT's numbers: energies, minima, frequencies that the model meets only nearly",
    "identity": "EMT itself: its name, its options, what it claims",
    "rounding": "equality to fewer digits than the model rounds to",
    "time": "more evaluations of a network than the time limit allows",
    "conformance": "our calculator's conformance to ASE",
}
ALSO_EMT = "fails with the real EMT on this machine"
Result = dict[str, str]


@dataclass(frozen=True)
class Expected:
    """A line of the table of failures."""

    kind: str
    reason: str


def read_expected(path: Path) -> dict[str, Expected]:
    """Read lines ``kind | test | reason``; empty lines and those that begin with # are skipped.

    Raises:
        ValueError: If a line has another form, an unknown kind or a test that was listed before.
    """
    expected: dict[str, Expected] = {}
    for number, line in enumerate(path.read_text().splitlines(), 1):
        if not line.strip() or line.startswith("#"):
            continue
        parts = [part.strip() for part in line.split(" | ", 2)]
        if len(parts) != 3 or parts[0] not in KINDS or not all(parts) or parts[1] in expected:
            raise ValueError(
                f"{path.name}:{number}: expected 'kind | test | reason' with a kind of "
                f"{list(KINDS)} and a test that is not listed twice, got {line!r}"
            )
        expected[parts[1]] = Expected(parts[0], parts[2])
    return expected


@dataclass
class Comparison:
    """Tests by what became of them; those with a reason carry it."""

    passed: list[str] = field(default_factory=list)
    skipped: dict[str, str] = field(default_factory=dict)
    explained: dict[str, Expected] = field(default_factory=dict)
    also_emt: dict[str, str] = field(default_factory=dict)
    unexplained: dict[str, str] = field(default_factory=dict)
    listed_but_passed: list[str] = field(default_factory=list)
    listed_but_absent: list[str] = field(default_factory=list)

    @property
    def n_failed(self) -> int:
        return len(self.explained) + len(self.also_emt) + len(self.unexplained)


def compare(
    pet: dict[str, Result], emt: dict[str, Result], expected: dict[str, Expected]
) -> Comparison:
    """Sort the tests that ran with EMT into what became of them with the replacement.

    A failure is explained by the table only if it is of the kind listed there: a test that is
    listed for its numbers may take too long on a slow machine, but one that is listed for its
    time must not fail in another way.
    """
    found = Comparison(listed_but_absent=sorted(expected.keys() - emt.keys() - pet.keys()))
    for test in sorted(emt.keys() | pet.keys()):
        result = pet.get(test, {"outcome": "failed", "message": "was not run"})
        listed = expected.get(test)
        if result["outcome"] == "passed":
            found.passed.append(test)
            if listed:
                found.listed_but_passed.append(test)
        elif result["outcome"] == "skipped":
            found.skipped[test] = result["message"]
        elif emt.get(test, {}).get("outcome") == "failed":
            found.also_emt[test] = emt[test]["message"]
        elif listed and (listed.kind != "time" or _took_too_long(result)):
            found.explained[test] = listed
        else:
            found.unexplained[test] = result["message"]
    return found


def _took_too_long(result: Result) -> bool:
    """Whether our limit ended a test, or one of its own, as that of a socket."""
    return TIMEOUT in result["message"] or "TimeoutError" in result.get("details", "")


def write(found: Comparison, uses: set[str], heading: list[str]) -> str:
    """The report in Markdown: counts, then each failure with its explanation."""
    kinds = Counter(e.kind for e in found.explained.values())
    evaluated = [test in uses for test in found.passed].count(True)
    failed = {*found.explained, *found.also_emt, *found.unexplained}
    lines = ["# ASE's test-suite with EMT replaced", "", *heading, ""]
    lines += ["| outcome | tests | of which use the calculator |", "|---|---|---|"]
    lines += [f"| passed | {len(found.passed)} | {evaluated} |"]
    lines += [f"| failed | {found.n_failed} | {len(failed & uses)} |"]
    lines += [f"| skipped | {len(found.skipped)} | {len(found.skipped.keys() & uses)} |", ""]
    lines += ["| a failure is about | tests |", "|---|---|"]
    lines += [f"| {kind}: {KINDS[kind]} | {kinds[kind]} |" for kind in KINDS]
    lines += [f"| {ALSO_EMT} | {len(found.also_emt)} |"]
    lines += [f"| **not explained** | {len(found.unexplained)} |", ""]
    lines += _section("Not explained", found.unexplained)
    for kind in KINDS:
        of_kind = {t: e.reason for t, e in found.explained.items() if e.kind == kind}
        lines += _section(f"Failed: {kind}", of_kind)
    lines += _section(f"Failed: {ALSO_EMT}", found.also_emt)
    lines += _section("Listed as failures, but passed", dict.fromkeys(found.listed_but_passed, ""))
    lines += _section("Listed, but not in the suite", dict.fromkeys(found.listed_but_absent, ""))
    reasons = Counter(found.skipped.values())
    lines += _section("Skipped", {f"{n} tests": why for why, n in reasons.most_common()})
    return "\n".join(lines)


def _section(title: str, tests: dict[str, str]) -> list[str]:
    if not tests:
        return []
    return [f"## {title}", "", *(f"- {t}: {why}".rstrip(": ") for t, why in tests.items()), ""]
