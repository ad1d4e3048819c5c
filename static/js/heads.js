// Title rows over the panels: what is drawn, how it aggregates, what it says at a step, folding; and the key of runs.
import { measured, whole } from "./numbers.js";

export class Heads {
  /** `onFold(name, alone)` and `onMute(run, alone)` hear a click, or with `alone` a double click. */
  constructor(node, key, { onFold, onMute }) {
    Object.assign(this, { node, key, onFold, onMute, rows: [] });
  }

  /** Rows for what the chart holds. Rows of the same panels stay, so that the second click of two finds its button. */
  show(chart) {
    this.chart = chart;
    if (this.rows.length !== chart.panels.length || this.rows.some((row, index) => row.name !== chart.panels[index].name)) this.build();
    chart.panels.forEach((panel, index) => {
      const row = this.rows[index];
      row.node.style.top = `${panel.top + 4}px`;
      row.dot.style.background = panel.curves.length > 1 ? "var(--faint)" : panel.curves[0].colour;
      row.unit.textContent = panel.unit;
      row.node.classList.toggle("folded", panel.folded);
      row.fold.setAttribute("aria-expanded", String(!panel.folded));
    });
    this.runs();
    this.read(null);
  }

  build() {
    this.rows = this.chart.panels.map((panel) => {
      const fold = button(`fold`, "Click folds this panel, double click (or s) folds all others");
      const dot = make("span", "dot");
      fold.append(dot, make("b", "", panel.name));
      const unit = make("span", "faint");
      const is = make("span", "is");
      const node = make("div");
      node.append(fold, unit, is);
      twice(fold, (alone) => this.onFold(panel.name, alone));
      return { name: panel.name, node, fold, dot, unit, is };
    });
    this.node.replaceChildren(...this.rows.map((row) => row.node));
  }

  /** The key: one button per run, where there are several. */
  runs() {
    const { panels, look } = this.chart;
    const curves = new Map(panels.flatMap((panel) => panel.curves.map((curve) => [curve.run, curve])));
    this.key.hidden = curves.size < 2;
    const names = [...curves.keys()];
    if (this.known?.join("\n") !== names.join("\n")) {
      this.known = names;
      this.key.replaceChildren(
        ...names.map((run) => {
          const one = button("run", "Click hides this run, double click (or s) hides all others");
          one.dataset.run = run;
          one.append(sample(curves.get(run)), make("span", "", run));
          twice(one, (alone) => this.onMute(run, alone));
          return one;
        }),
      );
    }
    for (const one of this.key.children) one.setAttribute("aria-pressed", String(!look.muted.has(one.dataset.run)));
  }

  /** What every panel says at a step, `exact` holding the numbers logged there; `null` brings back how it aggregates. */
  read(step, exact = null) {
    this.chart?.panels.forEach((panel, index) => {
      const { is } = this.rows[index];
      const said = step === null ? [this.aggregation(panel)] : this.readings(panel, step, exact?.panels[index]);
      is.replaceChildren(...said);
      is.title = step === null ? is.textContent : "";
    });
  }

  aggregation(panel) {
    return [panelAggregation(panel), this.chart.smoothing()].filter(Boolean).join(" · ");
  }

  readings(panel, step, exact) {
    const shown = panel.curves.filter((curve) => !this.chart.look.muted.has(curve.run));
    return shown.flatMap((curve, index) => {
      const at = Math.round(this.chart.stepOf(curve, step));
      const there = exact?.curves.find((one) => one.run === curve.run);
      const text = reading(curve, this.chart.bucketAt(curve, step), at, there, panel.curves.length > 1);
      if (panel.curves.length === 1) return [text];
      const dot = make("span", "dot");
      dot.style.background = curve.colour;
      return [...(index ? [make("span", "gap")] : []), dot, text];
    });
  }
}

/** How what a panel shows was aggregated, in words. */
export const panelAggregation = (panel) => (panel.curves.length > 1 ? several(panel) : aggregation(panel.curves[0]));

function aggregation(curve) {
  const parts = [`${whole(curve.points)} ${curve.points === 1 ? "point" : "points"}`];
  if (curve.points) parts.push(curve.raw ? "every point drawn" : `${whole(curve.buckets)} buckets · min–max shown`);
  if (curve.nan) parts.push(`${whole(curve.nan)} NaN`);
  if (curve.inf) parts.push(`${whole(curve.inf)} infinite`);
  if (curve.spikes) parts.push(`${whole(curve.spikes)} ${curve.spikes === 1 ? "spike" : "spikes"} marked`);
  if (curve.hidden) parts.push(`${whole(curve.hidden)} ≤ 0 cannot be drawn on a log axis`);
  return parts.join(" · ");
}

function several(panel) {
  const odd = panel.curves.reduce((sum, curve) => sum + curve.nan + curve.inf, 0);
  const buckets = panel.curves.some((curve) => !curve.raw) ? "buckets, min–max shown" : "every point drawn";
  return [`${panel.curves.map((curve) => whole(curve.points)).join(" + ")} points`, buckets, ...(odd ? [`${whole(odd)} not finite`] : [])].join(" · ");
}

function reading(curve, index, step, exact, brief) {
  const here = exact ? values(exact, step) : null;
  if (here) return brief || curve.raw ? `${here}${brief ? "" : ` at step ${whole(step)}`}` : `${here} at step ${whole(step)}${index < 0 ? "" : ` · around it ${around(curve, index)}`}`;
  if (index < 0) return exact ? `nothing logged at step ${whole(step)}` : "no value here";
  if (!curve.finite[index]) return `${curve.kinds[index] ?? "not finite"} at step ${whole(curve.first_step[index])}`;
  if (curve.raw) return `${measured(curve.mean[index])} at step ${whole(curve.first_step[index])}`;
  if (brief) return `mean ${measured(curve.mean[index])}`;
  return around(curve, index);
}

function around(curve, index) {
  if (!curve.finite[index]) return "no finite value";
  const odd = curve.nonfinite[index] ? ` · ${whole(curve.nonfinite[index])} not finite` : "";
  return (
    `mean ${measured(curve.mean[index])} · min ${measured(curve.min[index])} @ ${whole(curve.min_step[index])}` +
    ` · max ${measured(curve.max[index])} @ ${whole(curve.max_step[index])}${odd}`
  );
}

/** Every value logged at a step, as text; null where there is none. */
function values(exact, step) {
  const found = [];
  for (const [index, at] of exact.first_step.entries()) {
    if (at === step) found.push(exact.kinds[index] ?? measured(exact.mean[index]));
  }
  return found.length ? found.join(" and ") : null;
}

/** A click, and a double click or the key s; by keyboard too. */
function twice(node, hear) {
  node.addEventListener("click", () => hear(false));
  node.addEventListener("dblclick", (event) => {
    event.stopPropagation();
    hear(true);
  });
  node.addEventListener("keydown", (event) => {
    event.stopPropagation();
    if (event.key === "s") hear(true);
  });
  node.setAttribute("aria-keyshortcuts", "s");
}

const DASHES = { solid: "", dash: "5 3", dot: "1.5 3", dashdot: "5 3 1.5 3", longdash: "9 3", longdashdot: "9 3 1.5 3" };

function sample(curve) {
  const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
  const line = document.createElementNS("http://www.w3.org/2000/svg", "line");
  for (const [key, value] of Object.entries({ width: 26, height: 8, "aria-hidden": "true" })) svg.setAttribute(key, value);
  const dash = DASHES[curve.dash] ?? curve.dash.replaceAll("px", "");
  for (const [key, value] of Object.entries({ x1: 1, x2: 25, y1: 4, y2: 4, stroke: curve.colour, "stroke-width": 2.2, "stroke-dasharray": dash })) line.setAttribute(key, value);
  svg.append(line);
  return svg;
}

function button(kind, title) {
  return Object.assign(document.createElement("button"), { type: "button", className: kind, title });
}

function make(name, kind = "", text = "") {
  return Object.assign(document.createElement(name), { className: kind, textContent: text });
}
