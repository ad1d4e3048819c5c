"""Notices whatever a page runs, asks for or breaks that it should not, and what in its markup only waits to act."""

from __future__ import annotations

from dataclasses import dataclass, field
from urllib.parse import urlsplit

from playwright.sync_api import BrowserContext, ConsoleMessage, Dialog, Frame, Page, Request, Response, Route

from tests.browser.payloads import TRAP

WATCH = """
Object.defineProperty(window, "hit", { set() { console.error("executed " + location.href); }, get() {} });
document.addEventListener("securitypolicyviolation", (event) =>
  console.error(`csp ${event.effectiveDirective} ${event.blockedURI} ${event.sample}`));
"""
"""Runs in every frame before anything else; a payload that runs sets `window.hit`."""

STRUCTURE = """
(html) => {
  const page = html === null ? document : new DOMParser().parseFromString(html, "text/html");
  const faults = [];
  const say = (node, what) => faults.push(`${what}: ${node.outerHTML.slice(0, 160)}`);
  const foreign = "iframe object embed base frame frameset applet marquee portal plaintext xmp math audio video isindex template img picture source animate set foreignObject use feImage";
  for (const node of page.querySelectorAll(foreign.split(" ").join(","))) say(node, "element");
  for (const node of page.querySelectorAll("script"))
    if (!new URL(node.src || "x:", location.href).pathname.startsWith("/static/") && node.type !== "application/json") say(node, "script");
  for (const node of page.querySelectorAll("style")) if (node.textContent && !node.id.startsWith("plotly")) say(node, "style");
  for (const node of page.querySelectorAll("meta[http-equiv], [autofocus], [srcdoc], [formaction], [ping], [background], [poster], [popovertarget], [hx-on], [data-hx-on]"))
    say(node, "attribute");
  for (const node of page.querySelectorAll("*")) {
    for (const { name, value } of node.attributes) {
      if (/^on|^(data-)?hx-on|^(ws|sse)-/.test(name)) say(node, `handler ${name}`);
      if (/^(data-)?hx-(get|post|put|delete|patch)$/.test(name) && (!value.startsWith("/") || value.startsWith("//") || value.startsWith("TRAP"))) say(node, name);
      if (/^(data-)?hx-(vals|headers)$/.test(name) && /^js:|^javascript:/.test(value)) say(node, name);
      if (["href", "src", "action", "data", "xlink:href"].includes(name)) {
        const to = new URL(value, location.href);
        if (!["http:", "https:"].includes(to.protocol)) say(node, `${name} ${to.protocol}`);
        if (node.localName !== "a" && to.origin !== location.origin) say(node, `${name} elsewhere`);
        if (to.origin === location.origin && to.pathname.startsWith("TRAP")) say(node, `${name} trap`);
      }
    }
  }
  for (const [what, most] of [["main", 1], ["title", 1], ["h1", 1], ["body", 1]])
    if (page.querySelectorAll(`html > head > ${what}, body ${what}:not(svg *)`).length > most) faults.push(`more than one ${what}`);
  const ids = [...page.querySelectorAll("[id]")].map((node) => node.id);
  for (const id of new Set(ids.filter((id, at) => ids.indexOf(id) !== at))) faults.push(`id ${id} twice`);
  return faults;
}
""".replace("TRAP", TRAP)


@dataclass
class Detector:
    """What happened in a browser context since it was attached. Nothing but ``origin`` is ever reached."""

    context: BrowserContext
    origin: str
    executions: list[str] = field(default_factory=list)
    dialogs: list[str] = field(default_factory=list)
    requests: list[str] = field(default_factory=list)
    """Asked for, and not of the portal, or not there."""
    reports: list[str] = field(default_factory=list)
    """Of the Content-Security-Policy."""
    others: list[str] = field(default_factory=list)
    """Errors of the page, new windows, downloads, frames, markup that waits to act."""

    def __post_init__(self) -> None:
        self.context.add_init_script(WATCH)
        self.context.route(lambda address: not address.startswith(self.origin), self._stop)
        self.context.on("request", self._note_request)
        self.context.on("response", self._note_response)
        self.context.on("dialog", self._note_dialog)
        self.context.on("page", self._watch)

    def audit(self, page: Page, answered: tuple[str, str] | None = None) -> None:
        """Note what the page's markup holds although it did not act yet; or that of an answer (address, HTML)."""
        address, html = answered or (page.url, None)
        self.others += [f"{address}: {fault}" for fault in page.evaluate(STRUCTURE, html)]

    def everything(self) -> list[str]:
        """All of it, one line each."""
        parts = {"executed": self.executions, "dialog": self.dialogs, "request": self.requests, "csp": self.reports}
        return [f"{name}: {one}" for name, found in parts.items() for one in found] + self.others

    def clear(self) -> None:
        """Forget what happened."""
        for found in (self.executions, self.dialogs, self.requests, self.reports, self.others):
            found.clear()

    def _watch(self, page: Page) -> None:
        if len(self.context.pages) > 1:
            self.others.append(f"a new window: {page.url}")
        page.on("console", self._note_console)
        page.on("pageerror", lambda error: self.others.append(f"{page.url}: page error {error}"))
        page.on("download", lambda download: self.others.append(f"{page.url}: downloads {download.url}"))
        page.on("frameattached", lambda frame: self.others.append(f"{page.url}: a frame {_name(frame)}"))

    def _note_console(self, message: ConsoleMessage) -> None:
        text = message.text
        if text.startswith("executed "):
            self.executions.append(text)
        elif text.startswith("csp ") or "Content Security Policy" in text:
            self.reports.append(text)
        elif message.type in ("error", "warning"):
            self.others.append(f"{message.location.get('url')}: {message.type}: {text}")

    def _note_dialog(self, dialog: Dialog) -> None:
        self.dialogs.append(dialog.message)
        dialog.dismiss()

    def _note_request(self, request: Request) -> None:
        if not request.url.startswith(f"{self.origin}/") or urlsplit(request.url).path.startswith(TRAP):
            self.requests.append(request.url)

    def _note_response(self, response: Response) -> None:
        if response.status >= 400:
            self.requests.append(f"{response.status} {response.url}")

    def _stop(self, route: Route) -> None:
        if route.request.url.startswith(("data:", "blob:")):
            route.continue_()
        else:
            route.abort()


def _name(frame: Frame) -> str:
    return frame.url or frame.name
