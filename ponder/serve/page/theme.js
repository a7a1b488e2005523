// Light, dark or as the system has it. A plain script in the head, so that the first paint has the right colours.
"use strict";
(() => {
  const NAMES = { auto: "Theme: system", light: "Theme: light", dark: "Theme: dark" };
  const ORDER = ["auto", "light", "dark"];
  const read = () => {
    try { return localStorage.getItem("ponder.theme") || "auto"; } catch { return "auto"; }
  };
  let theme = ORDER.includes(read()) ? read() : "auto";

  const show = () => {
    if (theme === "auto") delete document.documentElement.dataset.theme;
    else document.documentElement.dataset.theme = theme;
    const button = document.getElementById("theme");
    if (button) button.textContent = NAMES[theme];
  };
  show();
  document.addEventListener("DOMContentLoaded", () => {
    show();
    document.getElementById("theme")?.addEventListener("click", () => {
      theme = ORDER[(ORDER.indexOf(theme) + 1) % ORDER.length];
      try { localStorage.setItem("ponder.theme", theme); } catch { /* a browser that keeps nothing */ }
      show();
    });
  });
})();
