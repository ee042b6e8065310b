// Draws the pictures again with plotly when they come into view, if plotly.min.js lies beside the page; until then and
// without it the SVG in the page stays. Makes tabs of the networks' anchors.
(() => {
  "use strict";
  const figures = JSON.parse(document.getElementById("figures").textContent);
  const interactive = typeof Plotly === "object";
  const plots = interactive ? [...document.querySelectorAll(".plot")] : [];
  const coarse = matchMedia("(pointer: coarse)").matches;
  const drawn = new Set();

  // "var(--name)" anywhere in a figure becomes the value that the page has for it now
  const inColors = (styles, value) => {
    if (typeof value === "string") {
      const name = /^var\((--[\w-]+)\)$/.exec(value);
      return name ? styles.getPropertyValue(name[1]).trim() : value;
    }
    if (Array.isArray(value)) return value.map((item) => inColors(styles, item));
    if (value === null || typeof value !== "object") return value;
    return Object.fromEntries(Object.entries(value).map(([key, item]) => [key, inColors(styles, item)]));
  };

  const draw = (plot) => {
    const styles = getComputedStyle(document.documentElement);
    const { data, layout } = inColors(styles, figures[plot.dataset.figure]);
    if (coarse) { // a finger scrolls the page, it does not zoom
      layout.dragmode = false;
      layout.xaxis.fixedrange = layout.yaxis.fixedrange = true;
    }
    plot.querySelector(":scope > .static")?.remove();
    Plotly.react(plot, data, layout, { displayModeBar: false, displaylogo: false, showTips: false });
    drawn.add(plot);
    sizes.observe(plot);
  };
  const visible = (plot) => plot.clientWidth > 0;
  const fit = (plot) => requestAnimationFrame(() => { if (visible(plot)) Plotly.Plots.resize(plot); });
  const sizes = new ResizeObserver((entries) => entries.forEach((entry) => fit(entry.target)));
  const near = new IntersectionObserver(
    (entries) => entries.forEach((entry) => {
      if (!entry.isIntersecting) return;
      near.unobserve(entry.target);
      if (!drawn.has(entry.target)) draw(entry.target);
    }),
    { rootMargin: "300px" },
  );
  plots.forEach((plot) => near.observe(plot));

  const recolor = () => {
    for (const plot of drawn) {
      if (visible(plot)) { draw(plot); continue; }
      Plotly.purge(plot); // of a hidden tab: drawn again when it is seen
      drawn.delete(plot);
      near.observe(plot);
    }
  };
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", recolor);

  // printing: everything, in light colors
  addEventListener("beforeprint", () => {
    document.documentElement.dataset.printing = "";
    panels.forEach((panel) => { panel.hidden = false; });
    plots.forEach(draw);
  });
  addEventListener("afterprint", () => {
    delete document.documentElement.dataset.printing;
    recolor();
    fromHash();
  });

  // tabs: links without this script, tabs with it; the URL's hash says which
  const list = document.querySelector(".tabs");
  const tabs = list ? [...list.querySelectorAll("a")] : [];
  const panels = tabs.map((tab) => document.getElementById(tab.hash.slice(1)));
  const select = (chosen) => tabs.forEach((tab, k) => {
    const on = panels[k] === chosen;
    tab.setAttribute("aria-selected", on);
    tab.tabIndex = on ? 0 : -1;
    panels[k].hidden = !on;
  });
  const fromHash = () => {
    if (!tabs.length) return;
    const target = document.getElementById(location.hash.slice(1));
    const panel = target && target.closest(".run");
    select(panels.includes(panel) ? panel : panels.find((one) => !one.hidden) || panels[0]);
    if (panel && panel !== target) target.scrollIntoView();
  };
  if (list) {
    list.setAttribute("role", "tablist");
    tabs.forEach((tab, k) => {
      tab.setAttribute("role", "tab");
      tab.setAttribute("aria-controls", panels[k].id);
      panels[k].setAttribute("role", "tabpanel");
      panels[k].hidden = k > 0;
    });
    const go = (tab) => { history.replaceState(null, "", tab.hash); fromHash(); };
    list.addEventListener("click", (event) => {
      const tab = event.target.closest("a");
      if (!tab) return;
      event.preventDefault(); // no jump: the tab is already in view
      go(tab);
    });
    list.addEventListener("keydown", (event) => {
      const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
      const at = tabs.indexOf(document.activeElement);
      if (!step || at < 0) return;
      event.preventDefault();
      const next = tabs[(at + step + tabs.length) % tabs.length];
      next.focus();
      go(next);
    });
    addEventListener("hashchange", fromHash);
    fromHash();
  }

  for (const button of document.querySelectorAll(".copy")) {
    button.hidden = !navigator.clipboard;
    button.addEventListener("click", async () => {
      await navigator.clipboard.writeText(button.previousElementSibling.textContent);
      button.textContent = "copied";
      setTimeout(() => { button.textContent = "copy"; }, 1500);
    });
  }
})();
