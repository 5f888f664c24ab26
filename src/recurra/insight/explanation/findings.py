"""What lint found, as part of an explanation."""

from __future__ import annotations

from collections.abc import Sequence

from recurra.insight.explanation.document import Content, Gap, Part, Section, Text, table
from recurra.insight.linting import Finding

_KINDS = {"error": "error", "warning": "bad", "hint": "dim"}


def findings_section(findings: Sequence[Finding], *, all_clear: bool = False) -> Section:
    """Findings one below the other.

    Args:
        findings: errors first.
        all_clear: whether to say so if there are none.
    """
    content: list[Content] = []
    for finding in findings:
        if content:
            content.append(Gap())
        place = f" in `{finding.where}`" if finding.where else ""
        content += [
            Text(f"{finding.severity} {finding.code}{place}", _KINDS[finding.severity]),
            table(
                [
                    (Part("what", "dim"), finding.problem),
                    (Part("so", "dim"), finding.why),
                    (Part("write", "dim"), finding.advice),
                ],
                "dim",
                "text",
            ),
        ]
    if not findings and all_clear:
        content.append(Text("None was found."))
    return Section("Common mistakes", tuple(content), _count(findings))


def _count(findings: Sequence[Finding]) -> str:
    parts = []
    for severity in ("error", "warning", "hint"):
        number = sum(finding.severity == severity for finding in findings)
        if number:
            parts.append(f"{number} {severity}{'s' if number > 1 else ''}")
    return ", ".join(parts)
