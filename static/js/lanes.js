// Stages, data, checkpoints and events as SVG on the same x axis as the panels above them.
import { whole } from "./numbers.js";

const SVG = "http://www.w3.org/2000/svg";
const HEIGHT = 22;
const PAD = 4;
// Drawn from where the mark stands.
const SHAPES = {
  nan_loss: "m-5 4h10l-5 -9z", spike: "m0 -5.5l4.5 5.5l-4.5 5.5l-4.5 -5.5z", restart: "m-4 -4l8 4l-8 4z", rollback: "m4 -4l-8 4l8 4z",
  chunk_skipped: "m-4 -4l8 8m0 -8l-8 8", precision_change: "m-4 -4h8v8h-8z", stage_change: "m0 -6v12",
};
const STROKED = new Set(["chunk_skipped", "stage_change"]);
const BAD = new Set(["nan_loss", "inf_loss"]);
const WARN = new Set(["spike", "restart", "rollback", "chunk_skipped"]);

export class Lanes {
  constructor(node, lanes) {
    Object.assign(this, { node, lanes, marks: [] });
  }

  /** Redraws for a chart's range; marks that fall on one pixel become one that says how many. */
  draw(scale, kind = "step") {
    // Before the first layout there is no width to draw on; the resize that follows draws.
    if (scale.width <= 0) return;
    const drawn = [scale.left, scale.width, scale.from, scale.to, kind].join(" ");
    if (drawn === this.drawn) return;
    this.drawn = drawn;
    this.scale = scale;
    this.marks = [];
    const names = ["stages", "data", "checkpoints", "events"].filter((name) => this.lanes[name].length);
    const svg = make("svg", { height: names.length * HEIGHT + PAD, role: "img", "aria-label": this.summary() });
    const hatch = make("pattern", { id: "hatch", width: 5, height: 5, patternUnits: "userSpaceOnUse", patternTransform: "rotate(45)" });
    hatch.append(make("line", { x1: 0, y1: 0, x2: 0, y2: 5, stroke: "currentColor", "stroke-width": 1.4 }));
    const clip = make("clipPath", { id: "lane-clip" });
    clip.append(make("rect", { x: scale.left - 7, y: 0, width: scale.width + 14, height: names.length * HEIGHT + PAD }));
    svg.append(hatch, clip);
    names.forEach((name, index) => {
      const y = index * HEIGHT + HEIGHT / 2 + PAD / 2;
      const label = make("text", { x: scale.left - 8, y: y + 3.5, "text-anchor": "end", class: "name" });
      label.textContent = name;
      const lane = make("g", { "clip-path": "url(#lane-clip)" });
      lane.append(make("line", { x1: scale.left, x2: scale.left + scale.width, y1: y, y2: y, class: "rule" }));
      this.shapes = new Map();
      this.names = [];
      this[name](lane, y);
      for (const [look, path] of this.shapes) lane.append(make("path", { class: look, d: path }));
      lane.append(...this.names);
      svg.append(label, lane);
    });
    this.node.replaceChildren(svg);
  }

  summary() {
    const { stages, data, checkpoints, events } = this.lanes;
    return `Lanes: ${stages.length} stages, ${data.length} data spans, ${checkpoints.length} checkpoints, ${events.length} events. Tables of the same are linked above.`;
  }

  /** Thousands of marks that look alike are one shape: the page stays quick. */
  shape(look, path) {
    this.shapes.set(look, (this.shapes.get(look) ?? "") + path);
  }

  stages(lane, y) {
    for (const [index, [name, first, last]] of this.lanes.stages.entries()) {
      this.bar(lane, y, [first, last], index % 2 ? "bar alt" : "bar", name, `stage ${name}`);
    }
  }

  data(lane, y) {
    const { left, width, from, to } = this.scale;
    const seen = this.lanes.data.filter(([, first, last]) => last >= from && first <= to);
    const mixed = this.lanes.mixes.length > 1;
    let until = -1;
    let drawn = 0;
    for (const [name, first, last, flags, mix] of seen) {
      const end = this.scale.x(last + 1);
      // Bars thinner than a pixel would only repaint each other.
      if (end <= until && !flags) continue;
      const kind = flags & 1 ? "bar skipped" : drawn % 2 ? "bar alt" : "bar";
      if (mixed && mix >= 0 && !(flags & 1)) this.mixture(y, first, last, mix);
      else this.bar(lane, y, [first, last], kind, name, `data ${name}`);
      if (flags & 2) this.again(y, first, last);
      until = Math.max(until, end - 0.5);
      drawn += 1;
    }
    for (const [name, first, last, flags, mix] of seen) {
      const state = `${flags & 1 ? " · skipped" : ""}${flags & 2 ? " · read again" : ""}`;
      const start = Math.max(this.scale.x(first), left);
      this.mark(y, start, Math.min(this.scale.x(last + 1), left + width), null, () => `${name} · steps ${whole(first)}–${whole(last)}${state}${this.shares(mix)}`);
    }
  }

  /** A bar in the colours of its sources, their shares as heights. */
  mixture(y, first, last, mix) {
    const from = Math.max(this.scale.x(first), this.scale.left - 8);
    const to = Math.min(this.scale.x(last + 1), this.scale.left + this.scale.width + 8);
    const width = Math.max(to - from - (to - from > 4 ? 1 : 0), 1);
    const parts = this.lanes.mixes[mix];
    const total = parts.reduce((sum, [, share]) => sum + share, 0) || 1;
    let top = y - 6;
    for (const [source, share] of parts) {
      const height = (share / total) * 12;
      if (height < 0.4) continue;
      this.shape(source < 8 ? `m${source}` : "bar alt", box(from, top, width, height));
      top += height;
    }
  }

  /** A rule under what is read again. */
  again(y, first, last) {
    const from = Math.max(this.scale.x(first), this.scale.left - 8);
    const width = Math.max(Math.min(this.scale.x(last + 1), this.scale.left + this.scale.width + 8) - from, 1.5);
    this.shape("bar again", box(from, y + 7, width, 2.5));
  }

  shares(mix) {
    if (mix < 0) return "";
    const parts = this.lanes.mixes[mix];
    const total = parts.reduce((sum, [, share]) => sum + share, 0) || 1;
    const shown = parts.slice(0, 4).map(([source, share]) => `${this.lanes.sources[source].slice(0, 40)} ${Math.round((share / total) * 100)} %`);
    return ` · ${shown.join(", ")}${parts.length > 4 ? ` and ${parts.length - 4} more` : ""}`;
  }

  /** What an x axis calls the place of a step: the chunk being read, the checkpoint last passed. */
  nameAt(kind, step) {
    if (kind === "chunk") return this.lanes.data.findLast(([, first, last]) => first <= step && step <= last)?.[0] ?? "";
    const passed = this.lanes.checkpoints.findLast(([at, , flags]) => at <= step && !(flags & 1));
    if (!passed) return "before the first checkpoint";
    return passed[0] === step ? passed[1] : `${passed[1]} + ${whole(step - passed[0])}`;
  }

  bar(lane, y, [first, last], kind, name, said) {
    const from = Math.max(this.scale.x(first), this.scale.left - 8);
    const to = Math.min(this.scale.x(last + 1), this.scale.left + this.scale.width + 8);
    if (to < this.scale.left || from > this.scale.left + this.scale.width) return;
    const width = Math.max(to - from - (to - from > 4 ? 1 : 0), 1);
    if (width > 8) lane.append(make("rect", { x: from, y: y - 6, width, height: 12, class: kind, rx: 2 }));
    else this.shape(kind, box(from, y - 6, width, 12));
    if (said.startsWith("stage")) this.mark(y, from, to, null, () => `${said} · steps ${whole(first)}–${whole(last)}`);
    const start = Math.max(from, this.scale.left);
    if (Math.min(to, this.scale.left + this.scale.width) - start > name.length * 6.4 + 12) {
      const text = make("text", { x: start + 6, y: y + 3.6, class: "inbar" });
      text.textContent = name;
      this.names.push(text);
    }
  }

  checkpoints(_lane, y) {
    const visible = this.lanes.checkpoints.filter(([step]) => this.inside(step));
    const room = this.scale.width / Math.max(visible.length, 1);
    const size = room > 9 ? 3.8 : room > 4 ? 2.6 : 1.6;
    this.spread(visible, Math.max(size * 1.1, 2)).forEach((group) => {
      const flags = group.reduce((all, [, , flag]) => all | flag, 0);
      const x = this.scale.x(group[0][0]);
      const kind = flags & 2 ? "c finding" : group.every(([, , flag]) => flag & 1) ? "c missing" : "c";
      const square = flags & 4 && size > 2;
      this.shape(kind, square ? box(x - size, y - size, size * 2, size * 2) : dot(x, y, size));
      const more = group.length > 1 ? ` and ${group.length - 1} more` : "";
      const [, , flag] = group[0];
      const state = `${flag & 1 ? " · missing" : ""}${flag & 2 ? " · has a finding" : ""}${flag & 4 ? " · with optimizer" : ""}`;
      this.mark(y, x - 4, x + 4, group[0][0], () => `${group[0][1]} · step ${whole(group[0][0])}${state}${more}`);
    });
  }

  events(_lane, y) {
    const visible = this.lanes.events.filter(([first, last]) => this.inside(first) || this.inside(last) || (first < this.scale.from && last > this.scale.to));
    const spans = visible.filter(([first, last]) => this.scale.x(last + 1) - this.scale.x(first) > 6);
    for (const [first, last, kind] of spans) {
      const from = Math.max(this.scale.x(first), this.scale.left - 2);
      const to = Math.min(this.scale.x(last + 1), this.scale.left + this.scale.width + 2);
      this.shape(`e ${tone(kind)}`, box(from, y + 5.5, to - from, 2.5));
    }
    this.spread(visible, 7).forEach((group) => {
      const [step, , kind, note] = group.find(([, , one]) => BAD.has(one)) ?? group.find(([, , one]) => WARN.has(one)) ?? group[0];
      const x = Math.max(this.scale.x(step), this.scale.left);
      this.shape(`e ${tone(kind)}${STROKED.has(kind) ? " stroked" : ""}`, `M${round(x)} ${y - 1}${SHAPES[kind] ?? "m-3 -3h6v6h-6z"}`);
      const more = group.length > 1 ? ` · ${group.length - 1} more here` : "";
      this.mark(y, x - 6, x + 6, step, () => `${kind.replaceAll("_", " ")} · step ${whole(step)}${note ? ` · ${note}` : ""}${more}`);
    });
  }

  inside(step) {
    return step >= this.scale.from && step <= this.scale.to;
  }

  /** Neighbours closer than `gap` pixels, together. */
  spread(marks, gap) {
    const groups = [];
    let end = -Infinity;
    for (const mark of marks) {
      const x = this.scale.x(mark[0]);
      if (x - end < gap && groups.length) groups.at(-1).push(mark);
      else {
        groups.push([mark]);
        end = x;
      }
    }
    return groups;
  }

  /** `said()` is asked only under the pointer. */
  mark(y, from, to, step, said) {
    this.marks.push({ y, from, to, step, said });
  }

  /** What lies under a position in this node: `{step, said}`; a mark's own step where it has one. */
  at(x, y) {
    const near = this.marks.filter((mark) => Math.abs(mark.y - y) <= HEIGHT / 2 && x >= mark.from && x < mark.to);
    const [mark] = near.sort((a, b) => (a.step === null) - (b.step === null) || Math.abs((a.from + a.to) / 2 - x) - Math.abs((b.from + b.to) / 2 - x));
    return mark && { step: mark.step, said: mark.said() };
  }
}

const round = (place) => Math.round(place * 10) / 10;
const box = (x, y, width, height) => `M${round(x)} ${round(y)}h${round(width)}v${round(height)}h${-round(width)}z`;
const dot = (x, y, r) => `M${round(x - r)} ${y}a${r} ${r} 0 1 0 ${2 * r} 0a${r} ${r} 0 1 0 ${-2 * r} 0z`;
const tone = (kind) => (BAD.has(kind) ? "bad" : WARN.has(kind) ? "warn" : "");

function make(name, attributes) {
  const node = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) node.setAttribute(key, value);
  return node;
}
