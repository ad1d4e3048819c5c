// The largest spike of every drawn curve, as links: what somebody looks for first needs no searching.
import { measured, whole } from "./numbers.js";

const AROUND = 20;

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

/** Fills `node`; a press on one is heard by `onChoose(step)`. */
export function showLargest(node, chart, onChoose) {
  const found = largest(chart);
  const all = chart.figure.first <= 1 && chart.figure.last >= chart.figure.end;
  const told = found.length ? `Largest spike${found.length > 1 ? "s" : ""}${all ? "" : " in view"}` : `No spike stands out in ${all ? "what is drawn" : "this part"}.`;
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
