// The largest spike of every drawn curve, as links: what somebody looks for first needs no searching.
import { measured, whole } from "./numbers.js";

const AROUND = 20;
const BESIDE = 5;

/** Of each open panel's own curve the marked spike that rises furthest over what is usual around it: `{name, step, value}`. */
function largest(chart) {
  return chart.figure.data.flatMap((trace) => {
    const panel = chart.panels[trace.meta.panel];
    if (trace.meta.role !== "spike" || trace.meta.curve !== 0 || panel.folded) return [];
    const curve = panel.curves[0];
    let best = null;
    for (const [index, x] of trace.x.entries()) {
      const step = Math.round(curve.axis ? curve.axis.toStep(x) : x);
      const at = chart.bucketAt(curve, chart.toStep(x));
      const near = Array.from(curve.mean.slice(Math.max(at - AROUND, 0), at + AROUND + 1)).filter(Number.isFinite).sort((a, b) => a - b);
      const rise = trace.y[index] - (near[near.length >> 1] ?? 0);
      if (!best || rise > best.rise) best = { name: panel.name, step: at < 0 || curve.raw ? step : curve.max_step[at], value: trace.y[index], rise };
    }
    return best ? [best] : [];
  });
}

/** Where no spike is marked: of each open panel's own curve the place that rises furthest over both its sides, if any does. */
function furthest(chart) {
  return chart.panels.flatMap((panel) => {
    const curve = panel.curves[0];
    if (panel.folded || !curve) return [];
    const tops = Array.from(curve.max ?? curve.mean);
    // Of what lies between two points a part: the round corner of a schedule rises by a hair, and is no event.
    const least = 0.2 * middle(tops.slice(1).map((value, at) => Math.abs(value - tops[at])));
    let best = null;
    for (const [at, value] of tops.entries()) {
      const rise = value - Math.max(middle(tops.slice(Math.max(at - BESIDE, 0), at)), middle(tops.slice(at + 1, at + 1 + BESIDE)));
      if (rise > (best?.rise ?? least)) best = { name: panel.name, step: curve.max_step[at], value, rise };
    }
    return best ? [best] : [];
  });
}

/** The median of the finite ones; NaN, over which nothing rises, where there are none. */
function middle(values) {
  const finite = values.filter(Number.isFinite).sort((a, b) => a - b);
  return finite[finite.length >> 1] ?? NaN;
}

/** Fills `node`; a press on one is heard by `onChoose(step)`. */
export function showLargest(node, chart, onChoose) {
  const marked = largest(chart);
  const found = marked.length ? marked : furthest(chart);
  const all = chart.figure.first <= 1 && chart.figure.last >= chart.figure.end;
  const none = `No spike stands out in ${all ? "what is drawn" : "this part"}.${found.length ? " Furthest above its neighbours" : ""}`;
  const told = marked.length ? `Largest spike${found.length > 1 ? "s" : ""}${all ? "" : " in view"}` : none;
  node.replaceChildren(
    Object.assign(document.createElement("span"), { className: "soft", textContent: told }),
    ...found.map(({ name, step, value }) => {
      const place = new URL(location.href);
      place.searchParams.set("step", step);
      const link = Object.assign(document.createElement("a"), { className: "button", href: place.href });
      const said = Object.assign(document.createElement("span"), { className: "soft num", textContent: `${measured(value)} at step ${whole(step)}` });
      link.append(`${name} `, said);
      link.addEventListener("click", (event) => {
        if (event.ctrlKey || event.metaKey || event.shiftKey) return;
        event.preventDefault();
        onChoose(step);
      });
      return link;
    }),
  );
}
