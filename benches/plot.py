"""Draws lines over a logarithmic axis as SVG, readable on a light and on a dark page."""
import math
from xml.sax.saxutils import escape

WIDTH, HEIGHT = 760, 400
LEFT, RIGHT, TOP, BOTTOM = 56, 186, 34, 48
COLOURS = ["#c2410c", "#2563eb", "#0f9d58", "#7c3aed"]
# Least distance between two labels at the lines' ends.
LABEL = 16

STYLE = """
text { font: 13px system-ui, sans-serif; fill: #333; }
.grid { stroke: #8884; stroke-width: 1; }
.axis { stroke: #888; stroke-width: 1; }
.line { fill: none; stroke-width: 2; stroke-linejoin: round; }
.below { fill: none; stroke: #888; stroke-width: 1.5; stroke-dasharray: 5 4; }
.faint { fill: #777; }
@media (prefers-color-scheme: dark) { text { fill: #ddd; } .faint { fill: #aaa; } }
"""


def steps(most):
    """Round values for an axis from 0 to `most`."""
    rough = most / 6
    unit = 10 ** math.floor(math.log10(rough))
    step = next(unit * factor for factor in (1, 2, 5, 10) if unit * factor >= rough)
    return [step * number for number in range(math.ceil(most / step) + 1)]


def short(number):
    """1,000,000: 1M."""
    for unit, letter in ((1_000_000, "M"), (1000, "k")):
        if number >= unit:
            return f"{number / unit:g}{letter}"
    return f"{number:g}"


def apart(wanted):
    """The heights for labels, moved as little as keeps them apart; in order of height."""
    placed = []
    for height in wanted:
        placed.append(max(height, placed[-1] + LABEL) if placed else height)
    return placed


def draw(y_title, x_title, lines, below):
    """The picture: {label: [(x, y)]}, `lines` in colours, `below` broken and grey."""
    both = {**lines, **below}
    points = [point for line in both.values() for point in line]
    low, high = min(x for x, _ in points), max(x for x, _ in points)
    marks = steps(max(y for _, y in points))
    # Of one point there is no line, but a picture.
    span = math.log(high / low) or 1

    def at_x(x):
        return LEFT + (WIDTH - LEFT - RIGHT) * math.log(x / low) / span

    def at_y(y):
        return HEIGHT - BOTTOM - (HEIGHT - TOP - BOTTOM) * y / marks[-1]

    out = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" width="{WIDTH}" height="{HEIGHT}" role="img">',
        f"<title>{escape(y_title)} over {escape(x_title)}</title>",
        f"<style>{STYLE}</style>",
        f'<text x="{LEFT - 44}" y="18">{escape(y_title)}</text>',
        f'<text x="{WIDTH - RIGHT}" y="{HEIGHT - 8}" text-anchor="end">{escape(x_title)}</text>',
    ]
    for mark in marks:
        y = at_y(mark)
        out.append(f'<line class="grid" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>')
        out.append(f'<text class="faint" x="{LEFT - 8}" y="{y + 4:.1f}" text-anchor="end">{mark:g}</text>')
    power = 10 ** math.ceil(math.log10(low))
    while power <= high:
        x = at_x(power)
        out.append(f'<line class="axis" x1="{x:.1f}" x2="{x:.1f}" y1="{HEIGHT - BOTTOM}" y2="{HEIGHT - BOTTOM + 5}"/>')
        out.append(f'<text class="faint" x="{x:.1f}" y="{HEIGHT - BOTTOM + 20}" text-anchor="middle">{short(power)}</text>')
        power *= 10
    if high < power and high != power // 10:
        out.append(f'<text class="faint" x="{at_x(high):.1f}" y="{HEIGHT - BOTTOM + 20}" text-anchor="middle">{short(high)}</text>')
    labels = []
    for number, (label, line) in enumerate(both.items()):
        colour = COLOURS[number % len(COLOURS)] if label in lines else None
        path = " ".join(f"{at_x(x):.1f},{at_y(y):.1f}" for x, y in line)
        kind = f'class="line" stroke="{colour}"' if colour else 'class="below"'
        out.append(f'<polyline {kind} points="{path}"/>')
        if colour:
            out += [f'<circle cx="{at_x(x):.1f}" cy="{at_y(y):.1f}" r="2.5" fill="{colour}"/>' for x, y in line]
        labels.append((at_y(line[-1][1]), label, colour))
    labels.sort()
    for height, (_, label, colour) in zip(apart([height for height, _, _ in labels]), labels):
        fill = f'style="fill: {colour}"' if colour else 'class="faint"'
        out.append(f'<text x="{WIDTH - RIGHT + 10}" y="{height + 4:.1f}" {fill}>{escape(label)}</text>')
    out.append("</svg>")
    return "\n".join(out) + "\n"
