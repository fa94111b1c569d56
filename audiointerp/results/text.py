"""Tables as Markdown and as LaTeX."""

from __future__ import annotations

from collections.abc import Sequence

__all__ = ["escape_latex", "latex", "markdown", "shown_target"]


def markdown(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    r"""A Markdown table with a final line feed; bars within cells are escaped, line feeds become spaces.

    >>> print(markdown(["method", "a|b"], [["piq", "0.9"]]), end="")
    | method | a\|b |
    |---|---|
    | piq | 0.9 |
    """
    lines = [_line(columns), "|---" * len(columns) + "|", *map(_line, rows)]
    return "\n".join(lines) + "\n"


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(' '.join(str(cell).replace('|', chr(92) + '|').split()) for cell in cells)} |"


def latex(columns: Sequence[str], rows: Sequence[Sequence[str]], caption: str) -> str:
    """A LaTeX table (booktabs) with its caption; the first column is set left, the others right."""
    head = " & ".join(map(escape_latex, columns))
    body = "\n".join(" & ".join(map(escape_latex, row)) + r" \\" for row in rows)
    return (
        "\\begin{table}\n\\centering\n"
        f"\\caption{{{escape_latex(caption)}}}\n\\begin{{tabular}}{{l{'r' * (len(columns) - 1)}}}\n"
        f"\\toprule\n{head} \\\\\n\\midrule\n{body}\n\\bottomrule\n\\end{{tabular}}\n\\end{{table}}\n"
    )


def escape_latex(text: str) -> str:
    """Escapes LaTeX's special characters, so that the text is printed unchanged."""
    if text.startswith("$") and text.endswith("$"):
        return text  # mathematics
    for plain in "&%$#_{}":
        text = text.replace(plain, f"\\{plain}")
    return text


def shown_target(target: str) -> str:
    """A target of scores.csv, where labels explained together are separated by ";", as a person reads it.

    >>> shown_target("Dog;Bark")
    'Dog + Bark'
    """
    return target.replace(";", " + ")
