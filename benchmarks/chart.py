"""Draw the ratios to asyncpg, case by case, for light and dark pages."""

from html import escape

from race import Lanes

DRAWN = ("hit", "miss", "cold storm", "hot storm", "spread", "1,000 keys")
OURS = ("async_goc", "GetOrCreator")
_LABEL, _COLUMN, _BAR, _ROW, _TOP = 190, 116, 66, 24, 62

_STYLE = """
  text { font: 13px system-ui, sans-serif; fill: #1f2328 }
  .head { font-weight: 600 } .quiet { fill: #59636e }
  .other { fill: #afb8c1 } .ours { fill: #0969da }
  @media (prefers-color-scheme: dark) {
    text { fill: #f0f6fc } .quiet { fill: #9198a1 }
    .other { fill: #656c76 } .ours { fill: #4493f8 }
  }
"""


def draw(results: dict[str, Lanes], base: str) -> str:
    """Return the SVG; *base* is whom the others are compared with."""
    titles = [title for title in results["miss"] if title != base]
    width, height = _LABEL + _COLUMN * len(DRAWN), _TOP + _ROW * (len(titles) + 1)
    area = f'width="{width}" height="{height}" viewBox="0 0 {width} {height}"'
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" {area}>',
        f"<style>{_STYLE}</style>",
        _text(0, 16, f"Time per request, as a multiple of {base} alone", "head"),
        *(_text(0, _TOP + _ROW * row, title) for row, title in enumerate(titles)),
    ]
    for number, case in enumerate(DRAWN):
        parts += _column(_LABEL + _COLUMN * number, case, results[case], titles, base)
    note = "Shorter is better; bars are to scale within a column. * some calls raise"
    parts.append(_text(0, height - 8, note, "quiet"))
    return "\n".join([*parts, "</svg>"]) + "\n"


def _column(
    left: int, case: str, lanes: Lanes, titles: list[str], base: str
) -> list[str]:
    ratios = {title: lanes[title].ratio(lanes[base]) for title in titles}
    most = max(filter(None, ratios.values()), default=1.0)
    parts = [_text(left, 40, case, "head")]
    for row, (title, ratio) in enumerate(ratios.items()):
        top = _TOP + _ROW * row
        if ratio is None:
            parts.append(_text(left, top, "-", "quiet"))
            continue
        length = max(1.0, _BAR * ratio / most)
        place = f'x="{left}" y="{top - 11}" width="{length:.1f}"'
        kind = "ours" if title.startswith(OURS) else "other"
        mark = "*" if lanes[title].failed else ""
        parts += [
            f'<rect {place} height="14" rx="2" class="{kind}"/>',
            _text(left + length + 5, top, f"{_shown(ratio)}{mark}"),
        ]
    return parts


def _shown(ratio: float) -> str:
    return f"{ratio:.2f}" if ratio < 1 else f"{ratio:.1f}"


def _text(x: float, y: float, text: str, kind: str = "") -> str:
    style = f' class="{kind}"' if kind else ""
    return f'<text x="{x:.0f}" y="{y:.0f}"{style}>{escape(text)}</text>'
