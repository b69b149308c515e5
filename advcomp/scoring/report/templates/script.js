"use strict";
// Sorts, filters and folds tables, turns panels into tabs and tells what is pointed at; without it
// all is there, in order, but for single budgets of a dense heat map.
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

  const make = (name, properties, ...children) => {
    const element = Object.assign(document.createElement(name), properties);
    element.append(...children);
    return element;
  };
  // Whether an entry's name or team holds what was typed.
  const matches = (text, team, typed) => `${text}\n${team ?? ""}`.toLowerCase().includes(typed);
  const search = (label, changed) => {
    const input = make("input", { type: "search", placeholder: "name or team" });
    input.addEventListener("input", () => changed(input.value.trim().toLowerCase()));
    return [make("label", {}, `${label} `, input), input];
  };

  const FEW = 25;
  const fold = (table) => {
    const rows = [...table.tBodies[0].rows];
    if (rows.length <= FEW) return;
    const button = make("button", { type: "button" });
    const show = (all) => {
      table.classList.toggle("folded", !all);
      button.textContent = all ? `Show the first ${FEW}` : `Show all ${rows.length}`;
      button.setAttribute("aria-expanded", String(all));
    };
    button.addEventListener("click", () => show(table.classList.contains("folded")));
    const [label, input] = search("Find", (typed) => {
      for (const row of rows) {
        const name = row.querySelector(".name").dataset.v;
        row.hidden = !matches(name, row.dataset.team, typed);
      }
      show(typed !== "");
    });
    input.setAttribute("aria-label", "Find entries of this table by name or team");
    table.closest(".scroll").before(make("div", { className: "tools" }, label, button));
    show(false);
  };

  for (const table of document.querySelectorAll("table.sortable")) {
    for (const header of table.tHead.rows[0].cells) {
      header.querySelector("button").addEventListener("click", () => sort(table, header));
    }
    table.tHead.rows[0].cells[0].setAttribute("aria-sort", "ascending");
    fold(table);
  }

  // The heat maps of all budgets have the same rows and columns; they are kept in the same order.
  const matrix = (group) => {
    const maps = [...group.querySelectorAll("table.heat")].map((table) => {
      const [head, body] = [table.tHead.rows[0], table.tBodies[0]];
      return { head, body, heads: [...head.cells], rows: [...body.rows].map((r) => [...r.cells]) };
    });
    const FIRST = 2;  // columns before the attacks: the defense, and clean images
    const count = { rows: maps[0].rows.length, columns: maps[0].heads.length - FIRST };
    if (count.rows < 2 && count.columns < 2) return;
    const usual = (number) => Array.from({ length: number }, (_, i) => i);
    let rows = usual(count.rows), columns = usual(count.columns);
    const shown = { rows: null, columns: null };
    const at = (map, row, column) => map.rows[row][column + FIRST].textContent;
    const name = (cell) => cell.querySelector(".entry").textContent;
    const place = () => maps.forEach((map) => {
      const order = [0, 1, ...columns.map((c) => c + FIRST)];
      map.head.append(...order.map((c) => map.heads[c]));
      for (const r of rows) map.rows[r][0].parentElement.append(...order.map((c) => map.rows[r][c]));
      map.body.append(...rows.map((r) => map.rows[r][0].parentElement));
    });
    const hide = () => maps.forEach((map) => {
      map.rows.forEach((cells, r) => {
        cells[0].parentElement.hidden = shown.rows !== null && !shown.rows.has(r);
        cells.forEach((cell, c) => {
          cell.hidden = c >= FIRST && shown.columns !== null && !shown.columns.has(c - FIRST);
        });
      });
      map.heads.forEach((cell, c) => {
        cell.hidden = c >= FIRST && shown.columns !== null && !shown.columns.has(c - FIRST);
      });
    });
    const by = (figure) => (a, b) => {
      const x = figure(a), y = figure(b);
      if (x === "\u2013" || y === "\u2013") return (x === "\u2013") - (y === "\u2013");
      return y - x || a - b;
    };
    let last = null;
    const turn = (key, list, figure) => {
      list.sort(by(figure));
      if (last === key) list.reverse();
      last = last === key ? null : key;
      place();
    };
    const press = (cell, told, act) => {
      const button = make("button", { type: "button", title: told }, ...cell.childNodes);
      button.addEventListener("click", act);
      cell.append(button);
    };
    for (const map of maps) {
      map.heads.slice(FIRST).forEach((cell, c) => press(cell, "Sort the defenses by this attack",
        () => turn(`column ${c}`, rows, (row) => at(map, row, c))));
      map.rows.forEach((cells, r) => press(cells[0], "Sort the attacks by this defense",
        () => turn(`row ${r}`, columns, (column) => at(map, r, column))));
    }
    const filter = (label, kind, cells) => search(label, (typed) => {
      const found = cells.flatMap((cell, i) => matches(name(cell), cell.dataset.team, typed) ? [i] : []);
      shown[kind] = typed === "" ? null : new Set(found);
      hide();
    });
    const [attacks, attackInput] = filter("Attacks", "columns", maps[0].heads.slice(FIRST));
    const [defenses, defenseInput] = filter("Defenses", "rows", maps[0].rows.map((cells) => cells[0]));
    const reset = make("button", { type: "button", textContent: "Best first" });
    reset.addEventListener("click", () => {
      [rows, columns, last] = [usual(count.rows), usual(count.columns), null];
      [shown.rows, shown.columns] = [null, null];
      [attackInput.value, defenseInput.value] = ["", ""];
      place();
      hide();
    });
    const tools = make("div", { className: "tools" }, attacks, defenses, reset);
    group.prepend(tools);

    const dense = group.querySelector("table.dense");
    const budgets = dense === null ? []
      : Object.keys(dense.dataset).filter((key) => key.startsWith("eps"));
    if (budgets.length === 0) return;
    const [map] = maps;
    const all = map.rows.flatMap((cells) => cells.slice(FIRST)).map((cell) => cell.textContent);
    const fill = (figures) => map.rows.flatMap((cells) => cells.slice(FIRST)).forEach((cell, i) => {
      const figure = figures[i], nothing = figure === "" || figure === "\u2013";
      cell.textContent = nothing ? "\u2013" : figure;
      const aside = cell.classList.contains("aside");
      cell.className = nothing ? "none" : `h${Math.round(figure / 5)}`;
      cell.classList.toggle("aside", aside);
    });
    const select = make("select", {}, make("option", { value: "", textContent: "all" }),
      ...budgets.map((key) => make("option", { value: key, textContent: key.replace(/\D/g, "") })));
    const title = dense.closest(".panel").querySelector("h3");
    const said = title.textContent;
    select.addEventListener("change", () => {
      fill(select.value === "" ? all : dense.dataset[select.value].split(","));
      title.textContent = select.value === "" ? said : `\u03b5 = ${select.value.replace(/\D/g, "")}`;
    });
    tools.prepend(make("label", {}, "Budget ", select));
  };
  for (const group of document.querySelectorAll(".matrix .tabs")) matrix(group);

  // What is pointed at, or touched, is told beside it.
  const tip = make("div", { className: "tip", hidden: true });
  document.body.append(tip);
  for (const title of document.querySelectorAll("svg .point > title, svg .line > title")) {
    const mark = title.parentElement;
    mark.dataset.tip = title.textContent;
    mark.setAttribute("aria-label", title.textContent);
    title.remove();
  }
  const told = (target) => {
    const mark = target.closest("[data-tip]");
    if (mark) return mark.dataset.tip;
    const cell = target.closest(".heat tbody td");
    if (!cell) return "";
    const entry = (head) => head.querySelector(".entry").textContent;
    const defense = entry(cell.parentElement.cells[0]);
    const figure = cell.classList.contains("none") ? "no answer" : `${cell.textContent} %`;
    if (cell.classList.contains("clean")) return `${defense}, clean images: ${figure} wrong`;
    const attack = entry(cell.closest("table").tHead.rows[0].cells[cell.cellIndex]);
    const aside = cell.classList.contains("aside") ? " (counts for nobody)" : "";
    return `${attack} \u00d7 ${defense}: ${figure}${aside}`;
  };
  document.addEventListener("pointerover", (event) => {
    tip.textContent = told(event.target);
    tip.hidden = tip.textContent === "";
    if (tip.hidden) return;
    const width = document.documentElement.clientWidth;
    tip.style.left = `${Math.max(4, Math.min(event.clientX + 12, width - tip.offsetWidth - 4))}px`;
    tip.style.top = `${event.clientY > innerHeight - 70 ? event.clientY - 40 : event.clientY + 16}px`;
  });
  document.addEventListener("scroll", () => { tip.hidden = true; }, { capture: true, passive: true });

  // Sections fold away; of a large tournament some begin so.
  const large = document.querySelector(".matrix.dense") !== null;
  for (const section of document.querySelectorAll("main > section")) {
    const heading = section.querySelector("h2");
    const button = make("button", { type: "button", className: "fold" }, ...heading.childNodes);
    const open = (yes) => {
      section.classList.toggle("closed", !yes);
      button.setAttribute("aria-expanded", String(yes));
    };
    button.addEventListener("click", () => open(section.classList.contains("closed")));
    heading.append(button);
    open(!(large && ["gallery", "failures", "expelled", "manifest"].includes(section.id)));
    for (const link of document.querySelectorAll(`a[href="#${section.id}"]`)) {
      link.addEventListener("click", () => open(true));
    }
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
