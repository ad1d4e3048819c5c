// Sets the chosen theme before anything is painted; loaded in the head, not as a module, for that reason.
(() => {
  const root = document.documentElement;
  const read = () => {
    try {
      return localStorage.getItem("portal-theme");
    } catch {
      return null; // Storage may be switched off; the system's choice then holds.
    }
  };
  const chosen = read();
  if (chosen === "light" || chosen === "dark") root.dataset.theme = chosen;

  const isDark = () =>
    root.dataset.theme ? root.dataset.theme === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;

  document.addEventListener("click", (event) => {
    if (!event.target.closest("[data-theme-switch]")) return;
    root.dataset.theme = isDark() ? "light" : "dark";
    try {
      localStorage.setItem("portal-theme", root.dataset.theme);
    } catch {
      /* The switch then lasts for this page only. */
    }
    document.dispatchEvent(new CustomEvent("portal:theme"));
  });
  // Paper is always light, so a page being printed changes colours too.
  for (const medium of ["(prefers-color-scheme: dark)", "print"]) {
    matchMedia(medium).addEventListener("change", () => document.dispatchEvent(new CustomEvent("portal:theme")));
  }
})();
