// Keys: j and k along what the page lists, g and a letter to another page, / to search, ? for this list.
const help = document.getElementById("help");
const WAIT = 1500;
let going = 0;

const visible = (node) => node.getClientRects().length > 0;
const goals = () => [...document.querySelectorAll("[data-go]")].filter(visible);

function openHelp() {
  for (const line of help.querySelectorAll("[data-when]")) line.hidden = !document.querySelector(line.dataset.when);
  const tabs = help.querySelector("[data-tabs] dd");
  tabs.replaceChildren(
    ...goals().map((goal) => {
      const line = document.createElement("span");
      const key = Object.assign(document.createElement("kbd"), { textContent: goal.dataset.go });
      line.append(key, ` ${goal.firstChild.textContent.trim()}`);
      return line;
    }),
  );
  help.showModal();
}

/** What a page lists: the first link of every row of its first table, or what a search found. */
function listed() {
  const table = document.querySelector("main table");
  const rows = table ? [...table.querySelectorAll("tbody tr")].map((row) => row.querySelector("a[href]")) : [...document.querySelectorAll("main a.hit")];
  return rows.filter((link) => link && visible(link));
}

/** Next or previous: a link of the page that says so, else the rows of its list, and at their end the next page. */
function move(direction) {
  const rel = direction > 0 ? "next" : "prev";
  const own = [...document.querySelectorAll(`main a[rel~=${rel}]`)];
  const link = own.find((a) => !a.closest(".pager")) ?? null;
  if (link) return link.click();
  const rows = listed();
  const here = rows.findIndex((a) => (a.closest("tr") ?? a).contains(document.activeElement));
  const next = here < 0 ? (direction > 0 ? 0 : -1) : here + direction;
  if (rows[next]) rows[next].focus();
  else if (here >= 0) own.at(-1)?.click();
}

document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || help.open) return;
  if (event.target.closest("input:not([type=checkbox], [type=radio]), select, textarea")) return;
  const goal = Date.now() - going < WAIT ? goals().find((node) => node.dataset.go === event.key) : null;
  going = event.key === "g" ? Date.now() : 0;
  const actions = {
    j: () => move(1),
    k: () => move(-1),
    "/": () => document.getElementById("q").select(),
    "?": openHelp,
  };
  const action = goal ? () => goal.click() : actions[event.key];
  if (!action) return;
  event.preventDefault();
  action();
});
document.querySelector("[data-help]").addEventListener("click", openHelp);
// A press beside the dialog closes it, as people expect.
help.addEventListener("click", (event) => event.target === help && help.close());
