"""Writes docs/images/terminal.svg: the output of generating, training and tuning, line by line.

The commands run as shown; only long outputs are shortened, and the pauses are not those of the
commands.
"""

import subprocess
import sys
import tempfile
from html import escape
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
TARGET = ROOT / "docs" / "images" / "terminal.svg"
WIDTH, ROWS, COLUMNS = 820, 22, 100
LINE, TOP, LEFT = 18, 44, 16
PAUSE, STEP = 1.4, 0.12  # seconds after a command and between lines
# What a reader types, what runs, and the lines to show: the first and the last ones.
COMMANDS = (
    (
        "uvx cookiecutter <address or folder of this repository>",
        [sys.executable, "-m", "cookiecutter", str(ROOT), "--no-input", "git=no"],
        (6, 0),
    ),
    (
        "cd my-project && uv sync && uv run train.py",
        [sys.executable, "train.py"],
        (6, 14),
    ),
    (
        "uv run train.py -m hydra.sweeper.n_trials=8",
        [sys.executable, "train.py", "-m", "hydra.sweeper.n_trials=8"],
        (8, 14),
    ),
)


def main() -> None:
    """Run the commands and write the file."""
    lines: list[tuple[float, str, bool]] = []
    now = 0.5
    with tempfile.TemporaryDirectory() as folder:
        for typed, command, (first, last) in COMMANDS:
            project = Path(folder, "my-project")
            cwd = project if project.is_dir() else Path(folder)
            done = subprocess.run(command, cwd=cwd, capture_output=True, text=True, check=True)
            lines.append((now, f"$ {typed}", True))
            now += PAUSE
            for line in shorten((done.stdout + done.stderr).splitlines(), first, last):
                # Temporary folders are of no interest.
                shown = line.replace(f"{project}/", "").replace(f"{folder}/", "")
                lines.append((now, shown[:COLUMNS], False))
                now += STEP
            now += PAUSE
    TARGET.write_text(draw(lines, now + 3), "utf-8")
    print(f"{TARGET.relative_to(ROOT)}: {TARGET.stat().st_size / 1000:.0f} kB")


def shorten(lines: list[str], first: int, last: int) -> list[str]:
    """The first and last lines of an output."""
    lines = [line.rstrip() for line in lines if line.strip()]
    if len(lines) <= first + last + 1:
        return lines
    return [*lines[:first], "...", *(lines[-last:] if last else [])]


def draw(lines: list[tuple[float, str, bool]], length: float) -> str:
    """The SVG: lines appear at their times, and the text scrolls when the window is full."""
    texts, moves = [], ["0% { transform: translateY(0) }"]
    for row, (time, text, is_command) in enumerate(lines):
        y = TOP + LINE * (row + 1)
        kind = "c" if is_command else "o"
        begin = f"animation-delay:{time:.2f}s"
        texts.append(
            f'<text class="{kind}" x="{LEFT}" y="{y}" style="{begin}">{escape(text)}</text>'
        )
        if row >= ROWS:
            share, shift = 100 * time / length, LINE * (row - ROWS + 1)
            moves.append(f"{share:.2f}% {{ transform: translateY(-{shift}px) }}")
    last = LINE * max(0, len(lines) - ROWS)
    moves.append(f"100% {{ transform: translateY(-{last}px) }}")
    height = TOP + LINE * (ROWS + 1)
    outer = f'viewBox="0 0 {WIDTH} {height}" width="{WIDTH}"'
    inner = f"{WIDTH} {height - TOP}"
    return f"""<svg xmlns="http://www.w3.org/2000/svg" {outer}>
<style>
text {{ font: 13px ui-monospace, SFMono-Regular, Menlo, Consolas, monospace; white-space: pre;
  opacity: 0; animation: show 0.01s forwards; }}
.c {{ fill: #7ee787; font-weight: bold; }}
.o {{ fill: #d0d7de; }}
g {{ animation: move {length:.2f}s step-end forwards; }}
@keyframes show {{ to {{ opacity: 1 }} }}
@keyframes move {{ {" ".join(moves)} }}
@media (prefers-reduced-motion) {{ text {{ opacity: 1; animation: none }} }}
</style>
<rect width="{WIDTH}" height="{height}" rx="8" fill="#0d1117"/>
<circle cx="20" cy="20" r="6" fill="#ff5f57"/><circle cx="40" cy="20" r="6" fill="#febc2e"/>
<circle cx="60" cy="20" r="6" fill="#28c840"/>
<svg y="{TOP - 4}" width="{WIDTH}" height="{height - TOP}" viewBox="0 {TOP - 4} {inner}">
<g>
{chr(10).join(texts)}
</g>
</svg>
</svg>
"""


if __name__ == "__main__":
    main()
