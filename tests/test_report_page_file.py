"""The report's file: what its data and its policy let happen."""

from __future__ import annotations

import base64
import hashlib
import html
import json
import re

import pytest

from recurra.insight.report.page import html_page
from report_page_data import HOSTILE, page_data


def test_data_cannot_end_the_script_that_holds_it() -> None:
    data = page_data([], 1, title=HOSTILE, notes=[HOSTILE, "\u2028"])
    page = html_page(data)
    held = re.search(r'<script type="application/json"[^>]*>(.*?)</script>', page, re.DOTALL)
    assert held is not None
    assert json.loads(held[1]) == data
    assert "\u2028" not in page
    assert f"<title>{html.escape(HOSTILE)}</title>" in page


def test_only_the_pages_own_program_may_run() -> None:
    page = html_page({})
    policy = html.unescape(re.search(r'Content-Security-Policy" content="([^"]*)"', page)[1])
    program = page[page.rindex("<script>") + len("<script>") : page.rindex("</script>")]
    digest = base64.b64encode(hashlib.sha256(program.encode()).digest()).decode()
    assert f"script-src 'sha256-{digest}';" in policy
    assert policy.startswith("default-src 'none'")
    assert not re.search(r"https?://(?!www\.w3\.org/)", page), "a page asks for nothing"


def test_numbers_that_json_cannot_hold_are_refused() -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        html_page({"value": float("nan")})
