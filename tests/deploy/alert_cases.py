"""For every alert: series under which it fires, what it then says, and series under which it must stay silent.

Series are in promtool's notation, one sample per minute.
"""

from dataclasses import dataclass

ON = 'instance="a:8080"'
MODEL = f'{ON}, model="m", version="1"'


@dataclass(frozen=True)
class Case:
    alert: str
    fires: dict[str, str]
    labels: dict[str, str]
    quiet: dict[str, str]
    value: str = ""
    at: str = "40m"


def _requests(code: str, verb: str = "predict") -> str:
    return f'clearweight_requests_total{{{MODEL}, verb="{verb}", protocol="rest", code="{code}"}}'


def _duration(le: str, verb: str = "predict") -> str:
    return (
        f'clearweight_request_duration_seconds_bucket{{{MODEL}, verb="{verb}", protocol="rest", le="{le}"}}'
    )


def _device(name: str) -> str:
    return f'instance="clearweight:8080", device="{name}"'


def _alarm(which: str, metric: str, label: str = "all") -> str:
    chart = f'metric="{metric}", detector="ewma", class="{label}"'
    return f'clearweight_attribution_drift_alarm{{{which}, model="m", version="1", {chart}}}'


def _rows(what: str, labels: str) -> str:
    return f'clearweight_attribution_drift_{what}_total{{{ON}, model="m", {labels}}}'


INSTANCE = {"instance": "a:8080"}
VERSION = {**INSTANCE, "model": "m", "version": "1"}
SAMPLE = f"clearweight_attribution_drift_last_sample_timestamp_seconds{{{MODEL}}}"

CASES = (
    Case(
        "ClearweightDown",
        {f'up{{{ON}, job="prod/clearweight"}}': "1x10 0x40"},
        {**INSTANCE, "job": "prod/clearweight"},
        {f'up{{{ON}, job="prod/clearweight"}}': "1x38 0x20", f'up{{{ON}, job="node"}}': "0x60"},
    ),
    Case(
        "ClearweightModelNotReady",
        {f"clearweight_model_ready{{{MODEL}}}": "0x60"},
        VERSION,
        {f"clearweight_model_ready{{{MODEL}}}": "1x37 0x20"},
    ),
    Case(
        "ClearweightRequestsFailing",
        {_requests("200"): "0+98x60", _requests("500"): "0+2x60"},
        {**INSTANCE, "verb": "predict"},
        {_requests("200"): "0+500x60", _requests("500"): "0+1x60", _requests("400"): "0+400x60"},
        "2%",
    ),
    Case(
        "ClearweightOverloaded",
        {
            f'clearweight_requests_rejected_total{{{ON}, reason="queue_full"}}': "0+10x60",
            _requests("200"): "0+60x60",
            _requests("429"): "0+10x60",
            _requests("200", "explain"): "0+30x60",
        },
        {**INSTANCE, "reason": "queue_full"},
        {
            f'clearweight_requests_rejected_total{{{ON}, reason="queue_full"}}': "0+1x60",
            f'clearweight_requests_rejected_total{{{ON}, reason="draining"}}': "0+90x60",
            _requests("200"): "0+100x60",
        },
        "10%",
    ),
    Case(
        "ClearweightQueueFilling",
        {
            f'clearweight_queue_depth{{{ON}, verb="explain"}}': "15x60",
            f'clearweight_queue_capacity{{{ON}, verb="explain"}}': "16x60",
        },
        {**INSTANCE, "verb": "explain"},
        {
            f'clearweight_queue_depth{{{ON}, verb="explain"}}': "12x30 15x5 12x30",
            f'clearweight_queue_capacity{{{ON}, verb="explain"}}': "16x60",
        },
        "93.75%",
    ),
    Case(
        "ClearweightPredictSlow",
        {_duration("1.0"): "0+90x60", _duration("2.5"): "0+100x60", _duration("+Inf"): "0+100x60"},
        {**INSTANCE, "verb": "predict"},
        {
            _duration("1.0"): "0+100x60",
            _duration("+Inf"): "0+100x60",
            _duration("1.0", "explain"): "0x60",
            _duration("2.5", "explain"): "0+100x60",
            _duration("+Inf", "explain"): "0+100x60",
        },
        "2.35s",
    ),
    Case(
        "ClearweightIntegrityFailed",
        {f"clearweight_integrity_passed{{{MODEL}}}": "1x39 0x20"},
        VERSION,
        {f"clearweight_integrity_passed{{{MODEL}}}": "1x60"},
    ),
    Case(
        "ClearweightFidelityFailed",
        {f"clearweight_fidelity_passed{{{MODEL}}}": "0x60"},
        VERSION,
        {f"clearweight_fidelity_passed{{{MODEL}}}": "1x60"},
    ),
    Case(
        "ClearweightAttributionDrift",
        {_alarm(ON, "pooled_cosine", "cat"): "0x20 1x40", _alarm(ON, "pooled_cosine"): "0x60"},
        VERSION,
        {_alarm(ON, "pooled_cosine"): "0x37 1x2 0x30", _alarm(ON, "disagreement"): "0x60"},
    ),
    Case(
        "ClearweightComparisonsSkipped",
        {_rows("skipped", 'reason="budget"'): "0+80x90", _rows("compared", 'source="shadow"'): "0+20x90"},
        {**INSTANCE, "model": "m"},
        {
            _rows("skipped", 'reason="budget"'): "0+10x90",
            _rows("skipped", 'reason="sampled_out"'): "0+9000x90",
            _rows("compared", 'source="shadow"'): "0+90x90",
        },
        "80%",
        at="60m",
    ),
    Case(
        "ClearweightComparisonsStopped",
        {SAMPLE: "0x120", _requests("200"): "0+60x120"},
        VERSION,
        {SAMPLE: "0+60x120", _requests("200"): "0+60x120"},
        "1h 40m 0s",
        at="100m",
    ),
    Case(
        "ClearweightComparisonsStopped",
        {SAMPLE: "0x120", _requests("200"): "0+60x120"},
        VERSION,
        {SAMPLE: "0x120", _requests("200"): "0+1x120"},
        "1h 40m 0s",
        at="100m",
    ),
    Case(
        "ClearweightMapsUndefined",
        {
            _rows("undefined", 'metric="pooled_cosine"'): "0+10x60",
            _rows("undefined", 'metric="disagreement"'): "0x60",
            _rows("compared", 'source="shadow"'): "0+100x60",
        },
        {**INSTANCE, "model": "m", "metric": "pooled_cosine"},
        {
            _rows("undefined", 'metric="pooled_cosine"'): "0+1x60",
            _rows("compared", 'source="shadow"'): "0+100x60",
        },
        "10%",
    ),
    Case(
        "ClearweightFleetDrift",
        {
            _alarm(_device(name), "pooled_cosine"): "1x60" if name == "d0" else "0x60"
            for name in ("d0", "d1", "d2", "d3")
        },
        {"model": "m"},
        {_alarm(_device(f"d{n}"), "pooled_cosine"): "1x60" if n == 0 else "0x60" for n in range(20)}
        | {_alarm(ON, "pooled_cosine"): "1x60"},
        "25%",
    ),
    Case(
        "ClearweightDeviceSilent",
        {
            f"clearweight_build_info{{{_device('d0')}}}": "1x30",
            f"clearweight_build_info{{{_device('d1')}}}": "1x90",
        },
        {"device": "d0"},
        {
            f"clearweight_build_info{{{_device('d0')}}}": "1x90",
            f"clearweight_build_info{{{_device('d1')}}}": "1x50",
            f"clearweight_build_info{{{ON}}}": "1x10",
        },
        at="75m",
    ),
)
