"""Draws the overview dashboard from a real Prometheus's data, into docs/use/dashboard.png: its
panels, where they are, with their titles, queries and colours. It is no Grafana, and draws
only what these panels need.

What is scraped is what monitoring/README.md has a newcomer run, for as many seconds as are
given (240), with a Redis that stands still for 10 of them."""

import io
import math
import pathlib
import subprocess
import sys
import tempfile
import time

import matplotlib

matplotlib.use("Agg")
from matplotlib import dates, pyplot, ticker
from PIL import Image

import harness
import monitoring

PICTURE = harness.ROOT / "docs" / "use" / "dashboard.png"
COLOURS = {"green": "#37872d", "orange": "#e0751a", "red": "#c4162a", "blue": "#1f60c4"}
ROW = 42  # Pixels of one row of Grafana's grid, which has 24 columns.
WIDTH, MARGIN = 1400, 8
LEGEND = 8  # Lines of a legend.


def named(metric: dict, legend: str) -> str:
    for label, value in metric.items():
        legend = legend.replace(f"{{{{{label}}}}}", value)
    return legend


def shown(value: float, unit: str) -> str:
    if math.isnan(value):
        return "no traffic"
    if unit == "percentunit":
        return f"{value:.1%}"
    if unit == "s":
        return f"{value * 1000:.3g} ms"
    return f"{value:.3g}{' req/s' if unit == 'reqps' else ' /s' if unit == 'ops' else ''}"


class Picture:
    def __init__(self, panels: list, prometheus, begin: float, end: float):
        self.prometheus, self.begin, self.end = prometheus, begin, end
        self.rows = max(panel["gridPos"]["y"] + panel["gridPos"]["h"] for panel in panels)
        self.figure = pyplot.figure(figsize=(WIDTH / 100, self.rows * ROW / 100), dpi=100)
        self.figure.set_facecolor("#f0f1f3")
        for panel in panels:
            draw = {"stat": self.stat, "timeseries": self.graph, "table": self.table}[panel["type"]]
            draw(panel, self.axes(panel), panel["fieldConfig"]["defaults"]["unit"])

    def axes(self, panel: dict, inner=(0, 0, 0, 0)):
        """A panel's place, less pixels on the left, right, top and bottom."""
        grid, (left, right, top, bottom) = panel["gridPos"], inner
        height = self.rows * ROW
        x, y = grid["x"] * WIDTH / 24 + MARGIN / 2 + left, grid["y"] * ROW + MARGIN / 2 + top
        w = grid["w"] * WIDTH / 24 - MARGIN - left - right
        h = grid["h"] * ROW - MARGIN - top - bottom
        axes = self.figure.add_axes([x / WIDTH, 1 - (y + h) / height, w / WIDTH, h / height])
        for spine in axes.spines.values():
            spine.set_color("#d5d8dc")
        if inner == (0, 0, 0, 0):
            axes.set(xticks=[], yticks=[])
            axes.text(8 / w, 1 - 8 / h, panel["title"], va="top", fontsize=9, fontweight="bold")
        return axes

    def now(self, target: dict) -> list:
        return self.prometheus.ask("query", query=monitoring.as_grafana_asks(target["expr"]),
                                   time=self.end)["result"]

    def stat(self, panel, axes, unit):
        values = [(named(one["metric"], target["legendFormat"]), float(one["value"][1]))
                  for target in panel["targets"] for one in self.now(target)]
        for number, (name, value) in enumerate(values):
            steps = panel["fieldConfig"]["defaults"]["thresholds"]["steps"]
            colour = [step["color"] for step in steps if step["value"] is None or value >= step["value"]][-1]
            x = (number + 0.5) / len(values)
            axes.text(x, 0.42, shown(value, unit), ha="center", va="center", fontsize=20,
                      color=COLOURS[colour])
            if panel["options"]["textMode"] == "value_and_name":
                axes.text(x, 0.12, name, ha="center", va="center", fontsize=9)

    def graph(self, panel, frame, unit):
        as_table = panel["options"]["legend"]["displayMode"] == "table"
        axes = self.axes(panel, (52, 190 if as_table else 14, 30, 28 if as_table else 48))
        fixed = {override["matcher"]["options"]: override["properties"][0]["value"]["fixedColor"]
                 for override in panel["fieldConfig"]["overrides"]}
        lines = []
        for target in panel["targets"]:
            for one in self.prometheus.ask(
                    "query_range", query=monitoring.as_grafana_asks(target["expr"]), start=self.begin,
                    end=self.end, step=1)["result"]:
                times = [at / 86400 for at, _ in one["values"]]
                lines.append((named(one["metric"], target["legendFormat"]), times,
                              [float(value) for _, value in one["values"]]))
        lines.sort(key=lambda line: -line[2][-1] if as_table else 0)
        for name, times, values in lines:
            colour = COLOURS.get(fixed.get(name))
            (line,) = axes.plot(times, values, linewidth=1, color=colour, label=name)
            if len(lines) <= LEGEND:
                axes.fill_between(times, values, alpha=0.1, color=line.get_color())
            if as_table:
                line.set_label(f"{name}  {shown(values[-1], unit)}")
        axes.set_ylim(bottom=0, top=None if any(any(line[2]) for line in lines) else 1)
        axes.set_xlim(self.begin / 86400, self.end / 86400)
        axes.xaxis.set_major_formatter(dates.DateFormatter("%H:%M:%S"))
        axes.xaxis.set_major_locator(ticker.MaxNLocator(5))
        axes.yaxis.set_major_locator(ticker.MaxNLocator(4))
        axes.yaxis.set_major_formatter(lambda value, _: shown(value, unit))
        axes.tick_params(labelsize=7, color="#d5d8dc")
        axes.grid(color="#e8eaed", linewidth=0.6)
        handles, labels = axes.get_legend_handles_labels()
        place = ({"loc": "upper left", "bbox_to_anchor": (1.01, 1.05)} if as_table else
                 {"loc": "upper left", "bbox_to_anchor": (-0.04, -0.1), "ncol": LEGEND})
        axes.legend(handles[:LEGEND], labels[:LEGEND], fontsize=7.5, frameon=False, **place)

    def table(self, panel, frame, unit):
        (target,) = panel["targets"]
        hidden = panel["transformations"][0]["options"]["excludeByName"]
        series = sorted(self.now(target), key=lambda one: -float(one["value"][1]))[:9]
        columns = [label for label in series[0]["metric"] if label not in hidden]
        cells = [[one["metric"][label] for label in columns] + [shown(float(one["value"][1]), unit)]
                 for one in series]
        axes = self.axes(panel, (10, 10, 30, 8))
        axes.axis("off")
        table = axes.table(cells, colLabels=[*columns, "Value"], bbox=(0, 0, 1, 1), cellLoc="left",
                           colLoc="left", edges="open")
        table.auto_set_font_size(False)
        table.set_fontsize(8)

    def save(self, path: pathlib.Path):
        """Of 96 colours, with which it is a quarter of the size and looks the same."""
        drawn = io.BytesIO()
        self.figure.savefig(drawn)
        Image.open(drawn).convert("RGB").quantize(
            96, Image.Quantize.FASTOCTREE, dither=Image.Dither.NONE).save(path, optimize=True)


def main(seconds: int):
    with tempfile.TemporaryDirectory() as name:
        directory = pathlib.Path(name)
        (directory / "instances").mkdir()
        with monitoring.newcomers_instances(directory / "instances") as ports, monitoring.prometheus(
                directory, {"ratelimiter": [ports["2112"], ports["2113"]]}) as prometheus:
            time.sleep(seconds * 0.6)
            subprocess.run(["redis-cli", "-p", ports["6379"], "CLIENT", "PAUSE", "10000", "ALL"], check=True)
            time.sleep(seconds * 0.4)
            end = time.time()
            overview = monitoring.MONITORING / "grafana/dashboards/overview.json"
            Picture(monitoring.panels(overview), prometheus, end - seconds + 20, end).save(PICTURE)
    print(f"{PICTURE}: {PICTURE.stat().st_size} bytes")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 240)
