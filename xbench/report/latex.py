"""Any text as LaTeX, Markdown or BibTeX that shows it and does nothing else."""

import itertools
import re
import unicodedata

_SPECIAL = {
    "\\": r"\textbackslash{}", "{": r"\textbraceleft{}", "}": r"\textbraceright{}", "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}", "<": r"\textless{}", ">": r"\textgreater{}", "|": r"\textbar{}", "`": r"\textasciigrave{}",
    "#": r"\#", "$": r"\$", "%": r"\%", "&": r"\&", "_": r"\_", '"': "''",
    "[": "{[}", "]": "{]}",  # behind a line's end a bracket would be its argument
}  # fmt: skip
_ACCENTS = {
    "\u0300": "`", "\u0301": "'", "\u0302": "^", "\u0303": "~", "\u0304": "=", "\u0306": "u", "\u0307": ".",
    "\u0308": '"', "\u030a": "r", "\u030b": "H", "\u030c": "v", "\u0327": "c", "\u0323": "d", "\u0331": "b",
}  # fmt: skip
_LETTERS = {
    "ß": r"\ss{}", "æ": r"\ae{}", "Æ": r"\AE{}", "œ": r"\oe{}", "Œ": r"\OE{}", "ø": r"\o{}", "Ø": r"\O{}", "ł": r"\l{}",
    "Ł": r"\L{}", "ı": r"\i{}", "å": r"\aa{}", "Å": r"\AA{}", "–": "--{}", "—": "---{}", "‘": "`{}", "’": "'{}",
    "“": "``{}", "”": "''{}", "…": r"\dots{}", "†": r"\dag{}", "‡": r"\ddag{}", "§": r"\S{}", "©": r"\copyright{}",
    "\u00a0": r"\nobreakspace{}",
    "±": r"\(\pm\)", "×": r"\(\times\)", "·": r"\(\cdot\)", "°": r"\(^\circ\)", "µ": r"\(\mu\)", "−": r"\(-\)",
    "≤": r"\(\leq\)", "≥": r"\(\geq\)", "→": r"\(\to\)", "↑": r"\(\uparrow\)", "↓": r"\(\downarrow\)",
    "α": r"\(\alpha\)", "β": r"\(\beta\)", "γ": r"\(\gamma\)", "δ": r"\(\delta\)", "ε": r"\(\varepsilon\)",
    "λ": r"\(\lambda\)", "μ": r"\(\mu\)", "σ": r"\(\sigma\)", "τ": r"\(\tau\)", "ω": r"\(\omega\)",
}  # fmt: skip


def escape(text: str, breaks: bool = False) -> str:
    """Return ASCII that typesets a text as it is written, in any LaTeX document and in any field of a BibTeX entry.

    Letters with accents and a few signs are typeset; of any other character its code point is shown, ``[U+65E5]``, for the
    fonts of a plain document have none. White space is one space. With ``breaks`` a line may end behind ``/ , [ =`` and ``_``.
    """
    text = re.sub(r"[ \t\r\n\f\v]+", " ", unicodedata.normalize("NFC", text)).strip(" ")
    return "".join(_shown(char, after, breaks) for char, after in itertools.zip_longest(text, text[1:], fillvalue=""))


def _shown(char: str, after: str, breaks: bool) -> str:
    shown = _SPECIAL.get(char) or (char if " " <= char <= "~" else _foreign(char))
    if char in "-',?!" and after and after in "-',`":
        return shown + "{}"  # two of them side by side would become another sign
    return shown + r"\allowbreak{}" if breaks and char in "/,[=_" else shown


def ascii_tex(source: str) -> str:
    """Return LaTeX or BibTeX source in ASCII: its own commands stay, every other letter is written as in `escape`."""
    return "".join(char if char in "\n\t" or " " <= char <= "~" else _foreign(char) for char in source)


def _foreign(char: str) -> str:
    if char in _LETTERS:
        return _LETTERS[char]
    parts = unicodedata.normalize("NFD", char)
    if len(parts) == 2 and parts[0].isascii() and parts[0].isalpha() and parts[1] in _ACCENTS:
        # Braces around it all: BibTeX then takes it for one letter when it sorts.
        return f"{{\\{_ACCENTS[parts[1]]}{{{parts[0]}}}}}"
    return f"{{[}}U+{ord(char):04X}{{]}}"


def _code(char: str) -> str:
    return f"[U+{ord(char):04X}]"


def drawable(text: str) -> str:
    """Return a text with what matplotlib's own font has no picture of as code points."""
    text = " ".join(text.split())
    return "".join(
        char if char.isprintable() and (char <= "\u024f" or char in _LETTERS) else _code(char) for char in text
    )


def markdown_text(text: str) -> str:
    """Return Markdown that shows a text as it is written, in a paragraph and in a cell of a table."""
    text = " ".join(text.split())
    escaped = re.sub(r"([\\`*{}\[\]<>#|~&$!])", r"\\\1", text)
    escaped = re.sub(r"(?<![A-Za-z0-9])_|_(?![A-Za-z0-9])", r"\\_", escaped)
    return "".join(char if char.isprintable() else f"\\[U+{ord(char):04X}\\]" for char in escaped)


def plain(source: str) -> str:
    """Return what a field of a BibTeX entry says, without its commands: accents are letters, braces are gone."""
    marks = {command: mark for mark, command in _ACCENTS.items()}
    letters = {
        value.rstrip("{}"): key for key, value in _LETTERS.items() if value.startswith("\\") and "(" not in value
    }

    def accented(found: re.Match[str]) -> str:
        return unicodedata.normalize("NFC", found[2] + marks[found[1]])

    source = re.sub(r"\\([`'^~=.\"])\s*\{?\\?([A-Za-z])\}?", accented, source)
    source = re.sub(r"\\([uvHrcdb])(?:\s+|\s*\{)([A-Za-z])\}?", accented, source)
    source = re.sub(r"\\[A-Za-z]+", lambda found: letters.get(found[0], ""), source)
    source = re.sub(r"\\([&%$#_ ])", r"\1", source)
    source = source.replace("{", "").replace("}", "").replace("``", "“").replace("''", "”").replace("---", "—")
    return " ".join(source.replace("--", "–").replace("~", " ").split())
