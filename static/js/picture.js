// The chart as a picture: what is on the screen, with its title, units, axes and how it aggregates.
import { theme } from "./chart.js";
import { aggregation } from "./heads.js";

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
  const height = base.height + TITLE + 26;
  const body = height - TITLE - base.margin.b - 26;
  const { head } = chart.figure.sizes;
  const notes = chart.panels.flatMap((panel) => {
    const y = 1 - (panel.top + head - 4) / body;
    const place = { xref: "paper", yref: "paper", y, yanchor: "bottom", showarrow: false };
    const runs = panel.curves.filter((curve) => !chart.look.muted.has(curve.run));
    const key = runs.length > 1 ? ` ${runs.map((curve) => `<span style="color:${curve.colour}">${plain(curve.run)} (${curve.dash})</span>`).join(" · ")}` : "";
    const said = [runs.length > 1 ? "" : aggregation(panel.curves[0]), chart.smoothing()].filter(Boolean).join(" · ");
    return [
      { ...place, x: 0, xanchor: "left", text: `<b>${plain(panel.name)}</b> ${plain(panel.unit)}${key}`, font: { size: 12, color: ink.text } },
      { ...place, x: 1, xanchor: "right", text: plain(said), font: { size: 10, color: ink.soft } },
    ];
  });
  const layout = {
    ...base,
    width: chart.node.clientWidth,
    height,
    margin: { ...base.margin, t: TITLE, b: base.margin.b + 26 },
    paper_bgcolor: ink.card,
    plot_bgcolor: ink.card,
    title: { text: `<b>${plain(run)}</b>`, x: 0.01, xanchor: "left", y: 1 - 18 / height, font: { size: 15, color: ink.text } },
    annotations: notes,
  };
  layout.xaxis = { ...layout.xaxis, title: { text: AXIS_TITLES[chart.figure.x], font: { size: 12 } } };
  return { data: chart.traces(), layout, config: { staticPlot: true } };
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
