// The crosshair through panels and lanes: where the pointer is, what every series says at that exact step.
import { short, whole } from "./numbers.js";

const REST = 70;

export class Cross {
  constructor(parts) {
    Object.assign(this, parts, { waiting: 0, at: null, exact: new Map() });
    this.moving = this.line("cross");
    this.chosen = this.line("cross chosen");
    this.plot.addEventListener("pointermove", (event) => this.move(event));
    this.plot.addEventListener("pointerleave", () => this.leave());
  }

  line(kind) {
    const node = Object.assign(document.createElement("div"), { className: kind, hidden: true });
    node.append(document.createElement("span"));
    this.plot.append(node);
    return node;
  }

  choose(step) {
    this.place(this.chosen, step, step === null ? "" : `step ${whole(step)}`);
  }

  place(node, step, text) {
    const s = this.scale();
    const x = step === null ? -1 : s.x(step);
    node.hidden = step === null || x < s.left - 1 || x > s.left + s.width + 1;
    if (node.hidden) return;
    node.style.left = `${x}px`;
    node.classList.toggle("flip", x > this.plot.clientWidth - 190);
    node.firstChild.textContent = text;
  }

  /** Where an event lies: pixels in the plot and in the panels, and the mark of a lane under it. */
  pointer(event) {
    const box = this.plot.getBoundingClientRect();
    const lanes = this.laneNode.getBoundingClientRect();
    const panels = this.plot.querySelector(".panels").getBoundingClientRect();
    const lane = this.lanes()?.at(event.clientX - lanes.left, event.clientY - lanes.top);
    return { x: event.clientX - box.left, y: event.clientY - panels.top, lane, inLanes: event.clientY >= lanes.top };
  }

  move(event) {
    if (event.buttons) return;
    const at = this.pointer(event);
    const s = this.scale();
    const outside = at.x < s.left || at.x > s.left + s.width || event.target.closest("button");
    this.said.textContent = at.lane?.said ?? "";
    this.read(outside ? null : (at.lane?.step ?? Math.round(s.step(at.x))));
  }

  leave() {
    this.said.textContent = "";
    this.read(null);
  }

  /** Puts the crosshair on a step and reads it: first from what is drawn, then, once it rests, the exact numbers. */
  async read(step) {
    clearTimeout(this.waiting);
    this.at = step;
    this.place(this.moving, step, step === null ? "" : this.label(step));
    this.heads?.read(step);
    if (step === null || !this.chart?.figure || this.chart.panels.every((panel) => panel.curves.every((curve) => curve.raw))) return;
    this.waiting = setTimeout(async () => {
      const exact = await this.chart.load(this.exactUrl(step), this.exact).catch(() => null);
      if (exact && this.at === step) this.heads.read(step, exact);
    }, REST);
  }

  /** The step, and what lies there in the words of the x axis. */
  label(step) {
    const kind = this.chart?.figure?.x ?? "step";
    if (kind === "tokens") return `${short(this.chart.toX(step))} tokens · step ${whole(step)}`;
    const name = kind === "step" ? "" : this.lanes()?.nameAt(kind, step);
    return `${name ? `${name} · ` : ""}step ${whole(step)}`;
  }
}
