"""Sum up the JUnit XML files of pytest's sessions: summary.py DIRECTORY TIER…

Prints what passed, failed and was skipped in each tier, and why. The exit status is 1 when a test failed, or when a
tier has no report or ran no test at all.
"""

from __future__ import annotations

import collections
import os
import sys
import xml.etree.ElementTree as ElementTree


def report(tier: str, path: str) -> bool:
    """Print a tier's lines; whether it is as it should be."""
    if not os.path.exists(path):
        print(f"{tier:9} no report: the session did not end")
        return False
    outcomes: collections.Counter[str] = collections.Counter()
    reasons: collections.Counter[str] = collections.Counter()
    failed = []
    for case in ElementTree.parse(path).iter("testcase"):
        kinds = {child.tag: child for child in case}
        if "failure" in kinds or "error" in kinds:
            outcomes["failed"] += 1
            failed.append(f"{case.get('classname')}::{case.get('name')}")
        elif "skipped" in kinds:
            outcomes["skipped"] += 1
            reasons[kinds["skipped"].get("message") or "no reason given"] += 1
        else:
            outcomes["passed"] += 1
    print(f"{tier:9} {outcomes['passed']} passed, {outcomes['failed']} failed, {outcomes['skipped']} skipped")
    for name in failed:
        print(f"          failed: {name}")
    for reason, count in sorted(reasons.items()):
        print(f"          skipped {count}: {reason}")
    if not outcomes["passed"] and not outcomes["failed"]:
        print("          the whole tier was skipped, which is a failure")
    return outcomes["passed"] > 0 and not outcomes["failed"]


def main() -> int:
    directory, *tiers = sys.argv[1:]
    results = [report(tier, os.path.join(directory, f"{tier}.xml")) for tier in tiers]
    return 0 if all(results) else 1


if __name__ == "__main__":
    sys.exit(main())
