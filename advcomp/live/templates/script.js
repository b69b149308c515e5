"use strict";
const holder = document.getElementById("state");
const drawn = {};
let state = JSON.parse(holder.textContent);
let seen = performance.now();
let live = false;

const PHASES = {
  reading: "Entries are being read",
  attacks: "Attacks make their images",
  defenses: "Defenses answer",
  results: "Results are being written",
  stopped: "Stopped: nobody works on it",
  finished: "Finished",
};
const TRACKS = { attack: "Attacks", targeted_attack: "Targeted attacks", defense: "Defenses" };
const WON = { attack: "misled", targeted_attack: "hit", defense: "right" };

function place(id) { return document.getElementById(id); }

function element(tag, more, ...inside) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(more)) {
    if (value !== null) made.setAttribute(name, value);
  }
  made.append(...inside.filter((item) => item !== null));
  return made;
}

function number(value) { return value.toLocaleString("en-US"); }

function whole(seconds) {
  const all = Math.round(seconds);
  if (all < 60) return `${all} s`;
  const minutes = Math.floor(all / 60);
  if (minutes < 60) return `${minutes} min ${String(all % 60).padStart(2, "0")} s`;
  return `${Math.floor(minutes / 60)} h ${String(minutes % 60).padStart(2, "0")} min`;
}

function count(value, noun, nouns) { return `${number(value)} ${value === 1 ? noun : nouns || noun + "s"}`; }

/* What is the same as before stays as it is: a selection, an open log, a place that was scrolled to. */
function draw(id, told, make) {
  const key = JSON.stringify(told);
  if (drawn[id] === key) return;
  drawn[id] = key;
  const boxes = () => [...place(id).querySelectorAll(".scroll")];
  const places = new Map(boxes().map((box) => [box.getAttribute("aria-label"), [box.scrollLeft, box.scrollTop]]));
  place(id).replaceChildren(...make());
  for (const box of boxes()) [box.scrollLeft, box.scrollTop] = places.get(box.getAttribute("aria-label")) || [0, 0];
}

/* A row of a list that is the same as before is the same object, and what was made of it is kept. */
const made = new WeakMap();
function kept(item, ...how) {
  const [make, ...more] = how;
  const known = made.get(item);
  if (known && known.more === String(more)) return known.element;
  const fresh = make(item, ...more);
  made.set(item, { element: fresh, more: String(more) });
  return fresh;
}

function table(name, headings, rows, kind = "") {
  const head = headings.map(([text, kind]) => element("th", { scope: "col", class: kind || null }, text));
  const body = element("tbody", {}, ...rows);
  const long = rows.length > 30 ? " both" : "";
  return element("div", { class: `scroll${long}`, tabindex: "0", role: "region", "aria-label": name },
    element("table", { class: `plain ${kind}` }, element("thead", {}, element("tr", {}, ...head)), body));
}

function bar(value, most, name) {
  return element("progress", { value: String(Math.min(value, most)), max: String(most || 1), "aria-label": name });
}

function stageCard(stage) {
  const name = stage.stage === "attack" ? "Attack jobs" : "Defense jobs";
  return element("div", { class: "card" }, element("span", { class: "kicker" }, name),
    element("span", { class: "amount" }, number(stage.done), element("span", { class: "of" }, ` of ${number(stage.jobs)}`)),
    bar(stage.done, stage.jobs, name));
}

function row(standing, isRate) {
  const badges = [standing.team, standing.baseline ? "baseline" : null].filter(Boolean)
    .map((text) => element("span", { class: "badge" }, text));
  const never = standing.verdict === "REJECTED";
  const score = standing.score === null ? (never ? "" : standing.provisional ? "none yet" : "none") : isRate ? standing.score.toFixed(3) : number(standing.score);
  const interval = standing.low === null || !isRate ? null
    : element("span", { class: "interval" }, ` ${standing.low.toFixed(3)}–${standing.high.toFixed(3)}`);
  const kind = standing.verdict === "OK" ? "ok" : standing.verdict === "PARTIAL" ? "part" : "bad";
  return element("tr", {},
    element("td", { class: "rank number" }, standing.rank === null ? "" : String(standing.rank)),
    element("th", { scope: "row" }, element("span", { class: "entry" }, standing.submission), ...badges,
      standing.provisional ? element("span", { class: "badge warn" }, "provisional") : null),
    element("td", { class: "share" }, score, interval,
      standing.score === null || !isRate ? null : bar(standing.score, 1, `score of ${standing.submission}`)),
    element("td", { class: "number" }, ...(never ? [] : [number(standing.answers), element("span", { class: "of" }, ` of ${number(standing.expected)}`)])),
    element("td", {}, standing.verdict === null ? "" : element("span", { class: `verdict ${kind}` }, standing.verdict)));
}

function boards() {
  const finished = state.phase === "finished";
  return Object.keys(TRACKS).flatMap((track) => {
    const own = state.leaderboard.filter((standing) => standing.track === track);
    if (!own.length) return [];
    const isRate = !finished || own.every((standing) => standing.score === null || standing.score <= 1);
    const headings = [["#", "rank number"], ["Submission"], [finished ? "Score" : `Share ${WON[track]} so far`], ["Answers", "number"], ["Verdict"]];
    return [element("h3", {}, TRACKS[track]), table(TRACKS[track], headings, own.map((standing) => kept(standing, row, isRate)), "board")];
  });
}

function runs(job) {
  const time = element("span", { "data-seconds": String(job.seconds), "data-expected": job.expected_seconds === null ? "" : String(job.expected_seconds) });
  return element("tr", {}, element("th", { scope: "row" }, element("span", { class: "entry" }, job.job)),
    element("td", { class: "number" }, time),
    element("td", { class: "number" }, job.expected_seconds === null ? "" : `about ${whole(job.expected_seconds)}`),
    element("td", {}, job.node || ""));
}

function running() {
  if (!state.running.length) return [element("p", { class: "note" }, "Nothing runs.")];
  const headings = [["Job"], ["For", "number"], ["Expected", "number"], [state.running.some((job) => job.node) ? "Node" : ""]];
  return [table("Running jobs", headings, state.running.map(runs))];
}

function waiting() {
  if (!state.waiting.length) return [element("p", { class: "note" }, "Nothing waits.")];
  return [table("Waiting jobs", [["Entry"], ["Stage"], ["Jobs", "number"]], state.waiting.map((item) => kept(item, waits)))];
}

function waits(item) {
  return element("tr", {}, element("th", { scope: "row" }, element("span", { class: "entry" }, item.entry)),
    element("td", {}, item.stage), element("td", { class: "number" }, number(item.jobs)));
}

function failed() {
  const open = new Set([...document.querySelectorAll("#failed details[open]")].map((each) => each.dataset.job));
  const items = state.failures.map((failure) => kept(failure, (one) => fails(one, open.has(one.job))));
  if (state.more_failures) items.push(element("li", {}, `and ${number(state.more_failures)} earlier ones`));
  return items;
}

function fails(failure, open) {
  const log = failure.log === null ? null : element("details", { "data-job": failure.job, open: open ? "" : null },
    element("summary", {}, "End of its log"), element("pre", { class: "log" }, failure.log || "(it printed nothing)"));
  const kind = failure.verdict === "PARTIAL" ? "part" : "bad";
  return element("li", {}, element("p", { class: "run" }, element("span", { class: `verdict ${kind}` }, failure.verdict),
    element("span", { class: "entry job" }, failure.job || failure.entry),
    failure.seconds === null ? null : element("span", { class: "facts" }, whole(failure.seconds))),
  failure.why ? element("p", { class: "note" }, failure.why) : null, log);
}

/* Where drawing takes long, what comes meanwhile is drawn together: the page stays free to be used. */
let waitsToShow = false;
let took = 0;
function showSoon() {
  if (waitsToShow) return;
  waitsToShow = true;
  setTimeout(() => {
    waitsToShow = false;
    const began = performance.now();
    show();
    place("boards").getBoundingClientRect();
    took = performance.now() - began;
  }, 4 * took);
}

function show() {
  place("phase").textContent = PHASES[state.phase] || state.phase;
  place("phase").className = `phase ${state.phase}`;
  document.title = `${state.tournament} · ${PHASES[state.phase] || state.phase}`;
  place("kicker").textContent = state.images
    ? `${count(state.images, "image")} · ε ${state.max_epsilons.join(", ")} · sandbox ${state.sandbox}` : "Tournament";
  place("remarks").hidden = !state.remarks.length;
  draw("remarks", state.remarks, () => state.remarks.map((text) => element("li", {}, text)));
  draw("stages", state.stages, () => [...state.stages.map(stageCard),
    element("div", { class: "card" }, element("span", { class: "kicker" }, "Time left, both stages"), element("span", { class: "amount", id: "left" }))]);
  place("measure").textContent = state.phase === "finished" ? "By the tournament’s rules, with 95 % intervals over images."
    : state.leaderboard.length ? "An entry is provisional until it has all its answers." : "Nobody is known yet.";
  draw("boards", [state.leaderboard, state.phase === "finished"], boards);
  draw("running", state.running, running);
  draw("waiting", state.waiting, waiting);
  place("rule").textContent = !state.failures.length ? "None." : state.logs === "smoke"
    ? "Logs of the tournament’s own runs are not shown ([logs] show = \"smoke\"); the organiser reads them with advcomp logs." : "";
  draw("failed", [state.failures, state.more_failures], failed);
  tick();
}

/* A state from the one before: see changes.py for how lists of rows are told. */
function changed(told) {
  const rows = ["leaderboard", "waiting", "running", "failures"].filter((name) => name in told);
  for (const name of rows) {
    const was = state[name];
    told[name] = told[name].map((item) => Number.isInteger(item) ? was[item]
      : Array.isArray(item) ? { ...was[item[0]], ...item[1] } : item);
  }
  return { ...state, ...told };
}

function tick() {
  const gone = live ? (performance.now() - seen) / 1000 : 0;
  for (const each of document.querySelectorAll("[data-seconds]")) {
    const seconds = Number(each.dataset.seconds) + gone;
    each.textContent = whole(seconds);
    each.classList.toggle("late", each.dataset.expected !== "" && seconds > 3 * Number(each.dataset.expected));
  }
  const left = place("left");
  if (left) left.textContent = timeLeft(gone);
}

function timeLeft(gone) {
  if (state.phase === "finished") return "none";
  if (state.phase === "stopped") return "stopped";
  if (state.time_left_seconds === null) return "unknown yet";
  const seconds = state.time_left_seconds - gone;
  return seconds < 0.5 ? "longer than it seemed" : `about ${whole(seconds)}`;
}

function linked(kind, text) {
  place("link").className = `signal ${kind}`;
  place("link").textContent = text;
}

function clock(seconds) { return new Date(seconds * 1000).toISOString().slice(0, 19).replace("T", " ") + " UTC"; }

const address = holder.dataset.events;
show();
place("at").textContent = `as of ${clock(state.at)}`;
if (address && location.protocol !== "file:") {
  if (location.search) history.replaceState(null, "", location.pathname + location.hash);
  const source = new EventSource(address);
  const told = (now) => {
    state = now;
    seen = performance.now();
    live = true;
    linked("on", "live");
    place("at").textContent = `last change ${clock(state.at)}`;
    showSoon();
  };
  source.addEventListener("state", (event) => told(JSON.parse(event.data)));
  source.addEventListener("change", (event) => told(changed(JSON.parse(event.data))));
  source.addEventListener("error", () => {
    live = false;
    linked("off", source.readyState === EventSource.CLOSED
      ? "no longer let in: open the address with its token again" : "the server is gone; trying again");
  });
  setInterval(tick, 1000);
} else {
  linked("", "a file, which does not change");
}
