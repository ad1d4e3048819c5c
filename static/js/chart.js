// The panels: Plotly draws figures the server built; this module fetches them, lays them out and knows their scale.
import { Axis, lastAtMost, unpack } from "./numbers.js";
import { halfLife, pace, smooth } from "./smooth.js";

const PATIENCE = 200;
const KINDS = ["NaN", "+∞", "−∞"];
const CONFIG = { displayModeBar: false, responsive: true, staticPlot: true };

export class Chart {
  /** `node` is drawn into. Every drawing needs a look: `{smooth, hidden, muted}` (a weight, names of panels, of runs). */
  constructor(node) {
    Object.assign(this, { node, panels: [], figure: null, axis: null, margin: null, range: null, asked: 0, kept: new Map() });
    document.addEventListener("portal:theme", () => this.figure && this.draw());
  }

  /**
   * Fetches and draws a figure; an answer overtaken by a later request is dropped, and answered with false.
   * `onScale` hears as soon as margins and range are known, before anything is drawn. Where the answer takes long,
   * `preview` (a range of x) is shown meanwhile, with the numbers that are there.
   */
  async show(url, look, onScale, preview = null) {
    this.asked += 1;
    const mine = this.asked;
    const waiting = preview && this.figure && setTimeout(() => this.peek(mine, preview, onScale), PATIENCE);
    try {
      const figure = await this.load(url);
      const whole = look.smooth && figure.panels.length ? await this.load(wholeOf(url)) : null;
      if (mine !== this.asked) return false;
      this.take(figure, look, whole);
      onScale();
      await drawingLibrary();
      if (mine !== this.asked) return false;
      await this.draw();
      return true;
    } finally {
      clearTimeout(waiting);
    }
  }

  /** A figure, from the last 24 asked for or from the server; `kept` lets others keep theirs apart. */
  async load(url, kept = this.kept) {
    const known = kept.get(url);
    if (known) return known;
    const figure = readable(await fetchFigure(url));
    kept.set(url, figure);
    if (kept.size > 24) kept.delete(kept.keys().next().value);
    return figure;
  }

  take(figure, look, whole) {
    Object.assign(this, { figure, look, whole, axis: figure.axis, panels: figure.panels, margin: figure.layout.margin, range: figure.layout.xaxis.range });
    this.arrange();
  }

  /** Draws the same numbers another way; `smooth` may need the whole run for its beginning. */
  async restyle(url, look, onScale) {
    if (!this.figure) return;
    const whole = look.smooth ? await this.load(wholeOf(url)) : null;
    this.take(this.figure, look, whole);
    onScale();
    await this.draw();
  }

  async peek(mine, range, onScale) {
    if (mine !== this.asked) return;
    this.range = range;
    onScale();
    await this.draw();
  }

  /** Panels from the top down; one that is folded keeps only its title row. */
  arrange() {
    const { head, body, gap } = this.figure.sizes;
    for (const panel of this.panels) panel.folded = this.look.hidden.has(panel.name);
    const last = this.panels.findLast((panel) => !panel.folded);
    let top = 0;
    for (const panel of this.panels) {
      panel.top = top;
      top += head + (panel.folded ? 0 : body) + gap;
      // The x axis stands under the last open panel; title rows of folded ones come below its numbers.
      if (panel === last && panel !== this.panels.at(-1)) top += this.margin.b - gap;
    }
    this.height = Math.max(top - gap, 0);
    this.node.style.minHeight = `${this.height + this.margin.b}px`;
  }

  draw() {
    return window.Plotly.react(this.node, this.traces(), this.layout(), CONFIG);
  }

  layout() {
    const { head, body } = this.figure.sizes;
    const ink = theme();
    const axis = { gridcolor: ink.grid, linecolor: ink.line, tickcolor: ink.line };
    const open = this.panels.filter((panel) => !panel.folded);
    const last = open.at(-1);
    const given = this.figure.layout;
    const ticks = ticksIn(this.width());
    // Between two steps there is nothing to name.
    const apart = this.range[1] - this.range[0] < ticks ? { dtick: 1 } : { nticks: ticks };
    const layout = { ...given, height: this.height + this.margin.b, font: { family: ink.font, size: 11, color: ink.soft } };
    layout.xaxis = { ...given.xaxis, ...axis, tickangle: 0, ...apart, range: [...this.range], anchor: last ? last.axis.replace("axis", "") : "y" };
    this.panels.forEach((panel) => {
      delete layout[panel.axis];
      if (panel.folded) return;
      const domain = [1 - (panel.top + head + body) / this.height, 1 - (panel.top + head) / this.height];
      layout[panel.axis] = { ...given[panel.axis], ...axis, domain: domain.map((end) => Math.min(Math.max(end, 0), 1)) };
    });
    if (!last) layout.yaxis = { visible: false };
    return layout;
  }

  traces() {
    const { muted, smooth: weight } = this.look;
    const shown = this.figure.data.filter((trace) => {
      const panel = this.panels[trace.meta.panel];
      return !panel.folded && !muted.has(panel.curves[trace.meta.curve].run);
    });
    if (!weight) return shown;
    return shown.flatMap((trace) => {
      if (trace.meta.role === "band") return [{ ...trace, opacity: 0.75 }];
      if (trace.meta.role !== "line") return [trace];
      const bold = { ...trace, mode: "lines", y: this.smoothed(trace.meta), line: { ...trace.line, width: 2 }, meta: { ...trace.meta, role: "smooth" } };
      return [{ ...trace, opacity: 0.35, line: { ...trace.line, width: 1 } }, bold];
    });
  }

  smoothed({ panel, curve }) {
    const before = this.whole?.panels.find((one) => one.name === this.panels[panel].name)?.curves[curve];
    return smooth(this.panels[panel].curves[curve], this.look.smooth, pace(this.figure.end), before);
  }

  /** In words, what the smoothed lines are. */
  smoothing() {
    if (!this.look?.smooth) return "";
    const steps = halfLife(this.look.smooth, pace(this.figure.end));
    return `smoothed ${this.look.smooth} (half weight after ${steps >= 10 ? Math.round(steps).toLocaleString("en-US") : steps.toFixed(1)} steps)`;
  }

  toX(step) {
    return this.axis ? this.axis.toX(step) : step;
  }

  toStep(x) {
    return this.axis ? this.axis.toStep(x) : x;
  }

  /** Step under a horizontal position, and the position of a step; pixels from the node's left edge. */
  stepAt(left) {
    const [from, to] = this.range;
    const x = from + ((left - this.margin.l) / this.width()) * (to - from);
    return this.toStep(x);
  }

  xOf(step) {
    const [from, to] = this.range;
    return this.margin.l + ((this.toX(step) - from) / (to - from)) * this.width();
  }

  width() {
    return this.node.clientWidth - this.margin.l - this.margin.r;
  }

  /** The exact step meant by a click: an extreme or a non-finite value close by, else the step under the pointer. */
  meant(left, y) {
    const step = Math.round(this.stepAt(left));
    const panel = this.panels.findLast((one) => y >= one.top);
    if (!panel || panel.folded || this.look.muted.has(panel.curves[0].run)) return step;
    const curve = panel.curves[0];
    const index = this.bucketAt(curve, step);
    if (index < 0) return step;
    if (!curve.finite[index]) return curve.first_step[index];
    const axis = this.node._fullLayout[panel.axis];
    const [high, low] = [axis.d2p(curve.max[index]), axis.d2p(curve.min[index])];
    // One pixel holds many steps: where they lie far apart, pointing at the upper half means the highest of them.
    return low - high > 24 && y - axis._offset < (high + low) / 2 ? curve.max_step[index] : step;
  }

  /** Index of the bucket of a curve that lies at a step of the run, or comes next to it on the screen; -1 where none does. */
  bucketAt(curve, step) {
    if (!curve.first_step.length) return -1;
    const own = this.stepOf(curve, step);
    const at = Math.max(lastAtMost(curve.first_step, own), 0);
    const next = Math.min(at + 1, curve.first_step.length - 1);
    const inside = own >= curve.first_step[at] && own <= curve.last_step[at];
    const nearer = inside || own - curve.last_step[at] <= curve.first_step[next] - own ? at : next;
    const there = curve.axis ? curve.axis.toX(curve.first_step[nearer]) : curve.first_step[nearer];
    const pixels = (Math.abs(there - this.toX(step)) / (this.range[1] - this.range[0])) * this.width();
    return inside || pixels < 24 ? nearer : -1;
  }

  /** The step of another run that lies at the same x as this step of the run itself. */
  stepOf(curve, step) {
    return curve.axis ? curve.axis.toStep(this.toX(step)) : step;
  }
}

/** What the server draws; its own words where it cannot. */
export async function fetchFigure(url) {
  const answer = await fetch(url, { credentials: "same-origin" });
  if (answer.ok) return answer.json();
  const told = await answer.json().catch(() => ({}));
  throw new Error([told.detail ?? `the server answered ${answer.status}.`, told.remedy].filter(Boolean).join(" "));
}

/** Plotly comes in a script of its own, later than this module: the data is fetched and read meanwhile. */
export function drawingLibrary() {
  if (window.Plotly) return Promise.resolve();
  const script = document.querySelector("script[data-plotly]");
  return new Promise((resolve, reject) => {
    script.addEventListener("load", resolve);
    script.addEventListener("error", () => reject(new Error("the drawing library did not load")));
  });
}

/** Numbers that stand beside each other under an axis of so many pixels, none tilted. */
export const ticksIn = (width) => Math.min(Math.max(Math.floor(width / 85), 3), 10);

export function theme() {
  const style = getComputedStyle(document.documentElement);
  const read = (name) => style.getPropertyValue(name).trim();
  return { text: read("--text"), soft: read("--soft"), grid: read("--grid"), line: read("--strong-line"), font: read("--font"), card: read("--card") };
}

/** The same figure over the whole run. */
function wholeOf(url) {
  const place = new URL(url, location.href);
  for (const key of ["first", "last"]) place.searchParams.delete(key);
  return `${place.pathname}${place.search}`;
}

/** Arrays unpacked once: what is drawn, and what the crosshair reads. */
function readable(figure) {
  const axes = new Map(Object.entries(figure.axes ?? {}).map(([run, axis]) => [run, new Axis(axis)]));
  for (const trace of figure.data) for (const key of ["x", "y"]) trace[key] = unpack(trace[key]);
  figure.panels.forEach((panel, index) => {
    panel.axis = index ? `yaxis${index + 1}` : "yaxis";
    for (const curve of panel.curves) {
      for (const [name, value] of Object.entries(curve)) if (value?.bdata !== undefined) curve[name] = unpack(value);
      // Raw answers carry each point once: it is its own bucket.
      if (curve.raw) Object.assign(curve, { last_step: curve.first_step, min_step: curve.first_step, max_step: curve.first_step });
      const special = curve.special?.values();
      curve.kinds = Array.from(curve.nonfinite, (odd) => (odd && special ? KINDS[special.next().value] : null));
      curve.axis = axes.get(curve.run) ?? null;
    }
  });
  // The first curve of every panel is the run's own.
  figure.axis = figure.panels[0]?.curves[0].axis ?? null;
  return figure;
}
