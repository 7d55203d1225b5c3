"""Each table has its rule of retention, which the register of columns and the code agree with."""

import re
from itertools import groupby
from pathlib import Path

import pytest

from app.models import columns
from app.models.columns import Retention
from app.models.privacy.retention import Act, Rule, read
from app.models.registry import metadata
from app.services.privacy.retention import EVENTS

_RULES = list(read())
_REGISTER = list(columns.read())
_FOR_GOOD = {Retention.LASTING, Retention.ACCOUNTS}


def _of(table: str) -> list[Rule]:
    return [rule for rule in _RULES if rule.table == table]


@pytest.mark.parametrize("table", sorted(metadata.tables))
def test_each_table_has_a_rule(table: str) -> None:
    assert _of(table), f"say in app/data/retention.csv how long rows of {table} are kept, and why"


def test_each_rule_is_of_a_table_and_says_why() -> None:
    assert {rule.table for rule in _RULES} <= set(metadata.tables)
    assert not [rule for rule in _RULES if len(rule.why.split()) < 2 and rule.why != "accounts"]
    assert [rule.table for rule in _RULES] == sorted(rule.table for rule in _RULES)


def test_what_is_kept_is_kept_whole_and_the_rest_has_an_event_that_the_code_knows() -> None:
    for table, rules in groupby(_RULES, key=lambda rule: rule.table):
        acts = [rule.act for rule in rules]
        assert acts == [Act.KEEP] or Act.KEEP not in acts, table
        # A run counts what it deletes before what it clears, as the preview does.
        assert acts == sorted(acts, key=[Act.KEEP, Act.DELETE, Act.CLEAR].index), table
    ruled = {(rule.table, rule.event) for rule in _RULES if rule.act is not Act.KEEP}
    assert ruled == set(EVENTS)
    assert all(bool(rule.columns) == (rule.act is Act.CLEAR) for rule in _RULES)
    assert all(rule.days >= 0 for rule in _RULES)


def test_the_page_on_privacy_says_of_each_table_when_its_rows_go() -> None:
    page = Path("docs/privacy.md").read_text("utf-8").partition("## How long")[2]
    rows = [line for line in page.splitlines() if line.startswith("| ")]
    told = {(rule.table, rule.days) for rule in _RULES if rule.days and rule.act is not Act.KEEP}
    for table, days in told:
        span = r"\ba day\b" if days == 1 else rf"\b{days:,} days\b|after {days:,}\b"
        named = [row for row in rows if f"`{table}`" in row and re.search(span, row)]
        assert named, f"docs/privacy.md does not say that rows of {table} go after {days} days"
    named_there = {name for row in rows for name in re.findall(r"^\| `(\w+)`", row)}
    assert named_there <= {table for table, _ in told}


def test_what_is_cleared_may_be_empty() -> None:
    for rule in _RULES:
        for name in rule.columns:
            assert metadata.tables[rule.table].columns[name].nullable, f"{rule.table}.{name}"


def test_the_register_and_the_rules_agree() -> None:
    for entry in _REGISTER:
        rules = _of(entry.table)
        goes = any(rule.act is Act.DELETE and rule.event != "erased" for rule in rules)
        is_cleared = any(entry.column in rule.columns for rule in rules)
        where = f"{entry.table}.{entry.column}"
        if goes or is_cleared:
            assert entry.retention not in _FOR_GOOD, f"{where} is not kept for good"
        else:
            assert entry.retention is not Retention.LIMITED, f"no rule limits {where}"


def test_what_points_at_a_row_goes_before_it() -> None:
    """A row that goes takes nothing along that has a time of its own, and is held by nothing."""
    order = {rule.table: n for n, rule in enumerate(_RULES) if rule.act is Act.DELETE}
    days = {rule.table: rule.days for rule in _RULES if rule.act is Act.DELETE}
    for table in metadata.sorted_tables:
        for key in table.foreign_key_constraints:
            target = key.referred_table.name
            if target in order:
                assert table.name in order, f"{table} holds rows of {target}"
                assert order[table.name] < order[target]
                assert days[table.name] <= days[target]
