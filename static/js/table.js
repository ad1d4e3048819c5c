// The drawn numbers as a table: htmx brings the block of this same page that lists them.
export class Table {
  constructor(node) {
    this.node = node;
    document.addEventListener("click", (event) => {
      const link = event.target.closest("a[data-table], #numbers a[href^='/runs/']:not([download])");
      if (!link || event.ctrlKey || event.metaKey || event.shiftKey) return;
      event.preventDefault();
      const url = new URL(link.href);
      history.pushState(history.state, "", `${url.pathname}${url.search}`);
      this.follow(true);
    });
  }

  /** Shows the table the address names, hides it where it names none. */
  async follow(go = false) {
    const wanted = new URL(location.href).searchParams.has("table");
    this.node.hidden = !wanted;
    if (!wanted) return this.node.replaceChildren();
    await window.htmx.ajax("GET", `${location.pathname}${location.search}`, { target: this.node, swap: "innerHTML" });
    if (go) this.node.scrollIntoView({ block: "nearest" });
  }

  /** The same table for another view of the run. */
  async renew(buckets) {
    const url = new URL(location.href);
    if (!url.searchParams.has("table")) return;
    url.searchParams.set("buckets", buckets);
    history.replaceState(history.state, "", url);
    await this.follow();
  }
}
