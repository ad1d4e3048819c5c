// What a job measures over what its run published: drawn from the server's figure, asked for again as numbers come.
import { Chart } from "./chart.js";
import { Heads } from "./heads.js";
import { whole } from "./numbers.js";

const PAUSE = 1500;

export class JobCurves {
  constructor(root) {
    this.url = root.dataset.figure;
    this.root = root;
    this.plot = root.querySelector(".plot");
    this.look = { smooth: 0, hidden: new Set(), muted: new Set() };
    this.chart = new Chart(root.querySelector(".panels"));
    this.heads = new Heads(root.querySelector(".heads"), root.querySelector(".key-of-runs"), {
      onFold: (name, alone) => this.toggle("hidden", name, alone ? this.chart.panels.map((panel) => panel.name) : null),
      onMute: (run, alone) => this.toggle("muted", run, alone ? [...new Set(this.chart.panels.flatMap((panel) => panel.curves.map((curve) => curve.run)))] : null),
    });
    this.cross = Object.assign(document.createElement("div"), { className: "cross", hidden: true });
    this.cross.append(document.createElement("span"));
    this.plot.append(this.cross);
    this.plot.addEventListener("pointermove", (event) => this.read(event));
    this.plot.addEventListener("pointerleave", () => this.leave());
    new ResizeObserver(() => this.chart.figure && this.heads.show(this.chart)).observe(this.plot);
    this.coming = null;
    this.wanted = false;
    this.draw();
  }

  /** Something was measured: the figure is asked for once more, not more often than it can be made and read. */
  renew() {
    this.wanted = true;
    if (!this.coming) this.coming = setTimeout(() => this.draw(), PAUSE);
  }

  async draw() {
    this.wanted = false;
    const begun = performance.now();
    try {
      // The address stays the same while its answer does not.
      this.chart.kept.clear();
      await this.chart.show(this.url, this.look, () => this.settle());
      const none = !this.chart.panels.length;
      this.say(none ? "Nothing is published of these steps, and nothing has been measured yet." : "");
    } catch (error) {
      this.say(`The numbers did not come: ${error.message}`);
    }
    this.plot.dataset.ready = "true";
    const pause = Math.max(PAUSE, 5 * (performance.now() - begun));
    this.coming = setTimeout(() => {
      this.coming = null;
      if (this.wanted) this.renew();
    }, pause);
  }

  say(text) {
    let note = this.plot.querySelector(".waiting");
    if (!text) return note?.remove();
    note ??= this.plot.appendChild(Object.assign(document.createElement("div"), { className: "waiting" }));
    note.textContent = text;
  }

  settle() {
    if (this.chart.panels.length) this.say("");
    this.heads.show(this.chart);
  }

  toggle(list, name, all) {
    const set = this.look[list];
    if (all) {
      set.clear();
      for (const other of all) if (other !== name) set.add(other);
    } else if (!set.delete(name)) set.add(name);
    this.chart.restyle(this.url, this.look, () => this.settle());
  }

  read(event) {
    if (!this.chart.range || !this.chart.panels.length) return;
    const left = event.clientX - this.plot.getBoundingClientRect().left;
    const step = Math.round(this.chart.stepAt(left));
    const x = this.chart.xOf(step);
    const { l, r } = this.chart.margin;
    if (x < l - 1 || x > this.plot.clientWidth - r + 1) return this.leave();
    this.cross.hidden = false;
    this.cross.style.left = `${x}px`;
    this.cross.classList.toggle("flip", x > this.plot.clientWidth - 120);
    this.cross.firstChild.textContent = `step ${whole(step)}`;
    this.heads.read(step);
  }

  leave() {
    this.cross.hidden = true;
    if (this.chart.figure) this.heads.read(null);
  }
}
