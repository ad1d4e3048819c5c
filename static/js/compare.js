// The comparison's curves: drawn from the server's figure, zoomed by asking it for finer data, read at the pointer.
import { drawingLibrary, fetchFigure, theme, ticksIn } from "./chart.js";
import { lastAtMost, measured, unpack, whole } from "./numbers.js";

const plot = document.getElementById("comparison");
const node = plot.querySelector(".panels");
const heads = plot.querySelector(".heads");
const reset = document.querySelector("[data-reset]");
const cross = Object.assign(document.createElement("div"), { className: "cross", hidden: true });
cross.append(document.createElement("span"));
plot.append(cross);

let view = viewOf(new URL(location.href));
let figure = null;
let lines = [];
let asked = 0;
let waiting = 0;

function viewOf(url) {
  const bound = (name) => (url.searchParams.has(name) ? Number(url.searchParams.get(name)) : null);
  return { low: bound("low"), high: bound("high") };
}

/** How a place on the axis is written. */
const place = (x) => (plot.dataset.x === "fraction" ? `${(x * 100).toFixed(2)} %` : plot.dataset.x === "tokens" ? `${measured(x / 1e9)} B tokens` : `step ${whole(x)}`);

function inked() {
  const ink = theme();
  const axis = { gridcolor: ink.grid, linecolor: ink.line, tickcolor: ink.line };
  const axes = ["xaxis", ...figure.panels.map((_, index) => (index ? `yaxis${index + 1}` : "yaxis"))];
  const width = node.clientWidth - figure.layout.margin.l - figure.layout.margin.r;
  const xaxis = { ...figure.layout.xaxis, tickangle: 0, nticks: ticksIn(width) };
  return { ...figure.layout, xaxis, font: { family: ink.font, size: 11, color: ink.soft }, template: { layout: Object.fromEntries(axes.map((name) => [name, axis])) } };
}

async function draw() {
  asked += 1;
  const mine = asked;
  plot.classList.add("busy");
  try {
    const window_ = ["low", "high"].map((name) => (view[name] === null ? "" : `&${name}=${view[name]}`)).join("");
    const found = await fetchFigure(plot.dataset.figure + window_);
    await drawingLibrary();
    if (mine !== asked) return;
    figure = found;
    plot.querySelector(".waiting")?.remove();
    title();
    await window.Plotly.react(node, figure.data, inked(), { displayModeBar: false, responsive: true, doubleClick: false, showTips: false });
    lines = figure.data.filter((trace) => trace.meta.role === "line").map((trace) => ({ ...trace.meta, x: array(trace.x), y: array(trace.y) }));
    if (!plot.dataset.ready) listen();
    plot.dataset.ready = "true";
    reset.hidden = view.low === null && view.high === null;
  } catch (error) {
    const note = plot.querySelector(".waiting") ?? plot.appendChild(Object.assign(document.createElement("div"), { className: "waiting" }));
    note.textContent = `The numbers did not come: ${error.message} Reload the page to try again.`;
  } finally {
    if (mine === asked) plot.classList.remove("busy");
  }
}

const array = (values) => (values.bdata === undefined ? values : unpack(values));

function title() {
  heads.replaceChildren(
    ...figure.panels.map((panel) => {
      const row = document.createElement("div");
      row.style.top = `${panel.top + 4}px`;
      const name = Object.assign(document.createElement("b"), { textContent: panel.name });
      const unit = Object.assign(document.createElement("span"), { className: "faint", textContent: panel.unit });
      panel.said = Object.assign(document.createElement("span"), { className: "is", textContent: counted(panel) });
      row.append(name, unit, panel.said);
      return row;
    }),
  );
}

/** How much is drawn, and what of it cannot be: nothing is left out silently. */
function counted(panel) {
  const sum = (name) => panel.curves.reduce((total, curve) => total + curve[name], 0);
  const parts = [`${whole(sum("points"))} points`, panel.curves.every((curve) => curve.raw) ? "every point drawn" : "min–max shown"];
  for (const [name, told] of [["nan", "NaN"], ["inf", "infinite"], ["spikes", sum("spikes") === 1 ? "spike marked" : "spikes marked"], ["hidden", "≤ 0 cannot be drawn on a log axis"]]) {
    if (sum(name)) parts.push(`${whole(sum(name))} ${told}`);
  }
  return parts.join(" · ");
}

function read(x) {
  figure.panels.forEach((panel, index) => {
    if (x === null) {
      panel.said.textContent = counted(panel);
      return;
    }
    const own = lines.filter((line) => line.panel === index);
    panel.said.replaceChildren(
      ...own.map((line) => {
        const at = lastAtMost(line.x, x);
        const said = Object.assign(document.createElement("span"), { className: "value", textContent: at < 0 || x > line.x.at(-1) ? "–" : measured(line.y[at]) });
        said.style.color = panel.curves[line.curve].colour;
        return said;
      }),
    );
  });
}

function zoom(low, high) {
  view = { low, high };
  const url = new URL(location.href);
  for (const name of ["low", "high"]) view[name] === null ? url.searchParams.delete(name) : url.searchParams.set(name, view[name]);
  history.replaceState(history.state, "", url);
  clearTimeout(waiting);
  waiting = setTimeout(draw, 120);
}

function listen() {
  node.on("plotly_relayout", (change) => {
    const low = change["xaxis.range[0]"];
    const high = change["xaxis.range[1]"];
    if (low !== undefined && high !== undefined) zoom(Math.max(Math.min(low, high), 0), Math.max(low, high));
  });
  plot.addEventListener("pointermove", (event) => {
    const box = plot.getBoundingClientRect();
    const axis = node._fullLayout.xaxis;
    const left = event.clientX - node.getBoundingClientRect().left - axis._offset;
    cross.hidden = event.buttons > 0 || left < 0 || left > axis._length;
    if (cross.hidden) return read(null);
    const x = axis.p2l(left);
    cross.style.left = `${event.clientX - box.left}px`;
    cross.classList.toggle("flip", event.clientX - box.left > box.width - 150);
    cross.firstChild.textContent = place(x);
    read(x);
  });
  plot.addEventListener("pointerleave", () => {
    cross.hidden = true;
    read(null);
  });
  plot.addEventListener("dblclick", () => zoom(null, null));
}

reset.addEventListener("click", () => zoom(null, null));
document.addEventListener("portal:theme", () => figure && window.Plotly.react(node, figure.data, inked(), { displayModeBar: false, responsive: true, doubleClick: false, showTips: false }));
draw();
