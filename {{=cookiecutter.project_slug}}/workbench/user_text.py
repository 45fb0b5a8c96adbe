"""Names chosen by users, shown literally: not as formulas or markup, in a font that has them."""

import logging
import unicodedata
from collections.abc import Sequence
from functools import cache

log = logging.getLogger(__name__)

# Emoji and some scripts are written with joiners.
JOINERS = "\u200c\u200d"
# The most names in a line of the log.
MOST_LISTED = 20


def one_line(text: str) -> str:
    """A text on one line: line breaks become spaces, other control characters escapes."""
    if text.isprintable():  # then no character is a control character or a line break
        return text.strip()
    return "".join(map(_visible, text)).strip()


def _visible(character: str) -> str:
    if character.isspace():
        return " "
    is_control = unicodedata.category(character) in ("Cc", "Cf", "Cs")
    if not is_control or character in JOINERS:
        return character
    return character.encode("unicode_escape").decode()


def listed(names: Sequence[str]) -> str:
    """Names separated by commas; if there are many, the first ones and the number of the others."""
    more = f" and {len(names) - MOST_LISTED} more" if len(names) > MOST_LISTED else ""
    return ", ".join(names[:MOST_LISTED]) + more


def shorten(name: str, longest: int = 16) -> str:
    """A name that fits below an axis, without its middle, because names often differ at the end."""
    if len(name) <= longest:
        return name
    front = longest // 2
    return f"{name[:front]}…{name[front + 1 - longest :]}"


def plot_label(text: str, instead: str, longest: int = 60) -> str:
    """A text as matplotlib draws it literally.

    Call it before creating the figure: it may add a font, which only later texts use.

    Args:
        text: any text.
        instead: shown if no font has the characters.
        longest: the most characters that fit.
    """
    return _plot_labels((text,), (instead,), longest)[0]


def plot_labels(names: Sequence[str], noun: str, longest: int = 16) -> list[str]:
    """Names as matplotlib draws them literally; see `plot_label`.

    A name that no font can draw is shown as "class 3", for the noun "class" and the fourth name.
    """
    numbered = tuple(f"{noun} {number}" for number in range(len(names)))
    return list(_plot_labels(tuple(names), numbered, longest))


@cache
def _plot_labels(names: tuple[str, ...], instead: tuple[str, ...], longest: int) -> tuple[str, ...]:
    """The labels; cached, so that the substitutes are logged once."""
    shown = [shorten(one_line(name), longest) for name in names]
    absent = missing_characters("".join(shown))
    is_absent = [not name.strip() or not absent.isdisjoint(name) for name in shown]
    pairs = [
        f"{substitute} is {name!r}"
        for substitute, name, no_font in zip(instead, names, is_absent, strict=True)
        if no_font
    ]
    if pairs:
        log.warning("no font of this machine can draw some names: in plots %s", listed(pairs))
    return tuple(
        # Text between two dollar signs would become a formula.
        (substitute if no_font else name).replace("$", r"\$")
        for substitute, name, no_font in zip(instead, shown, is_absent, strict=True)
    )


def missing_characters(text: str) -> set[str]:
    """The characters that no font has.

    A font with characters that matplotlib's own font lacks is added to `font.family`, in whose
    order matplotlib looks for each character.
    """
    import matplotlib as mpl
    from matplotlib.font_manager import FontProperties, findfont

    missing = set(text) - set(JOINERS)
    for family in mpl.rcParams["font.family"]:
        missing -= _drawn_by(findfont(FontProperties(family=[family])), missing)
    for family, path in _installed_fonts() if missing else ():
        drawn = _drawn_by(path, missing)
        if drawn:
            mpl.rcParams["font.family"] = [*mpl.rcParams["font.family"], family]
        missing -= drawn
    return missing


def _installed_fonts() -> list[tuple[str, str]]:
    """The most regular font of each family, as name and file."""
    from matplotlib.font_manager import fontManager

    regular_last = sorted(
        fontManager.ttflist, key=lambda e: (e.style == "normal", str(e.weight) in ("400", "normal"))
    )
    fonts = {entry.name: entry.fname for entry in regular_last}
    # Fonts of last resort have a box for every character.
    return sorted(font for font in fonts.items() if "last resort" not in font[0].lower())


def _drawn_by(path: str, characters: set[str]) -> set[str]:
    """The characters that a font can draw."""
    from matplotlib.font_manager import get_font

    try:
        font = get_font(path)
        font.set_size(12, 72)
        known = {c for c in characters if font.get_char_index(ord(c))}
        # matplotlib draws only outlines, which colored emoji do not have.
        return {c for c in known if c.isspace() or font.load_char(ord(c)).width > 0}
    except (OSError, RuntimeError, ValueError):
        return set()  # a broken font, or one of bitmaps
