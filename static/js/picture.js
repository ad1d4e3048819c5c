// The chart as a picture: what is on the screen, with its title, units, axes and how it aggregates.
import { theme } from "./chart.js";
import { panelAggregation } from "./heads.js";

const TITLE = 46;
const AXIS_TITLES = { step: "step", tokens: "tokens read", chunk: "chunk, in the order of reading", checkpoint: "checkpoint, in order" };

/** Saves the chart of `run` as "svg" or "png" (twice the size of the screen). */
export async function savePicture(chart, run, kind) {
  const figure = picture(chart, run);
  const { width, height } = figure.layout;
  const source = await window.Plotly.toImage(figure, { format: "svg", width, height });
  const name = `${run.replaceAll("/", "_")}-${chart.figure.first}-${chart.figure.last}.${kind}`;
  const text = decodeURIComponent(source.slice(source.indexOf(",") + 1));
  save(kind === "svg" ? new Blob([text], { type: "image/svg+xml" }) : await painted(source, width, height), name);
}

function picture(chart, run) {
  const ink = theme();
  const base = chart.layout();
  const foot = base.margin.b + 26;
  const body = base.height - base.margin.b;
  const height = body + TITLE + foot;
  const { head } = chart.figure.sizes;
  const several = chart.figure.panels[0].curves.length > 1;
  const bold = (size) => ({ size, color: ink.text, weight: 600 });
  const notes = chart.panels.flatMap((panel) => {
    const place = { xref: "paper", yref: "paper", y: 1 - (panel.top + head - 4) / body, yanchor: "bottom", showarrow: false };
    const said = [panelAggregation(panel), chart.smoothing(), panel.folded ? "folded" : ""].filter(Boolean).join(" · ");
    return [
      { ...place, x: 0, xanchor: "left", text: plain(`${panel.name}  ${panel.unit}`), font: bold(12) },
      { ...place, x: 1, xanchor: "right", text: plain(said), font: { size: 10, color: ink.soft } },
    ];
  });
  const layout = {
    ...base,
    width: chart.node.clientWidth,
    height,
    margin: { ...base.margin, t: TITLE, b: foot },
    paper_bgcolor: ink.card,
    plot_bgcolor: ink.card,
    title: { text: plain(several ? `${run} and runs over it` : run), x: 0.01, xanchor: "left", y: 1 - 18 / height, font: bold(15) },
    annotations: notes,
    showlegend: several,
    legend: { orientation: "h", x: 1, xanchor: "right", y: 1 + (TITLE - 10) / body, yanchor: "top", font: { size: 11, color: ink.text } },
  };
  layout.xaxis = { ...layout.xaxis, title: { text: AXIS_TITLES[chart.figure.x], font: { size: 12 } } };
  // The key names each run once, with its own line.
  const named = new Set();
  const data = chart.traces().map((trace) => {
    const curve = chart.panels[trace.meta.panel].curves[trace.meta.curve];
    const first = trace.meta.role === "line" && !named.has(curve.run);
    if (first) named.add(curve.run);
    return { ...trace, name: first ? plain(curve.run) : trace.name, showlegend: first };
  });
  return { data, layout, config: { staticPlot: true } };
}

/** Plotly reads a little markup in texts; names are not meant to hold any. */
const plain = (text) => text.replaceAll("&", "&amp;").replaceAll("<", "&lt;").replaceAll(">", "&gt;");

async function painted(source, width, height) {
  const image = new Image();
  image.src = source;
  await image.decode();
  const canvas = Object.assign(document.createElement("canvas"), { width: width * 2, height: height * 2 });
  canvas.getContext("2d").drawImage(image, 0, 0, width * 2, height * 2);
  return new Promise((resolve) => canvas.toBlob(resolve, "image/png"));
}

function save(blob, name) {
  const link = Object.assign(document.createElement("a"), { href: URL.createObjectURL(blob), download: name });
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10_000);
}
