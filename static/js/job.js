// A job's page: what it tells comes as Server-Sent Events, from the number the page was made at and after every cut.
import "./lists.js";
import { JobCurves } from "./jobcurves.js";
import { LogLines } from "./loglines.js";
import { say } from "./page.js";

const KINDS = ["state", "log", "metrics", "checkpoint", "note", "cancel", "verdict"];
const AGAIN = 3000;
const STATUS = 1000;
const NEAR = 40;

const root = document.getElementById("job");
const box = document.getElementById("log");
const line = document.getElementById("line");
const follow = document.getElementById("follow");
const curves = new JobCurves(document.getElementById("curves"));
const log = new LogLines(box, () => document.getElementById("earlier").removeAttribute("hidden"));

let told = Number(root.dataset.told);
let ended = Boolean(root.dataset.ended);
let source = null;
let refresh = 0;
let following = true;
let backlog = [];

/** Parts that the server draws are asked for again: often what moves, seldom what does not. */
function renew(turned) {
  if (turned) for (const id of ["standing", "actions", "facts"]) window.htmx?.trigger(`#${id}`, id === "standing" ? "told" : "turned");
  refresh ||= setTimeout(() => {
    refresh = 0;
    window.htmx?.trigger("#status", "told");
  }, turned ? 0 : STATUS);
}

function stand(text, kind = "") {
  line.textContent = text;
  line.className = `badge ${kind}`;
}

/** Pieces are written once a frame: a torrent of them must not stop the page. */
function write(piece) {
  backlog.push(piece);
  if (backlog.length > 1) return;
  requestAnimationFrame(flush);
  // Frames stop while nobody looks.
  setTimeout(flush, 250);
}

function flush() {
  if (!backlog.length) return;
  const pieces = backlog;
  backlog = [];
  document.getElementById("silent").hidden = true;
  for (const piece of pieces) log.append(piece);
  if (following) box.scrollTop = box.scrollHeight;
}

function hear(event) {
  // A number that was told before is a line that was cut and came back: nothing is shown twice.
  if (Number(event.lastEventId) < told) return;
  told = Number(event.lastEventId);
  const data = JSON.parse(event.data);
  if (event.type === "log") write(data);
  else if (event.type === "metrics") {
    curves.renew();
    renew(false);
  } else {
    renew(true);
    if (data.message) say(data.message);
  }
}

function connect() {
  if (ended || source) return;
  source = new EventSource(`${root.dataset.events}?after=${told}`);
  source.addEventListener("open", () => stand("live", "good"));
  for (const kind of KINDS) source.addEventListener(kind, hear);
  source.addEventListener("end", () => {
    ended = true;
    leave();
    stand("ended");
    renew(true);
    curves.renew();
  });
  source.addEventListener("error", () => {
    stand("connection lost, trying again …", "warn");
    // Where the browser has given up, somebody else has to go on.
    if (source?.readyState !== EventSource.CLOSED) return;
    leave();
    retry();
  });
}

/** A job that is hidden from this reader by now has a page that says so; everything else may come back. */
async function retry() {
  try {
    const answer = await fetch(root.dataset.events.replace(/\/events$/, ""), { cache: "no-store" });
    if (answer.status === 401 || answer.status === 404) return location.reload();
  } catch {
    /* Nothing answers. */
  }
  setTimeout(connect, AGAIN);
}

function leave() {
  source?.close();
  source = null;
}

function setFollowing(on) {
  following = on;
  follow.setAttribute("aria-pressed", String(on));
  if (on) box.scrollTop = box.scrollHeight;
}

follow.hidden = false;
follow.addEventListener("click", () => setFollowing(!following));
// Whoever scrolls up reads: the log stands still until its end is reached again.
box.addEventListener("scroll", () => {
  const near = box.scrollHeight - box.scrollTop - box.clientHeight < NEAR;
  if (near !== following) setFollowing(near);
});
box.scrollTop = box.scrollHeight;

// A browser holds six lines to one server: pages nobody looks at give theirs back, and go on where they were.
document.addEventListener("visibilitychange", () => {
  if (document.hidden) {
    leave();
    if (!ended) stand("paused while hidden");
  } else connect();
});
addEventListener("pagehide", leave);
addEventListener("pageshow", connect);
connect();
