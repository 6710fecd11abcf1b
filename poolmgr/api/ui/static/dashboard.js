// Keeps the page live and the picture explorable. Without it the page still shows the state at load.
"use strict";

const tip = document.querySelector("[data-tip]");

// --- live regions -----------------------------------------------------------------------------------------
// Each message holds the HTML of the regions that changed. Focus, scroll places and open parts stay.
function replace(region, html) {
  const focused = region.contains(document.activeElement) ? document.activeElement : null;
  const scrolled = region.querySelector(".waiting, .scroll");
  const top = scrolled ? scrolled.scrollTop : 0;
  const open = region.querySelector("details")?.open;
  region.innerHTML = html;
  const again = region.querySelector(".waiting, .scroll");
  if (again) again.scrollTop = top;
  if (open) region.querySelector("details").open = true;
  place();
  localise(region);
  if (focused) (focused.id ? document.getElementById(focused.id) : region.querySelector(".plot"))?.focus({ preventScroll: true });
}

// --- the connection -----------------------------------------------------------------------------------------
// The manager says with each word when the next is due. A manager that stands still, or a connection that is cut
// somewhere on the way, says nothing: after SILENT_PERIODS without a word the page says so and connects anew. A browser
// gives up for good after an answer that is no stream (a proxy's 503, a login): then it is asked again by hand.
const SILENT_PERIODS = 5, LONGEST_PAUSE = 30;
let source = null, heardAt = Date.now(), period = 2, pause = 1, due = 0;

function connect() {
  source?.close();
  due = 0;
  source = new EventSource(`/ui/events${location.search}`);
  source.onmessage = (message) => {
    const { every, regions } = JSON.parse(message.data);
    for (const [name, html] of Object.entries(regions)) {
      const region = document.querySelector(`[data-region="${name}"]`);
      if (region) replace(region, html);
    }
    period = Math.max(1, every);
    heard();
  };
  source.onerror = () => { if (source.readyState === EventSource.CLOSED) later(); tell(true); };
}

function heard() {
  heardAt = Date.now();
  pause = 1;
  tell(false);
}

function later() {
  due = Date.now() + pause * 1000 * (0.5 + Math.random());
  pause = Math.min(LONGEST_PAUSE, pause * 2);
}

function watch() {
  const silent = (Date.now() - heardAt) / 1000;
  if (due && Date.now() >= due) connect();
  else if (!due && silent > SILENT_PERIODS * period) { source.close(); later(); }
  if (due || silent > SILENT_PERIODS * period) tell(true);
}

function tell(lost) {
  const banner = document.querySelector("[data-lost]");
  banner.hidden = !lost;
  document.body.classList.toggle("is-lost", lost);
  if (!lost) return;
  const seconds = Math.round((Date.now() - heardAt) / 1000);
  const since = seconds < 90 ? `${seconds} s` : `${Math.round(seconds / 60)} min`;
  banner.querySelector("[data-lost-since]").textContent = `What you see is ${since} old.`;
}

// --- times: the page comes with UTC, the browser knows the reader's zone -----------------------------------------
const CLOCK = new Intl.DateTimeFormat(undefined, { hour: "2-digit", minute: "2-digit", hour12: false });
const MOMENT = new Intl.DateTimeFormat(undefined, {
  weekday: "short", day: "numeric", month: "short", year: "numeric", hour: "2-digit", minute: "2-digit", hour12: false, timeZoneName: "short",
});
function localise(within) {
  for (const time of within.querySelectorAll("time[data-as]")) {
    time.textContent = (time.dataset.as === "clock" ? CLOCK : MOMENT).format(new Date(time.dateTime));
    time.title = time.dateTime;
  }
}

// --- labels of the chart: placed here because the policy of the page forbids inline styles in its HTML -------
function place() {
  for (const label of document.querySelectorAll(".labels [data-x]")) label.style.left = `${label.dataset.x / 9.6}%`;
  for (const label of document.querySelectorAll(".labels [data-y]")) label.style.top = `${label.dataset.y / 2.6}%`;
  const first = document.querySelector(".gpu[tabindex='0']") || document.querySelector(".nodes .gpu");
  if (first) first.tabIndex = 0;
}

// --- tips --------------------------------------------------------------------------------------------------
function show(text, box) {
  tip.textContent = text;
  tip.hidden = false;
  const width = tip.offsetWidth, height = tip.offsetHeight;
  const left = Math.min(Math.max(8, box.left + box.width / 2 - width / 2), innerWidth - width - 8);
  tip.style.left = `${left}px`;
  tip.style.top = `${box.top - height - 8 > 0 ? box.top - height - 8 : box.bottom + 8}px`;
}
const hide = () => { tip.hidden = true; cross(null); };

addEventListener("pointerover", (event) => {
  const gpu = event.target.closest?.(".nodes .gpu");
  if (gpu) show(gpu.getAttribute("aria-label"), gpu.getBoundingClientRect());
  else if (!event.target.closest?.(".plot")) hide();
});
// A region that is drawn anew gets its focus back: what was put away by Escape stays away until the focus moves on.
let dismissed = "";
addEventListener("focusin", (event) => {
  if (dismissed && event.target.id === dismissed) return;
  dismissed = "";
  if (event.target.matches(".nodes .gpu")) show(event.target.getAttribute("aria-label"), event.target.getBoundingClientRect());
  else if (!event.target.matches(".plot")) hide();
});
addEventListener("scroll", () => { tip.hidden = true; }, { passive: true });

// --- one stop for Tab in the picture, arrows inside it --------------------------------------------------------
addEventListener("keydown", (event) => {
  if (event.key === "Escape") { dismissed = event.target.id ?? ""; hide(); }
  if (event.target.matches?.(".nodes .gpu")) walk(event);
  else if (event.target.matches?.(".plot")) step(event);
});

function walk(event) {
  const tiles = [...document.querySelectorAll(".nodes .gpu")];
  const here = tiles.indexOf(event.target), box = event.target.getBoundingClientRect();
  let next = null;
  if (event.key === "ArrowRight") next = tiles[here + 1];
  else if (event.key === "ArrowLeft") next = tiles[here - 1];
  else if (event.key === "Home") next = tiles[0];
  else if (event.key === "End") next = tiles.at(-1);
  else if (event.key === "ArrowDown" || event.key === "ArrowUp") {
    const below = event.key === "ArrowDown";
    const distance = (tile) => {
      const other = tile.getBoundingClientRect(), down = other.top - box.top;
      return (below ? down > 4 : down < -4) ? Math.abs(down) * 4 + Math.abs(other.left - box.left) : Infinity;
    };
    next = tiles.reduce((best, tile) => (distance(tile) < distance(best) ? tile : best), event.target);
  } else return;
  event.preventDefault();
  if (!next || next === event.target) return;
  event.target.tabIndex = -1;
  next.tabIndex = 0;
  next.focus();
}

// --- crosshair of the chart ------------------------------------------------------------------------------------
let chosen = -1;

function cross(index) {
  const plot = document.querySelector(".plot"), line = plot?.querySelector(".cross");
  if (!line) return;
  line.setAttribute("visibility", index === null ? "hidden" : "visible");
  if (index === null) { chosen = -1; return; }
  const points = JSON.parse(plot.dataset.points);
  chosen = Math.min(Math.max(0, index), points.length - 1);
  const [x, time, vms, containers, waitingVms, waitingPods] = points[chosen];
  line.setAttribute("x1", x);
  line.setAttribute("x2", x);
  const box = plot.getBoundingClientRect(), left = box.left + 8 + (x / 960) * (box.width - 16);
  const waits = waitingVms + waitingPods ? `\nwaiting: ${waitingVms} VMs, ${waitingPods} pods` : "\nnobody waited";
  show(`${CLOCK.format(time * 1000)}\n${vms} GPUs in VMs\n${containers} given to containers${waits}`, { left, width: 0, top: box.top + 30, bottom: box.top + 30 });
}

addEventListener("pointermove", (event) => {
  const plot = event.target.closest?.(".plot");
  if (!plot) return;
  const box = plot.getBoundingClientRect(), x = ((event.clientX - box.left - 8) / (box.width - 16)) * 960;
  const points = JSON.parse(plot.dataset.points);
  let best = 0;
  points.forEach((point, index) => { if (Math.abs(point[0] - x) < Math.abs(points[best][0] - x)) best = index; });
  cross(best);
});

function step(event) {
  const points = JSON.parse(event.target.dataset.points), from = chosen < 0 ? points.length - 1 : chosen;
  const to = { ArrowLeft: from - 1, ArrowRight: from + 1, Home: 0, End: points.length - 1 }[event.key];
  if (to === undefined) return;
  event.preventDefault();
  cross(to);
}

// --- theme -------------------------------------------------------------------------------------------------------
const themes = ["system", "light", "dark"];
const button = document.querySelector("[data-theme-switch]");
function wear(theme) {
  if (theme === "system") delete document.documentElement.dataset.theme;
  else document.documentElement.dataset.theme = theme;
  button.querySelector("span").textContent = theme;
}
let theme = "system";
try { theme = localStorage.getItem("poolmgr-theme") || "system"; } catch { /* storage may be forbidden */ }
wear(theme);
button.addEventListener("click", () => {
  theme = themes[(themes.indexOf(theme) + 1) % themes.length];
  wear(theme);
  try { localStorage.setItem("poolmgr-theme", theme); } catch { /* then it lasts as long as the page */ }
});

place();
localise(document);
document.querySelector("[data-zone]").textContent = Intl.DateTimeFormat().resolvedOptions().timeZone;
connect();
setInterval(watch, 1000);
addEventListener("visibilitychange", watch);
addEventListener("pagehide", () => { source.close(); due = Infinity; });
addEventListener("pageshow", (event) => { if (event.persisted) connect(); });
