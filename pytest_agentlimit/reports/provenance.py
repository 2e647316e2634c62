"""What the numbers of one model rest on: rounds that were not needed, caches, callers, null models.

Each fact appears only where there is something to say.
"""

from __future__ import annotations

from collections import Counter

from pytest_agentlimit.measure.latency import median
from pytest_agentlimit.reports import numbers
from pytest_agentlimit.reports.facts import Fact, median_interval
from pytest_agentlimit.runs.audit import above_null, null_score
from pytest_agentlimit.runs.records import CallRecord, Manifest, RunData, TrialRecord
from pytest_agentlimit.runs.schema import ModelPart
from pytest_agentlimit.runs.trials import ModelTrials, not_needed
from pytest_agentlimit.text import one_line

_MOST_FAULTS = 4


def of_model(part: ModelPart, trials: ModelTrials, data: RunData) -> tuple[Fact, ...]:
    """Return what a reader must know of how a model's numbers came about."""
    found = [
        _faults(trials),
        _harness(trials),
        _not_needed(trials, data),
        _above_null(part, trials, data.manifest),
        _generation(trials.records),
        _cache(trials.records),
        _callers(trials),
        _energy(part),
        _cold(trials),
    ]
    return tuple(fact for fact in found if fact is not None)


def _faults(trials: ModelTrials) -> Fact | None:
    """Return what is wrong with the endpoint itself: whoever reads a score must know."""
    faults = trials.preflight.get("faults") or []
    if not faults:
        return None
    shown = [
        f"{one_line(str(fault['code']), 60)} (blame: {one_line(str(fault['blame']), 20)}): "
        f"{one_line(str(fault['message']), 200)}"
        for fault in faults[:_MOST_FAULTS]
    ]
    more = [f"and {len(faults) - _MOST_FAULTS} more"] if len(faults) > _MOST_FAULTS else []
    return Fact("faults", (*shown, *more), "odd")


def _harness(trials: ModelTrials) -> Fact | None:
    """Return what the agent program did that trials went through, and where it was not honest."""
    uses = [record.harness for record in trials.records if record.harness is not None]
    if not uses:
        return None
    name = one_line(str(trials.fingerprint.get("harness") or "agent program"), 80)
    turns, background = sum(use.turns for use in uses), sum(use.background for use in uses)
    retries = sum(use.retries for use in uses)
    said = f"{numbers.count(turns, 'turn')}, {numbers.count(background, 'request')} beside the work"
    took = [1000 * use.seconds / use.runs for use in uses]
    parts = [
        f"{name}: {numbers.count(sum(use.runs for use in uses), 'run')}, {said}",
        f"largest request {max(use.largest_request for use in uses) / 1000:.1f} kB",
        f"a run takes {numbers.milliseconds(median(took))} ({median_interval(took)}), "
        f"n = {numbers.count(len(took), 'trial')}",
    ]
    if retries:
        parts.append(f"{numbers.count(retries, 'request')} sent again after a failure")
    odd = Counter(one_line(problem, 200) for use in uses for problem in use.problems)
    parts += [f"{text} ({n} of {len(uses)})" for text, n in odd.most_common(_MOST_FAULTS)]
    return Fact("harness", tuple(parts), "odd" if odd else "plain")


def _not_needed(trials: ModelTrials, data: RunData) -> Fact | None:
    """Return what an early end saved; rounds that were not run are never counted as passed."""
    left_out = not_needed(data, trials.name)
    if not left_out.trials:
        return None
    why = "each check ran to its first flip"
    if trials.stop is not None:
        last = max(left_out.rounds)
        why = f"rounds {trials.stop.round + 1} to {last}: decided after round {trials.stop.round}"
        if last == trials.stop.round + 1:
            why = f"round {last}: decided after round {trials.stop.round}"
    parts = [why, numbers.count(left_out.trials - left_out.ran, "trial") + " not run"]
    calls = sum(len(record.calls) for record in trials.records)
    if trials.records and calls:
        saved = round(calls / len(trials.records) * (left_out.trials - left_out.ran))
        parts.append(f"about {numbers.count(saved, 'call')} saved")
    if left_out.ran:
        parts.append(f"{left_out.ran} ran before the decision arrived and do not count")
    return Fact("not needed", tuple(parts))


def _above_null(part: ModelPart, trials: ModelTrials, manifest: Manifest) -> Fact | None:
    if part.score.value is None or not manifest.audited:
        return None
    best = null_score(trials, manifest.audited)
    if best is None:
        return Fact("above null", ("not known: run --agent-audit again, the checks have changed",))
    share = above_null(part.score.value, best.score)
    if share is None:
        return Fact("above null", (f"nothing: {one_line(best.name)} passes every check",), "bad")
    size = f"n = {numbers.count(len(trials.scored_checks), 'check')}"
    if not best.name:
        return Fact("above null", (f"{100 * share:.1f} %: no null model passes a check ({size})",))
    null = f"{one_line(best.name)} scores {numbers.percent(best.score)}"
    return Fact("above null", (f"{100 * share:.1f} %", f"{null} ({size})"))


def _generation(records: list[TrialRecord]) -> Fact | None:
    """Return how soon calls begin to speak and how fast they go on (METHOD 4.5)."""
    undisturbed = [record for record in records if not (record.ladder and record.ladder.alone)]
    calls = [call for record in undisturbed for call in record.calls if call.error_kind is None]
    firsts = [call.ttft_ms for call in calls if call.ttft_ms is not None and not call.cold]
    if not firsts:
        return None
    parts = [
        f"first token after {numbers.milliseconds(median(firsts))} ({median_interval(firsts)}), "
        f"n = {numbers.count(len(firsts), 'call')}"
    ]
    rates = [rate for call in calls if (rate := _tokens_per_s(call)) is not None]
    if rates:
        middle = f"{_rate(median(rates))} tokens/s ({median_interval(rates, _rate)})"
        parts.append(f"{middle}, n = {numbers.count(len(rates), 'call')}")
    return Fact("generation", tuple(parts))


def _tokens_per_s(call: CallRecord) -> float | None:
    """Return 1 / TPOT, None where the server did not count or sent everything at once."""
    tokens = call.usage.output_tokens
    if call.ttft_ms is None or tokens is None or tokens < 2 or call.attempts > 1:
        return None
    spent_ms = call.end_ms - call.start_ms - call.ttft_ms
    return None if spent_ms <= 0 else 1000 * (tokens - 1) / spent_ms


def _rate(value: float) -> str:
    return f"{value:.1f}" if value < 100 else f"{value:.0f}"


def _cache(records: list[TrialRecord]) -> Fact | None:
    """Return the share of prompts the server did not have to read: their latencies are short."""
    usages = [call.usage for record in records for call in record.calls]
    counted = [
        (usage.cached_tokens, usage.input_tokens)
        for usage in usages
        if usage.cached_tokens is not None and usage.input_tokens
    ]
    tokens = sum(total for _, total in counted)
    cached = sum(found for found, _ in counted)
    if not tokens or not cached:
        return None
    n = f"n = {len(counted)} of {numbers.count(len(usages), 'call')}"
    return Fact("prompt cache", (f"{100 * cached / tokens:.0f} % of prompt tokens ({n})",))


def _energy(part: ModelPart) -> Fact | None:
    """Return what the run cost, where this machine could tell (METHOD 8)."""
    energy = part.energy
    if not energy:
        return None
    above = ", above idle" if energy["idle_w"] is not None else ""
    parts = [f"{energy['joules']:.0f} J in {numbers.seconds(energy['window_s'])}"]
    parts[0] += f" ({energy['source']}{above})"
    if energy["joules_per_passed"] is not None:
        passed = sum(check.passes for check in part.checks)
        shown = f"{energy['joules_per_passed']:.0f} J per passed check"
        parts.append(f"{shown} (n = {numbers.count(passed, 'trial')})")
    if energy["joules_per_1k_output_tokens"] is not None:
        parts.append(f"{energy['joules_per_1k_output_tokens']:.0f} J per 1,000 output tokens")
    return Fact("energy", tuple(parts))


def _callers(trials: ModelTrials) -> Fact | None:
    left_out = sum(check.left_out for check in trials.checks)
    if not left_out:
        return None
    declared = numbers.count(trials.callers, "call")
    said = f"{numbers.count(left_out, 'trial')} left out of latency"
    return Fact("in flight", (said, f"not exactly {declared} under way, as declared"), "odd")


def _cold(trials: ModelTrials) -> Fact | None:
    """Return what kept loading and waking of a server out of the latencies (METHOD 4.4)."""
    parts = []
    left_out = sum(check.cold for check in trials.checks)
    if left_out:
        trial = numbers.count(left_out, "trial")
        parts.append(f"{trial} left out of latency: the server was loading the model")
    woken = [r.rewarmed_ms for r in trials.records if r.rewarmed_ms is not None]
    if woken:
        took = numbers.duration(max(woken))
        parts.append(
            f"warmed up again before {numbers.count(len(woken), 'trial')}, after idle minutes: "
            f"{took} at most (n = {len(woken)}, not in any latency)"
        )
    return Fact("cold", tuple(parts), "odd" if left_out else "plain") if parts else None
