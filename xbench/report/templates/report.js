(() => {
  "use strict";
  const root = document.documentElement;
  const all = (selector, within = document) => [...within.querySelectorAll(selector)];
  root.classList.add("js");

  // Colours: as the system, light, dark. Some browsers keep nothing for files; then the choice lasts as long as the page.
  const themes = ["", "light", "dark"];
  const themeButton = document.querySelector("[data-theme-button]");
  const remember = (value) => { try { localStorage.setItem("xbench-theme", value); } catch { return; } };
  const recall = () => { try { return localStorage.getItem("xbench-theme") || ""; } catch { return ""; } };
  const colour = (value) => {
    if (value) root.dataset.theme = value; else delete root.dataset.theme;
    const name = value || "as the system";
    themeButton.textContent = { "": "◐", light: "☀", dark: "☾" }[value];
    themeButton.setAttribute("aria-label", `Colours: ${name}`);
    themeButton.title = `Colours: ${name}`;
  };
  colour(themes.includes(recall()) ? recall() : "");
  themeButton.addEventListener("click", () => {
    const next = themes[(themes.indexOf(root.dataset.theme || "") + 1) % themes.length];
    colour(next);
    remember(next);
  });

  // Ranking tables: sort, filter, hide.
  const updates = [];
  for (const tools of all("[data-for]")) {
    const table = document.getElementById(tools.dataset.for);
    const body = table.tBodies[0];
    const heads = [...table.tHead.rows[0].cells];
    const ranked = [...body.rows];
    const family = tools.querySelector("[data-package]");
    const scores = tools.querySelector("[data-family]");
    const find = tools.querySelector("[data-find]");
    const count = tools.querySelector("[data-count]");
    const key = (row, column) => {
      if (heads[column].classList.contains("first")) return row.dataset.name;
      const value = row.cells[column].dataset.v;
      return value === undefined ? null : Number(value);
    };
    const sort = (column, order) => {
      const sign = order === "ascending" ? 1 : -1;
      const byRank = column === 0 && order === "ascending";
      const rows = byRank ? ranked : [...ranked].sort((one, other) => {
        const [a, b] = [key(one, column), key(other, column)];
        if (a === null || b === null) return (a === null) - (b === null);
        return sign * (typeof a === "string" ? a.localeCompare(b, "en") : a - b);
      });
      body.append(...rows);
      heads.forEach((head, place) => {
        if (place === column) head.setAttribute("aria-sort", order); else head.removeAttribute("aria-sort");
      });
      if (byRank) delete table.dataset.sorted; else table.dataset.sorted = "";
    };
    heads.forEach((head, column) => head.querySelector("button").addEventListener("click", () => {
      const other = { ascending: "descending", descending: "ascending" };
      sort(column, other[head.getAttribute("aria-sort")] || head.dataset.first);
    }));
    const filter = () => {
      const words = find.value.trim().toLowerCase().split(/\s+/);
      for (const row of ranked) {
        const name = row.dataset.name.toLowerCase();
        const kept = (!family.value || row.dataset.package === family.value) && words.every((word) => name.includes(word));
        row.classList.toggle("gone", !kept);
      }
      heads.forEach((head, column) => {
        const gone = Boolean(scores && scores.value && head.dataset.family !== undefined && head.dataset.family !== scores.value);
        for (const row of table.rows) row.cells[column].classList.toggle("gone", gone);
      });
      const hidden = root.classList.contains("hide-controls");
      const shown = ranked.filter((row) => !row.classList.contains("gone") && !(hidden && row.classList.contains("control")));
      const total = `${ranked.length} ${ranked.length === 1 ? "explainer" : "explainers"}`;
      count.textContent = shown.length === ranked.length ? total : `${shown.length} of ${total}`;
    };
    for (const input of [family, scores, find]) if (input) input.addEventListener("input", filter);
    tools.querySelector("[data-reset]").addEventListener("click", () => {
      family.value = find.value = "";
      if (scores) scores.value = "";
      sort(0, "ascending");
      filter();
    });
    updates.push(filter);
    filter();
  }
  const controls = document.querySelector("[data-controls]");
  controls.hidden = !document.querySelector(".control");
  controls.addEventListener("click", () => {
    controls.setAttribute("aria-pressed", String(root.classList.toggle("hide-controls")));
    updates.forEach((update) => update());
  });

  // Curves: a name switches its curve on and off, and lights it while it is pointed at.
  for (const figure of all("[data-curves]")) {
    for (const button of all(".legend button", figure)) {
      const curve = figure.querySelector(`g.curve[data-k="${button.dataset.k}"]`);
      button.addEventListener("click", () => {
        const on = button.getAttribute("aria-pressed") !== "true";
        button.setAttribute("aria-pressed", String(on));
        curve.toggleAttribute("hidden", !on);
      });
      const light = (on) => () => curve.classList.toggle("lit", on);
      for (const event of ["pointerenter", "focus"]) button.addEventListener(event, light(true));
      for (const event of ["pointerleave", "blur"]) button.addEventListener(event, light(false));
    }
  }

  // Galleries: one map is in the tab order, arrow keys walk, and what is pointed at says its scores.
  for (const gallery of all("[data-gallery]")) {
    const scores = JSON.parse(gallery.querySelector("[data-scores]").textContent);
    const readout = gallery.querySelector("[data-readout]");
    const table = gallery.querySelector("table");
    const rows = [...table.tBodies[0].rows];
    const columns = [...table.tHead.rows[0].cells];
    const told = (cell) => {
      const row = cell.parentElement;
      const head = `${columns[cell.cellIndex].dataset.name}, image ${row.dataset.image}: ${row.dataset.label}, taken for ${row.dataset.predicted}`;
      if (cell.dataset.e === "") return head;
      const own = scores[Number(cell.dataset.e)];
      const values = own.values[rows.indexOf(row)];
      return head + ". " + own.names.map((name, place) => `${name} ${values[place] ?? "not defined"}`).join(" · ");
    };
    // Who listens hears what the keyboard is on, not every map that the pointer passes.
    const tell = (cell, aloud) => {
      readout.setAttribute("aria-live", aloud ? "polite" : "off");
      readout.textContent = told(cell);
      cell.title = readout.textContent;
    };
    const cellOf = (event) => event.target.closest("td[data-e]");
    const enter = (cell) => {
      for (const other of all('td[tabindex="0"]', table)) other.tabIndex = -1;
      cell.tabIndex = 0;
    };
    table.addEventListener("pointerover", (event) => { const cell = cellOf(event); if (cell) tell(cell, false); });
    table.addEventListener("focusin", (event) => { const cell = cellOf(event); if (cell) { enter(cell); tell(cell, true); } });
    table.addEventListener("click", (event) => { const cell = cellOf(event); if (cell) { enter(cell); cell.focus(); } });
    table.addEventListener("keydown", (event) => {
      const cell = cellOf(event);
      const step = { ArrowRight: [0, 1], ArrowLeft: [0, -1], ArrowDown: [1, 0], ArrowUp: [-1, 0] }[event.key];
      if (!cell || !step) return;
      event.preventDefault();
      let [row, column] = [rows.indexOf(cell.parentElement), cell.cellIndex];
      do {
        row += step[0];
        column += step[1];
        const next = rows[row] && rows[row].cells[column];
        if (!next) return;
        if (next.dataset.e !== undefined && next.offsetParent) {
          enter(next);
          next.focus();
          next.scrollIntoView({ block: "nearest", inline: "nearest" });
          return;
        }
      } while (row >= 0 && column > 0);
    });
    const reachable = () => {
      const now = table.querySelector('td[tabindex="0"]');
      const hidden = root.classList.contains("hide-controls");
      if (now && !(hidden && now.classList.contains("control"))) return;
      const first = table.querySelector(hidden ? "td[data-e]:not(.control)" : "td[data-e]");
      if (now) now.tabIndex = -1;
      if (first) first.tabIndex = 0;
    };
    updates.push(reachable);
    reachable();
    const outline = gallery.querySelector("[data-outline]");
    if (outline) outline.addEventListener("click", () => {
      outline.setAttribute("aria-pressed", String(!gallery.classList.toggle("no-outline")));
    });
  }
})();
