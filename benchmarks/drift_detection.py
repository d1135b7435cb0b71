"""Whether drift limits keep their promise: false alarms as far apart as asked for, a rise found as soon as stated.

Calibration and stream come from the same process, never from the service's own generator: skewed, autocorrelated
synthetic scores, and the scores of real pairs (reference and compressed network) on inputs that neither saw, in the
order of the data, continued by a block bootstrap: once with the calibration that the export made, and with calibrations
drawn from that stream (``drawn``). Limits are solved as the service solves them from what the exporter ships; charts
are then run on many streams at once until alarms have come.

``false_alarm_interval_days`` is the model's, over all its charts, at ``RATE`` comparisons per day, for a setting of
``SETTING`` days; the median over calibrations, the others beside it. The guard for the size of a calibration makes it
longer on purpose, the more so the smaller (the number behind ``n``); ``calibrations_at_least_half_percent`` of them
keep half of the setting. An interval far beyond the setting is known roughly: few alarms were waited for.
"""

import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from benchmarks.row import Row
from benchmarks.tasks import NETWORKS, Task, recipe_of
from clearweight.artifact import OTHER, Artifact, Drift
from clearweight.exporter.calibration import drift_null
from clearweight.exporter.pipeline import export
from clearweight.exporter.preparation import load_source
from clearweight.exporter.recipe import Recipe, load_recipe
from clearweight.exporter.splits import split
from clearweight.service.core.model import Model
from clearweight.service.core.observer import Observer
from clearweight.service.drift import compare
from clearweight.service.drift.charts import METRIC, RISE, Watched, charts_of
from clearweight.service.drift.copula import autoregression
from clearweight.service.drift.dependence import WINDOW, LiveDependence
from clearweight.service.drift.null import GUARD, score_null
from clearweight.service.drift.power import Power, detection_delay

BENCH = "drift_detection"
ROOT = Path(__file__).parent.parent
DIGITS = ROOT / "cli" / "clearweight" / "cli" / "digits.yaml"
SETTING = 30.0
RATE = 1000.0
BURN_IN = 1024
LONGEST = 4000
CHAINS = 4000
PATIENCE = 10.0
"""Settings after which an interval is long enough, whatever the number of alarms."""
BLOCK = 25
_GRID = np.linspace(-8.0, 8.0, 16_001)


@dataclass(frozen=True, eq=False)
class Scored:
    """What one comparison after another gives: shape (n,) or (n, chains) each."""

    scores: NDArray[np.float64]
    flips: NDArray[np.bool_]
    classes: NDArray[np.int64]

    def __getitem__(self, which: Any) -> "Scored":
        return Scored(self.scores[which], self.flips[which], self.classes[which])


Source = Callable[[np.random.Generator, int, int], Scored]
"""(generator, steps, chains) -> a stationary stream of shape (steps, chains)."""


def synthetic(law: Any, rho: float, flip_rate: float = 0.02) -> Source:
    """Scores of one distribution whose neighbours depend on one another by a Gaussian copula; four classes alike."""
    table = law.ppf(stats.norm.cdf(_GRID))
    table[-1] = law.ppf(1 - 1e-15)

    def draw(rng: np.random.Generator, steps: int, chains: int) -> Scored:
        value = rng.standard_normal(chains)
        values = np.empty((steps, chains))
        for row in values:
            value = rho * value + np.sqrt(1 - rho**2) * rng.standard_normal(chains)
            row[:] = value
        scores = np.interp(values, _GRID, table)
        flips = rng.random((steps, chains)) < flip_rate
        return Scored(np.minimum(scores, 1.0), flips, rng.integers(0, 4, (steps, chains)))

    return draw


def continued(seen: Scored) -> Source:
    """A finite ordered stream, continued by a moving-block bootstrap (Künsch, Annals of Statistics 1989)."""
    count = len(seen.scores)

    def draw(rng: np.random.Generator, steps: int, chains: int) -> Scored:
        starts = rng.integers(0, count, (-(-steps // BLOCK), chains))
        rows = (starts[:, None, :] + np.arange(BLOCK)[None, :, None]).reshape(-1, chains)[:steps]
        return seen[rows % count]  # circular: every score is as likely as any other

    return draw


@dataclass(frozen=True)
class Limited:
    """One model's charts under the limits that the service would hold, and the delay it would state."""

    watched: list[Watched]
    limits: list[tuple[float, float]]
    power: Power


def live_dependence(shipped: Drift, source: Source, rng: np.random.Generator) -> NDArray[np.float64] | None:
    """Return the dependence that the service would measure on the stream itself; None where it is not the stronger."""
    plain = score_null(shipped.scores[METRIC], rise=RISE)
    live = LiveDependence(plain.marginal)
    for score in source(rng, 40 * WINDOW, 1).scores[:, 0]:
        live.add(float(score))
    stronger = live.above(float(plain.coefficients.sum()))
    return None if stronger is None else autoregression([stronger])


def limited(shipped: Drift, dependence: NDArray[np.float64] | None = None) -> Limited:
    """Solve the limits of a model that is alone on its device."""
    watched = charts_of(shipped, ())
    samples = SETTING * RATE * sum(entry.weight for entry in watched)
    limits = [entry.limits(dependence, samples * entry.share / entry.weight) for entry in watched]
    score_charts = [(watched[i].chart.detector, limits[i][1]) for i in (0, 1)]
    power = detection_delay(score_charts, watched[0].null(dependence, -GUARD), RISE)
    return Limited(watched, limits, power)


class Bank:
    """The charts of many devices at once: ``Chart.update``, written over arrays."""

    def __init__(self, model: Limited, chains: int) -> None:
        self.model = model
        self.states = [np.full(chains, entry.chart.detector.start) for entry in model.watched]
        self.alarmed = [np.zeros(chains, bool) for _ in model.watched]

    def update(self, seen: Scored) -> NDArray[np.bool_]:
        """Take one comparison of every device; returns which of them are in alarm."""
        for i, (entry, (warning, alarm)) in enumerate(
            zip(self.model.watched, self.model.limits, strict=True)
        ):
            if entry.distribution is None:
                event = (
                    seen.flips if entry.chart.metric == "disagreement" else np.zeros(len(seen.flips), bool)
                )
                score, taken = event.astype(np.float64), np.ones(len(event), bool)
            else:
                score = np.minimum(seen.scores, entry.chart.clip)
                taken = (
                    np.ones(len(score), bool) if entry.index is None else self._belongs(entry, seen.classes)
                )
            moved = np.minimum(entry.chart.detector.step(self.states[i], score), 2.0 * alarm)
            self.states[i] = np.where(taken, moved, self.states[i])
            state = self.states[i]
            self.alarmed[i] = np.where(self.alarmed[i], state > warning, state > alarm)
        return np.logical_or.reduce(self.alarmed)

    def _belongs(self, entry: Watched, classes: NDArray[np.int64]) -> NDArray[np.bool_]:
        if entry.index != OTHER:
            return classes == entry.index
        named = [other.index for other in self.model.watched if other.index not in (None, OTHER)]
        return ~np.isin(classes, named)


def false_alarm_interval(model: Limited, source: Source, rng: np.random.Generator, alarms: int) -> float:
    """Return the days between false alarms of a device, from about so many of them."""
    bank, found, steps = Bank(model, CHAINS), 0, 0
    before = np.zeros(CHAINS, bool)
    for seen in _rows(source, rng, CHAINS):
        alarmed = bank.update(seen)
        if steps >= BURN_IN:
            found += int((alarmed & ~before).sum())
        before, steps = alarmed, steps + 1
        if found >= alarms or steps >= BURN_IN + PATIENCE * SETTING * RATE * alarms / CHAINS:
            break
    return max(steps - BURN_IN, 0) * CHAINS / max(found, 1) / RATE


def alarms_in_order(model: Limited, seen: Scored) -> int:
    """Count the alarms of one device that meets a stream once, as it is."""
    bank, before, found = Bank(model, 1), False, 0
    for row in range(len(seen.scores)):
        (alarmed,) = bank.update(seen[row : row + 1])
        found += bool(alarmed) and not before
        before = bool(alarmed)
    return found


def delays(model: Limited, source: Source, rng: np.random.Generator, runs: int) -> NDArray[np.int64]:
    """Return the comparisons from a rise of the mean to the alarm, of many devices that were quiet before."""
    bank = Bank(model, runs)
    found = np.full(runs, LONGEST)
    for step, seen in enumerate(_rows(source, rng, runs)):
        after = step - BURN_IN
        if after == LONGEST:
            break
        if after == 0:
            bank.states = [
                np.minimum(state, warning)
                for state, (warning, _) in zip(bank.states, model.limits, strict=True)
            ]
            bank.alarmed = [np.zeros(runs, bool) for _ in bank.alarmed]
        alarmed = bank.update(Scored(seen.scores + RISE * (after >= 0), seen.flips, seen.classes))
        if after >= 0:
            found = np.where(alarmed & (found == LONGEST), after + 1, found)
            if (found < LONGEST).all():
                break
    return found


def _rows(source: Source, rng: np.random.Generator, chains: int) -> Iterator[Scored]:
    # Block by block; the seams, one in 512 steps, cut what dependence there is.
    while True:
        block = source(rng, 512, chains)
        for row in range(512):
            yield block[row]


def measure(case: str, shipped: list[Drift], source: Source, alarms: int) -> Iterator[Row]:
    """Judge the limits that some calibrations of one model give, on one stream."""
    rng = np.random.default_rng(1)
    intervals, p95s, stated, within = [], [], [], []
    for null in shipped:
        model = limited(null, live_dependence(null, source, rng))
        intervals.append(false_alarm_interval(model, source, rng, alarms))
        taken = delays(model, source, rng, 1000)
        p95s.append(float(np.quantile(taken, 0.95)))
        stated.append(float(model.power.delay_samples_p95 or np.nan))
        within.append(100.0 * float((taken <= stated[-1]).mean()))
    yield Row(BENCH, case, "false_alarm_interval_days", float(np.median(intervals)), "days")
    if len(shipped) > 1:
        yield Row(BENCH, case, "false_alarm_interval_days_min", min(intervals), "days")
        yield Row(BENCH, case, "false_alarm_interval_days_max", max(intervals), "days")
        kept = 100.0 * float(np.mean(np.array(intervals) >= SETTING / 2))
        yield Row(BENCH, case, "calibrations_at_least_half_percent", kept, "%")
    yield Row(BENCH, case, "detection_delay_samples_p95", float(np.median(p95s)), "comparisons")
    yield Row(BENCH, case, "stated_delay_samples_p95", float(np.median(stated)), "comparisons")
    yield Row(BENCH, case, "found_within_stated_percent", float(np.median(within)), "%")


def shipped_by(seen: Scored) -> Drift:
    """Return what the exporter ships of calibration scores in their order."""
    floor = np.zeros(len(seen.scores))
    return drift_null(
        "gradient",
        {"pooled_cosine": seen.scores},
        {"pooled_cosine": floor},
        seen.flips.astype(np.float64),
        seen.classes,
    )


def calibrations(source: Source, size: int, draws: int) -> list[Drift]:
    """Return what would be shipped of so many calibrations of this size."""
    return [shipped_by(source(np.random.default_rng(100 + seed), size, 1)[:, 0]) for seed in range(draws)]


LAWS = {
    "beta_iid": synthetic(stats.beta(1.2, 18), 0.0),
    "beta_ar": synthetic(stats.beta(1.2, 18), 0.6),
    "gamma_iid": synthetic(stats.gamma(0.8, scale=0.04), 0.0),
    "gamma_ar": synthetic(stats.gamma(0.8, scale=0.04), 0.6),
    "narrow_ar": synthetic(stats.gamma(1.5, scale=0.005), 0.4),
}
"""Mean 0.06, 0.03 and 0.008; skewness 1.5, 2.2 and 1.6."""


def compared(path: Path, raw: NDArray[Any]) -> Scored:
    """Compare an exported model with the reference beside it, as the service's shadow does."""
    own, reference = (
        Model(Artifact.open(at), threads=1, observer=Observer())
        for at in (path, path.with_name(f"{path.name}-reference"))
    )
    parts = []
    for start in range(0, len(raw), 256):
        feed = {own.input_names[0]: own.prepare(raw[start : start + 256])}
        parts.append(compare(reference.explain_default, own.explain_default, feed))
    scores, flips = (
        np.concatenate([part.scores["pooled_cosine"] for part in parts]),
        np.concatenate([part.disagreement for part in parts]),
    )
    classes = np.concatenate([part.classes for part in parts if part.classes is not None])
    defined = np.isfinite(scores)
    return Scored(scores, flips, classes)[defined]


def unseen(recipe: Recipe) -> NDArray[Any]:
    """Return raw inputs that took no part in the export, in the order of their data set."""
    shape, resize = recipe.model.input_shape, recipe.data.preprocessing.resize
    if recipe.data.test is not None:
        return load_source(recipe.data.test, shape, resize).inputs
    data, settings = load_source(recipe.data.source, shape, resize), recipe.data
    parts = split(data, validation=settings.validation, calibration=settings.calibration, seed=recipe.seed)
    kept = {row.tobytes() for row in parts.validation.inputs}
    return data.inputs[[row.tobytes() in kept for row in data.inputs]]


def recipes(data: Path | None, *, quick: bool) -> Iterator[tuple[str, Recipe]]:
    """Yield the real pairs: digits always, what else lies in the data folder, with as much calibration as there is."""
    digits = load_recipe(DIGITS)
    found = [("digits", digits, 400)]
    for network, calibration in (("lenet_300_100", 5000), ("ecg_1d", 600)):
        if data is not None and (data / NETWORKS[network].file).is_file():
            task = Task(network, 0, data, quick)
            found.append((network, recipe_of("deep_compression_matched", task), calibration))
    for name, recipe, calibration in found:
        settings = recipe.data.model_copy(update={"calibration": calibration})
        yield f"{name}/ordered_n{calibration}", recipe.model_copy(update={"data": settings})


def run(data: Path | None, *, quick: bool) -> Iterator[Row]:
    """Measure synthetic streams for calibrations of three sizes, then real pairs."""
    alarms, sizes = (60, {1000: 2}) if quick else (100, {400: 12, 2000: 8, 20_000: 4})
    for name, source in LAWS.items():
        for size, draws in sizes.items():
            drawn = calibrations(source, size, draws)
            yield from measure(f"synthetic/{name}_n{size}", drawn, source, alarms)
    for case, recipe in recipes(data, quick=quick):
        with tempfile.TemporaryDirectory() as out:
            path = export(recipe, Path(out)).path
            shipped = Artifact.open(path).manifest.drift
            assert shipped is not None
            seen = compared(path, unseen(recipe))
            stream = continued(seen)
            yield Row(BENCH, case, "alarms_in_order", alarms_in_order(limited(shipped), seen), "alarms")
            yield from measure(case, [shipped], stream, alarms)
            for size, draws in sizes.items():
                network = case.split("/")[0]
                yield from measure(
                    f"{network}/drawn_n{size}", calibrations(stream, size, draws), stream, alarms
                )
