// The panels: Plotly draws figures the server built; this module fetches them, themes them and reads them at a step.
import { lastAtMost, measured, unpack, whole } from "./numbers.js";

const BUCKETS = 1000;

export class Chart {
  /** `node` is drawn into, `heads` gets a title row per panel. `onZoom(first, last)` hears every drag. */
  constructor(node, heads, url, onZoom) {
    Object.assign(this, { node, heads, url, onZoom, panels: [], margin: null, range: null, asked: 0, kept: new Map() });
    document.addEventListener("portal:theme", () => this.margin && window.Plotly.relayout(node, this.colours()));
  }

  /**
   * Fetches and draws steps first to last; an answer overtaken by a later request is dropped.
   * `onScale` hears as soon as the margins and the range are known, before anything is drawn.
   */
  async show(first, last, onScale) {
    this.asked += 1;
    const mine = this.asked;
    const figure = await this.fetch(first, last);
    if (mine !== this.asked) return false;
    this.range = figure.layout.xaxis.range;
    this.margin = figure.layout.margin;
    this.panels = figure.panels.map((panel) => readable({ ...panel, ...panel.curves[0] }));
    this.node.style.minHeight = `${figure.layout.height}px`;
    this.title();
    onScale();
    await drawingLibrary();
    if (mine !== this.asked) return false;
    const config = { displayModeBar: false, responsive: true, doubleClick: false, showTips: false };
    await window.Plotly.react(this.node, figure.data, { ...figure.layout, ...this.nested() }, config);
    if (!this.listening) this.listen();
    return true;
  }

  async fetch(first, last) {
    // Appended, not set: the first request must be, to the letter, the one the page preloads.
    const url = `${this.url}${first === null ? "" : `&first=${first}`}${last === null ? "" : `&last=${last}`}&buckets=${BUCKETS}`;
    const known = this.kept.get(url);
    if (known) return JSON.parse(known);
    const answer = await fetch(url, { credentials: "same-origin" });
    if (!answer.ok) throw new Error((await answer.json().catch(() => ({}))).detail ?? `the server answered ${answer.status}`);
    // Kept as text: what is drawn is changed by drawing it.
    const text = await answer.text();
    this.kept.set(url, text);
    if (this.kept.size > 24) this.kept.delete(this.kept.keys().next().value);
    return JSON.parse(text);
  }

  listen() {
    this.listening = true;
    this.node.on("plotly_relayout", (change) => {
      const from = change["xaxis.range[0]"] ?? change["xaxis.range"]?.[0];
      const to = change["xaxis.range[1]"] ?? change["xaxis.range"]?.[1];
      if (from === undefined || to === undefined) return;
      this.range = [from, to];
      this.onZoom(Math.ceil(Math.min(from, to)), Math.floor(Math.max(from, to)));
    });
  }

  /** Step under a horizontal position, and the position of a step; pixels from the node's left edge. */
  stepAt(x) {
    const [from, to] = this.range;
    return from + ((x - this.margin.l) / this.width()) * (to - from);
  }

  xOf(step) {
    const [from, to] = this.range;
    return this.margin.l + ((step - from) / (to - from)) * this.width();
  }

  width() {
    return this.node.clientWidth - this.margin.l - this.margin.r;
  }

  /** The exact step meant by a click: an extreme or a non-finite value close by, else the step under the pointer. */
  meant(x, y) {
    const step = Math.round(this.stepAt(x));
    const panel = this.panels.findLast((one) => y >= one.top);
    if (!panel) return step;
    const index = this.bucketAt(panel, step);
    if (index < 0) return step;
    const axis = this.node._fullLayout[panel.axis];
    const middle = (panel.max[index] + panel.min[index]) / 2;
    const value = axis.p2d(y - axis._offset);
    // One pixel holds many steps: pointing at the upper half of the band means its highest step.
    return value >= middle ? panel.max_step[index] : panel.min_step[index];
  }

  /** Index of the bucket that covers a step or comes next to it, -1 where there is none. */
  bucketAt(panel, step) {
    if (!panel.first_step.length) return -1;
    const at = Math.max(lastAtMost(panel.first_step, step), 0);
    const next = Math.min(at + 1, panel.first_step.length - 1);
    const inside = step <= panel.last_step[at];
    const nearer = inside || step - panel.last_step[at] <= panel.first_step[next] - step ? at : next;
    return Math.abs(this.xOf(panel.first_step[nearer]) - this.xOf(step)) < 24 || inside ? nearer : -1;
  }

  /** Shows in every title row what the panel says at a step; `null` brings back how it aggregates. */
  read(step) {
    for (const panel of this.panels) panel.said.textContent = step === null ? aggregation(panel) : this.reading(panel, step);
  }

  reading(panel, step) {
    const index = this.bucketAt(panel, step);
    if (index < 0) return "no value here";
    const odd = panel.nonfinite[index] ? ` · ${whole(panel.nonfinite[index])} not finite` : "";
    if (!panel.finite[index]) return `step ${whole(panel.first_step[index])} · not finite`;
    if (panel.raw) return `${measured(panel.mean[index])} at step ${whole(panel.first_step[index])}`;
    return (
      `mean ${measured(panel.mean[index])} · min ${measured(panel.min[index])} @ ${whole(panel.min_step[index])}` +
      ` · max ${measured(panel.max[index])} @ ${whole(panel.max_step[index])}${odd}`
    );
  }

  title() {
    this.heads.replaceChildren(
      ...this.panels.map((panel, index) => {
        panel.axis = index ? `yaxis${index + 1}` : "yaxis";
        const row = document.createElement("div");
        row.style.top = `${panel.top + 4}px`;
        const dot = Object.assign(document.createElement("span"), { className: "dot" });
        dot.style.background = panel.colour;
        const name = Object.assign(document.createElement("b"), { textContent: panel.name });
        const unit = Object.assign(document.createElement("span"), { className: "faint", textContent: panel.unit });
        panel.said = Object.assign(document.createElement("span"), { className: "is", textContent: aggregation(panel) });
        row.append(dot, name, unit, panel.said);
        return row;
      }),
    );
  }

  /** Theme colours as nested layout (for react) … */
  nested() {
    const ink = theme();
    const layout = { font: { family: ink.font, size: 11, color: ink.soft } };
    const axes = ["xaxis", ...this.panels.map((_, index) => (index ? `yaxis${index + 1}` : "yaxis"))];
    return { ...layout, template: { layout: Object.fromEntries(axes.map((axis) => [axis, { gridcolor: ink.grid, linecolor: ink.line, tickcolor: ink.line }])) } };
  }

  /** … and as paths (for relayout). */
  colours() {
    const ink = theme();
    const paths = { "font.color": ink.soft };
    for (const axis of ["xaxis", ...this.panels.map((panel) => panel.axis)]) {
      paths[`${axis}.gridcolor`] = ink.grid;
      paths[`${axis}.linecolor`] = ink.line;
      paths[`${axis}.tickcolor`] = ink.line;
    }
    return paths;
  }
}

/** Plotly comes in a script of its own, later than this module: the data is fetched and read meanwhile. */
function drawingLibrary() {
  if (window.Plotly) return Promise.resolve();
  const script = document.querySelector("script[data-plotly]");
  return new Promise((resolve, reject) => {
    script.addEventListener("load", resolve);
    script.addEventListener("error", () => reject(new Error("the drawing library did not load")));
  });
}

function theme() {
  const style = getComputedStyle(document.documentElement);
  const read = (name) => style.getPropertyValue(name).trim();
  return { soft: read("--soft"), grid: read("--grid"), line: read("--strong-line"), font: read("--font") };
}

function readable(panel) {
  const arrays = Object.fromEntries(Object.entries(panel).filter(([, value]) => value?.bdata !== undefined).map(([name, value]) => [name, unpack(value)]));
  const own = { ...panel, ...arrays };
  // Raw answers carry each point once: it is its own bucket.
  if (panel.raw) Object.assign(own, { last_step: own.first_step, min_step: own.first_step, max_step: own.first_step });
  return own;
}

function aggregation(panel) {
  const parts = [`${whole(panel.points)} points`];
  parts.push(panel.raw ? "every point drawn" : `${whole(panel.buckets)} buckets · min–max shown`);
  if (panel.nan) parts.push(`${whole(panel.nan)} NaN`);
  if (panel.inf) parts.push(`${whole(panel.inf)} infinite`);
  if (panel.spikes) parts.push(`${whole(panel.spikes)} ${panel.spikes === 1 ? "spike" : "spikes"} marked`);
  if (panel.hidden) parts.push(`${whole(panel.hidden)} ≤ 0 cannot be drawn on a log axis`);
  return parts.join(" · ");
}
