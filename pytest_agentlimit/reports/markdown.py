"""The Markdown report: for a pull request comment, a CI job summary or an archive.

Nothing a model or a server wrote can become markup: labels are escaped, messages are code.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from pytest_agentlimit.reports.facts import Fact
from pytest_agentlimit.reports.head_to_head import HeadToHead, SideTable
from pytest_agentlimit.reports.ladders import LadderBlock
from pytest_agentlimit.reports.view import CheckRow, Failure, GateView, ModelView, RunView
from pytest_agentlimit.text import markdown, markdown_code

MOST_FAILURES = 20
"""How many failures a model's list shows; CI cuts comments that grow too long."""
_TEXT_LIMIT = 500
_HEADER = ("check", "weight", "trials", "rate, 95 %", "P50", "budget", "blame")
_RULER = "|---|--:|---|---|--:|--:|---|"


def to_markdown(view: RunView) -> str:
    """Return the run as GitHub-flavoured Markdown, the verdict first, with a final newline."""
    lines = [*(_audit(view.audit) if view.audit else _gate(view.gate))]
    for model in view.models:
        lines += ["", *_model(model)]
    for section in view.head_to_head:
        lines += ["", *_head_to_head(section)]
    if view.notes:
        lines += ["", *(f"- **note**: {_text(note)}" for note in view.notes)]
    lines += ["", _joined(view.run)]
    return "\n".join(lines) + "\n"


def comparison_markdown(view: HeadToHead) -> str:
    """Return a comparison alone as GitHub-flavoured Markdown, with a final newline."""
    return "\n".join(_head_to_head(view)) + "\n"


def _gate(gate: GateView) -> Iterator[str]:
    yield f"## agentlimit: gate {gate.word}"
    yield ""
    yield _text(gate.comment)
    if gate.rules:
        yield ""
    for rule in gate.rules:
        yield f"- **{_text(rule.name)} {_text(rule.verdict)}**: {_text(rule.message)}"


def _audit(facts: tuple[Fact, ...]) -> Iterator[str]:
    yield "## agentlimit: audit"
    yield ""
    for fact in facts:
        label = f"**{_text(fact.label)}**: " if fact.label else ""
        yield f"- {label}{_joined(fact.parts)}"


def _model(model: ModelView) -> Iterator[str]:
    yield f"### {_text(model.name)}"
    yield ""
    yield _joined(model.served)
    yield ""
    if model.rows:
        yield from _table(model.rows)
        yield ""
    if model.legend:
        yield _text(model.legend)
        yield ""
    for fact in model.facts:
        yield f"- **{_text(fact.label)}**: {_joined(fact.parts)}"
    if model.failures:
        yield from ("", "First failures:", "", *_failures(model.failures))
    for ladders in model.ladders:
        yield from ("", "Ladders:", "", *_side_table(ladders.table), "")
        for fact in ladders.facts:
            yield f"- **{_text(fact.label)}**: {_joined(fact.parts)}"
        for block in ladders.blocks:
            yield from ("", *_ladder(block))


def _ladder(block: LadderBlock) -> Iterator[str]:
    yield from (f"#### {_text(block.title)}", "")
    for fact in block.facts:
        yield f"- **{_text(fact.label)}**: {_joined(fact.parts)}"
    if block.failure:
        yield f"- **first failure**: {markdown_code(block.failure, _TEXT_LIMIT)}"
    yield from (f"  - {markdown_code(line)}" for line in block.example)
    if block.curve:
        yield from ("", "```text", *block.curve, "```")


def _head_to_head(view: HeadToHead) -> Iterator[str]:
    yield from (f"### {_text(view.title)}", "", *_side_table(view.table))
    for pair in view.pairs:
        if len(view.pairs) > 1:
            yield from ("", f"#### {_text(pair.title)}")
        yield ""
        for fact in pair.facts:
            yield f"- **{_text(fact.label)}**: {_joined(fact.parts)}"
    if view.caveats:
        yield ""
    for fact in view.caveats:
        yield f"- **{_text(fact.label)}**: {_joined(fact.parts)}"


def _side_table(table: SideTable) -> Iterator[str]:
    yield _cells(column.header for column in table.columns)
    yield f"|{'|'.join('--:' if column.align == 'right' else '---' for column in table.columns)}|"
    files = list(dict.fromkeys(row.file for row in table.rows))
    for file in files:
        if len(files) > 1:
            yield _cells((file, *[""] * (len(table.columns) - 1)))
        for row in table.rows:
            if row.file == file:
                yield _cells(row.texts)


def _table(rows: tuple[CheckRow, ...]) -> Iterator[str]:
    yield _cells(_HEADER)
    yield _RULER
    files = list(dict.fromkeys(row.file for row in rows))
    for file in files:
        if len(files) > 1:
            yield _cells((file, *[""] * (len(_HEADER) - 1)))
        for row in rows:
            if row.file == file:
                texts = (row.name, row.weight, row.trials, row.rate, row.p50, row.budget, row.blame)
                yield _cells(texts)


def _cells(texts: Iterable[str]) -> str:
    return f"| {' | '.join(map(_text, texts))} |"


def _failures(failures: tuple[Failure, ...]) -> Iterator[str]:
    for failure in failures[:MOST_FAILURES]:
        what = f"{_text(failure.trial)}, {failure.outcome}, blame {failure.blame}"
        message = markdown_code(failure.message, _TEXT_LIMIT)
        yield f"- **{_text(failure.check)}** ({what}): {message}"
    if len(failures) > MOST_FAILURES:
        yield f"- and {len(failures) - MOST_FAILURES} more checks with a failure"


def _joined(parts: tuple[str, ...]) -> str:
    return " · ".join(map(_text, parts))


def _text(text: str) -> str:
    return markdown(text, _TEXT_LIMIT)
