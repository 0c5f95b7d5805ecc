"""Makes the pictures of README: ``python docs/pictures.py RUN`` writes docs/report.png and docs/table.png.

It needs Chromium (and playwright) for the first, pdflatex and pdftoppm for the second.
"""

import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
from PIL import Image
from playwright.sync_api import sync_playwright

HERE = Path(__file__).parent
PAGE = r"""\documentclass{article}
\usepackage[a4paper,margin=20mm]{geometry}
\usepackage{booktabs}
\pagestyle{empty}
\begin{document}
\input{table}
\end{document}
"""


def picture_of_report(run: Path) -> None:
    """Take a picture of the upper part of a run's report."""
    chromium = shutil.which("chromium") or shutil.which("google-chrome")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": 1280, "height": 980}, color_scheme="light")
        page.goto((run / "report" / "index.html").absolute().as_uri())
        page.screenshot(path=HERE / "report.png")
        browser.close()
    with Image.open(HERE / "report.png") as picture:  # a screen has few colours
        picture.convert("P", palette=Image.Palette.ADAPTIVE, colors=128).save(HERE / "report.png", optimize=True)


def picture_of_table(run: Path) -> None:
    """Set the first LaTeX table of a run and cut it out of its page."""
    with tempfile.TemporaryDirectory() as folder:
        shutil.copy(run / "report" / "table.tex", folder)
        (Path(folder) / "page.tex").write_text(PAGE)
        subprocess.run(["pdflatex", "-interaction=batchmode", "page.tex"], cwd=folder, check=True)
        subprocess.run(
            ["pdftoppm", "-png", "-gray", "-r", "110", "-l", "1", "page.pdf", "page"], cwd=folder, check=True
        )
        with Image.open(next(Path(folder).glob("page-*.png"))) as page:
            ink = np.argwhere(np.asarray(page.convert("L")) < 200)
            (top, left), (bottom, right) = ink.min(axis=0) - 12, ink.max(axis=0) + 12
            page.crop((left, top, right, bottom)).save(HERE / "table.png", optimize=True)


if __name__ == "__main__":
    picture_of_report(Path(sys.argv[1]))
    picture_of_table(Path(sys.argv[1]))
