"""Sum up the JUnit XML files of pytest's sessions: summary.py DIRECTORY TIER…

Prints what passed, failed and was skipped in each tier, and why. What failed and then passed by itself, by the report
TIER-again.xml, is named too. The exit status is 1 when a test failed, or when a tier has no report or ran no test.
"""

from __future__ import annotations

import collections
import os
import sys
import xml.etree.ElementTree as ElementTree


def has_failed(case: ElementTree.Element) -> bool:
    return any(child.tag in ("failure", "error") for child in case)


def name_of(case: ElementTree.Element) -> str:
    return f"{case.get('classname')}::{case.get('name')}"


def passed_again(path: str) -> set[str]:
    """The names of the tests that passed when they ran a second time."""
    if not os.path.exists(path):
        return set()
    cases = list(ElementTree.parse(path).iter("testcase"))
    return {name_of(case) for case in cases} - {name_of(case) for case in cases if has_failed(case)}


def report(tier: str, directory: str) -> bool:
    """Print a tier's lines; whether it is as it should be."""
    path = os.path.join(directory, f"{tier}.xml")
    again = passed_again(os.path.join(directory, f"{tier}-again.xml"))
    if not os.path.exists(path):
        print(f"{tier:12} no report: the session did not end")
        return False
    outcomes: collections.Counter[str] = collections.Counter()
    reasons: collections.Counter[str] = collections.Counter()
    failed, unsteady = [], set()
    for case in ElementTree.parse(path).iter("testcase"):
        kinds = {child.tag: child for child in case}
        if has_failed(case) and name_of(case) in again:
            unsteady.add(name_of(case))
        elif has_failed(case):
            outcomes["failed"] += 1
            failed.append(name_of(case))
        elif "skipped" in kinds:
            outcomes["skipped"] += 1
            reasons[kinds["skipped"].get("message") or "no reason given"] += 1
        else:
            outcomes["passed"] += 1
    print(f"{tier:12} {outcomes['passed']} passed, {outcomes['failed']} failed, {outcomes['skipped']} skipped")
    for name in failed:
        print(f"             failed: {name}")
    for name in sorted(unsteady):
        print(f"             passed only when it ran again: {name}")
    for reason, count in sorted(reasons.items()):
        print(f"             skipped {count}: {reason}")
    if not outcomes["passed"] and not outcomes["failed"] and not unsteady:
        print("          the whole tier was skipped, which is a failure")
    return outcomes["passed"] > 0 and not outcomes["failed"]


def main() -> int:
    directory, *tiers = sys.argv[1:]
    results = [report(tier, directory) for tier in tiers]
    return 0 if all(results) else 1


if __name__ == "__main__":
    sys.exit(main())
