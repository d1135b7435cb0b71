"""The figure of `pareto` as SVG: similarity against bytes, and a quantizer beside its bound. Text, no library."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from xml.sax.saxutils import escape

WIDTH, HEIGHT, LEFT, TOP = 460, 340, 60, 40
COLUMNS, ACROSS, DOWN = 2, 540, 430
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9")
FONT = 'font-family="sans-serif" font-size="12"'
Scale = Callable[[float], float]


@dataclass(frozen=True)
class Point:
    """One compressed network: a mark of a panel."""

    method: str
    bytes: float
    cosine: float
    occlusion: float
    lossless: bool


@dataclass(frozen=True)
class Panel:
    """Compressed forms of one network on one kind of images, and what another training of it keeps."""

    title: str
    points: Sequence[Point]
    floor: float


@dataclass(frozen=True)
class Bound:
    """One quantization: relative distortion, bits per weight reached, and the least possible."""

    distortion: float
    bits: float
    least: float


def _axis(low: float, high: float, start: float, length: float, *, logarithmic: bool = False) -> Scale:
    def place(value: float) -> float:
        share = (
            (math.log(value) - math.log(low)) / (math.log(high) - math.log(low))
            if logarithmic
            else (value - low) / (high - low)
        )
        return start + length * share

    return place


def _text(x: float, y: float, words: str, anchor: str = "middle", extra: str = "") -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}"{extra}>{escape(words)}</text>'


def _frame(title: str, x_words: str, y_words: str) -> list[str]:
    middle = TOP + HEIGHT / 2
    turned = f' transform="rotate(-90 {LEFT - 44} {middle})"'
    return [
        f'<rect x="{LEFT}" y="{TOP}" width="{WIDTH}" height="{HEIGHT}" fill="none" stroke="#999"/>',
        _text(LEFT + WIDTH / 2, TOP - 14, title, extra=' font-weight="bold"'),
        _text(LEFT + WIDTH / 2, TOP + HEIGHT + 40, x_words),
        _text(LEFT - 44, middle, y_words, extra=turned),
    ]


def _ticks(x: Scale, y: Scale, across: Sequence[float], up: Sequence[float]) -> list[str]:
    bottom = TOP + HEIGHT
    marks = [_text(x(v), bottom + 18, f"{v:g}") for v in across]
    marks += [
        f'<line x1="{x(v):.1f}" x2="{x(v):.1f}" y1="{TOP}" y2="{bottom}" stroke="#eee"/>' for v in across
    ]
    marks += [_text(LEFT - 6, y(v) + 4, f"{v:g}", "end") for v in up]
    return marks + [
        f'<line x1="{LEFT}" x2="{LEFT + WIDTH}" y1="{y(v):.1f}" y2="{y(v):.1f}" stroke="#eee"/>' for v in up
    ]


def _similarity(panel: Panel, colours: Mapping[str, str]) -> list[str]:
    points, floor = panel.points, panel.floor
    kilobytes = [p.bytes / 1000 for p in points]
    x = _axis(min(kilobytes) * 0.85, max(kilobytes) * 1.18, LEFT, WIDTH, logarithmic=True)
    least = min(floor, *(min(p.cosine, p.occlusion) for p in points))
    y = _axis(math.floor(least * 20) / 20, 1.0, TOP + HEIGHT, -HEIGHT)
    across = [
        v
        for v in (5, 7, 10, 15, 20, 30, 40, 60, 100, 150)
        if min(kilobytes) * 0.85 < v < max(kilobytes) * 1.18
    ]
    up = [v / 20 for v in range(math.floor(least * 20), 21)]
    shapes = _frame(panel.title, "kB of weights.cwt (log)", "cosine to the reference's map")
    shapes += _ticks(x, y, across, up)
    shapes.append(
        f'<line x1="{LEFT}" x2="{LEFT + WIDTH}" y1="{y(floor):.1f}" y2="{y(floor):.1f}" stroke="#555" '
        'stroke-dasharray="6 4"/>'
    )
    for method, colour in colours.items():
        own = sorted((p for p in points if p.method == method), key=lambda p: p.bytes)
        line = " ".join(f"{x(p.bytes / 1000):.1f},{y(p.cosine):.1f}" for p in own)
        if len(own) > 1:
            shapes.append(f'<polyline points="{line}" fill="none" stroke="{colour}" stroke-width="1.5"/>')
        for p in own:
            fill = colour if p.lossless else "white"
            place = x(p.bytes / 1000)
            shapes.append(
                f'<circle cx="{place:.1f}" cy="{y(p.cosine):.1f}" r="5" fill="{fill}" stroke="{colour}"/>'
            )
            high = y(p.occlusion)
            shapes.append(
                f'<path d="M{place - 4:.1f} {high:.1f}h8M{place:.1f} {high - 4:.1f}v8" stroke="{colour}"/>'
            )
    return shapes


def _legend(colours: Mapping[str, str]) -> list[str]:
    """Say which colour is which method, and which mark is what; beside the panels, so that it hides none of theirs."""
    shapes: list[str] = []
    level = TOP + 20
    for method, colour in colours.items():
        shapes.append(f'<circle cx="{LEFT}" cy="{level - 4}" r="5" fill="{colour}"/>')
        shapes.append(_text(LEFT + 16, level, method.replace("_", " "), "start"))
        level += 22
    marks = (
        (f'<circle cx="{LEFT}" cy="{{}}" r="5" fill="#444"/>', "input x gradient"),
        (
            f'<circle cx="{LEFT}" cy="{{}}" r="5" fill="white" stroke="#444"/>',
            "the same, over 0.2 points of accuracy lost",
        ),
        (f'<path d="M{LEFT - 4} {{}}h8m-4 -4v8" stroke="#444"/>', "occlusion, which nothing was trained on"),
        (
            f'<path d="M{LEFT - 8} {{}}h16" stroke="#555" stroke-dasharray="6 4"/>',
            "input x gradient of a network retrained from another seed",
        ),
    )
    for mark, words in marks:
        level += 22
        shapes += [mark.format(level - 4), _text(LEFT + 16, level, words, "start")]
    return shapes


def _rate(bounds: Sequence[Bound]) -> list[str]:
    shown = [b for b in bounds if b.distortion > 0 and b.bits > 0.01]
    distortions = [b.distortion for b in shown]
    x = _axis(min(distortions) * 0.7, max(distortions) * 1.4, LEFT, WIDTH, logarithmic=True)
    top = math.ceil(max(b.bits for b in shown))
    y = _axis(0.0, top, TOP + HEIGHT, -HEIGHT)
    decades = [10.0**e for e in range(-9, 1) if min(distortions) * 0.7 < 10.0**e < max(distortions) * 1.4]
    shapes = _frame("Quantizer and bound", "distortion, 1 = all weights dropped (log)", "bits per weight")
    shapes += _ticks(x, y, decades, list(range(top + 1)))
    for values, colour, words, row in (
        ([(b.distortion, b.bits) for b in shown], COLOURS[0], "entropy constrained", 0),
        ([(b.distortion, b.least) for b in shown], "#555", "R(D), Gaussian weights, curvature known", 1),
    ):
        line = " ".join(f"{x(d):.1f},{y(r):.1f}" for d, r in sorted(values))
        shapes.append(f'<polyline points="{line}" fill="none" stroke="{colour}" stroke-width="1.5"/>')
        shapes += [f'<circle cx="{x(d):.1f}" cy="{y(r):.1f}" r="3" fill="{colour}"/>' for d, r in values]
        shapes.append(f'<circle cx="{LEFT + 175}" cy="{TOP + 18 + 18 * row}" r="4" fill="{colour}"/>')
        shapes.append(_text(LEFT + 187, TOP + 22 + 18 * row, words, "start"))
    return shapes


def figure(panels: Sequence[Panel], bounds: Sequence[Bound]) -> str:
    """Draw every panel, the quantizer beside its bound, and what the marks mean."""
    methods = dict.fromkeys(p.method for panel in panels for p in panel.points)
    colours = {method: COLOURS[number % len(COLOURS)] for number, method in enumerate(methods)}
    drawn = [*(_similarity(panel, colours) for panel in panels), _rate(bounds), _legend(colours)]
    width, height = COLUMNS * ACROSS + 20, -(-len(drawn) // COLUMNS) * DOWN + TOP
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" {FONT}>',
        '<rect width="100%" height="100%" fill="white"/>',
    ]
    for number, shapes in enumerate(drawn):
        row, column = divmod(number, COLUMNS)
        parts += [f'<g transform="translate({column * ACROSS} {row * DOWN})">', *shapes, "</g>"]
    return "\n".join([*parts, "</svg>"]) + "\n"
