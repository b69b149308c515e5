"use strict";
// Sorts tables by their headers and turns panels into tabs; without it all is there, in order.
(() => {
  const value = (row, column) => row.cells[column].dataset.v ?? "";
  const compare = (a, b) => {
    const x = Number(a), y = Number(b);
    return Number.isNaN(x) || Number.isNaN(y) ? a.localeCompare(b, "en", { numeric: true }) : x - y;
  };

  const sort = (table, header) => {
    const column = header.cellIndex;
    const rows = [...table.tBodies[0].rows];
    const first = rows.map((row) => value(row, column)).find((v) => v !== "") ?? "";
    const ascending = ["#", "Ranks", "s / 100", "Projected"].includes(header.textContent.trim());
    const usual = ascending || Number.isNaN(Number(first)) ? "ascending" : "descending";
    const other = usual === "ascending" ? "descending" : "ascending";
    const direction = header.getAttribute("aria-sort") === usual ? other : usual;
    const sign = direction === "ascending" ? 1 : -1;
    rows.sort((a, b) => {
      const x = value(a, column), y = value(b, column);
      if (x === "" || y === "") return (x === "") - (y === "");
      return sign * compare(x, y);
    });
    for (const cell of header.parentElement.cells) cell.removeAttribute("aria-sort");
    header.setAttribute("aria-sort", direction);
    table.tBodies[0].append(...rows);
  };

  for (const table of document.querySelectorAll("table.sortable")) {
    for (const header of table.tHead.rows[0].cells) {
      header.querySelector("button").addEventListener("click", () => sort(table, header));
    }
    table.tHead.rows[0].cells[0].setAttribute("aria-sort", "ascending");
  }

  for (const group of document.querySelectorAll("[data-tabs]")) {
    const panels = [...group.querySelectorAll(":scope > .panel")];
    if (panels.length < 2) continue;
    const list = document.createElement("div");
    list.className = "tablist";
    list.setAttribute("role", "tablist");
    list.setAttribute("aria-label", group.dataset.tabs);
    const tabs = panels.map((panel, i) => {
      const tab = document.createElement("button");
      tab.type = "button";
      tab.id = `${panel.getAttribute("aria-labelledby")}-tab`;
      tab.textContent = panel.dataset.tab;
      tab.setAttribute("role", "tab");
      panel.id = `${tab.id}-panel`;
      tab.setAttribute("aria-controls", panel.id);
      panel.setAttribute("role", "tabpanel");
      panel.setAttribute("aria-labelledby", tab.id);
      tab.addEventListener("click", () => show(i));
      return tab;
    });
    const show = (chosen) => tabs.forEach((tab, i) => {
      tab.setAttribute("aria-selected", String(i === chosen));
      tab.tabIndex = i === chosen ? 0 : -1;
      panels[i].hidden = i !== chosen;
    });
    list.addEventListener("keydown", (event) => {
      const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
      const to = { Home: 0, End: tabs.length - 1 }[event.key]
        ?? (step && (tabs.indexOf(document.activeElement) + step + tabs.length) % tabs.length);
      if (to === undefined) return;
      event.preventDefault();
      show(to);
      tabs[to].focus();
    });
    list.append(...tabs);
    group.classList.add("tabbed");
    group.prepend(list);
    show(0);
  }
})();
