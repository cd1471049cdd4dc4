"""Drawing of one picture, with matplotlib: the data on stdin, the file and the hash of the data as arguments."""

import json
import sys

import matplotlib as mpl

mpl.use("svg")
# The same data give the same file, and text stays text.
mpl.rcParams |= {"svg.hashsalt": "bench", "svg.fonttype": "none", "font.size": 9}

from matplotlib import pyplot as plt  # noqa: E402 - after its settings
from matplotlib.ticker import MaxNLocator  # noqa: E402


def main() -> None:
    """Draw the picture."""
    data = json.load(sys.stdin)
    figure, axes = plt.subplots(figsize=(6, 3.2), layout="constrained")
    for (label, points), marker in zip(data["lines"].items(), "os^Dv*", strict=False):
        axes.plot(*zip(*points, strict=True), marker=marker, markersize=4, label=label)
    axes.set(title=data["title"], xlabel=data["x"], ylabel=data["y"], xlim=(0, None), ylim=(0, None))
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.xaxis.set_major_formatter("{x:,.0f}")
    axes.yaxis.set_major_formatter("{x:,g}")
    axes.grid(alpha=0.3)
    axes.legend()
    figure.savefig(sys.argv[1], metadata={"Date": None, "Description": f"data {sys.argv[2]}"}, facecolor="white")


if __name__ == "__main__":
    main()
