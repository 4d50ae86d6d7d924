// The live view. Names, labels and reasons come from outside: they are only ever set as text.

import { Chart } from "/charts.js";
import { ClassFilter } from "/classes.js";

const byId = (id) => document.getElementById(id);
const NONE = "\u2013";
const POLL_MS = 1000, PATIENCE_MS = 3000, RETRY_MS = 2000, FOUND_MS = 250, SILENT_MS = 1000, REMEMBERED_MS = 5000;
const ASK_AGAIN = "The device does not answer. Trying again.";
const DEFAULT_THRESHOLD = { detect: 0.5, classify: 0.01 };

let camera = new URLSearchParams(location.search).get("camera");
let labelsOf = null; // the camera whose labels are here
let task = "detect";
let changing = 0; // changes on their way: what the server says meanwhile is old
let clockOffset_ms = 0;
let status = null;
let timers = [];
let events = null;

const charts = {
  fps: new Chart(byId("charts"), { title: "Frame rate", unit: "FPS", digits: 1, least: 4 }),
  age: new Chart(byId("charts"), { title: "Age", unit: "ms", digits: 0, least: 10 }),
  infer: new Chart(byId("charts"), { title: "Inference", unit: "ms", digits: 1, least: 4 }),
  temperature: new Chart(byId("charts"), { title: "Temperature", unit: "\u00b0C", digits: 1, least: 4 }),
  power: new Chart(byId("charts"), { title: "Power", unit: "W", digits: 1, least: 1 }),
};

const url = (path, more = {}) => {
  const query = new URLSearchParams({ ...(camera === null ? {} : { camera }), ...more }).toString();
  return query ? `${path}?${query}` : path;
};

// --- the picture

const stream = byId("stream");
stream.addEventListener("load", () => byId("figure").classList.add("live"));
stream.addEventListener("error", () => {
  byId("figure").classList.remove("live");
  if (stream.hasAttribute("src")) later(showStream, RETRY_MS);
});

function showStream() {
  // Another query each time: a browser that has lost the stream would show its last picture again.
  stream.src = url("/stream.mjpg", { t: Date.now() });
}

// --- records and states, as they come

let latest = null; // the newest record that is not shown yet
let kind = "detections";
let heard_ms = 0;
const seen = new Map();

function listen() {
  events = new EventSource(url("/api/detections"));
  events.addEventListener("message", (event) => { latest = JSON.parse(event.data); });
  events.addEventListener("state", (event) => showStatus(JSON.parse(event.data)));
  events.addEventListener("error", () => {
    // Of itself it tries again after a lost connection, not after an answer that says no.
    if (events.readyState !== EventSource.CLOSED) return;
    const closed = events;
    later(() => { if (events === closed) listen(); }, RETRY_MS);
  });
}

const UNITS = {
  detections: (entries) => ({ count: entries.length, best: Math.max(...entries.map((entry) => entry.score)) }),
  segments: (entries) => ({ share: entries[0].share, best: entries[0].share }),
  classes: (entries) => ({ share: entries[0].score, best: entries[0].score }),
};

function showFound() {
  const now_ms = performance.now();
  if (latest !== null) {
    kind = Object.keys(UNITS).find((key) => key in latest);
    heard_ms = now_ms;
  } else if (now_ms - heard_ms < SILENT_MS) {
    return;
  }
  const groups = new Map();
  for (const entry of latest?.[kind] ?? []) {
    if (!groups.has(entry.label)) groups.set(entry.label, []);
    groups.get(entry.label).push(entry);
  }
  latest = null;
  for (const [label, entries] of groups) seen.set(label, { ...UNITS[kind](entries), at_ms: now_ms });
  for (const [label, row] of seen) {
    // A class that flickers keeps its row for a while; a ranking is what it is.
    if (now_ms - row.at_ms > (kind === "classes" ? 0 : REMEMBERED_MS)) seen.delete(label);
    else if (!groups.has(label)) Object.assign(row, { count: 0, share: 0, best: 0 });
  }
  // By name, so that rows do not jump.
  const order = kind === "classes" ? (a, b) => b[1].best - a[1].best : (a, b) => a[0].localeCompare(b[0]);
  const rows = [...seen].sort(order).map(([label, row]) => foundRow(label, row));
  byId("found").replaceChildren(...rows);
  byId("nothing").hidden = rows.length > 0;
}

function foundRow(label, row) {
  const item = document.createElement("li"), name = document.createElement("span"), value = document.createElement("b");
  const meter = document.createElement("span"), fill = document.createElement("span");
  name.className = "name";
  name.textContent = label;
  value.textContent = kind === "detections" ? String(row.count) : `${Math.round(row.share * 100)} %`;
  meter.className = "meter";
  fill.style.width = `${Math.round(row.best * 100)}%`;
  meter.append(fill);
  meter.title = kind === "detections" ? `best score ${row.best.toFixed(2)}` : "";
  item.className = row.best ? "" : "gone";
  item.append(name, value, meter);
  return item;
}

// --- the state

function showStatus(found) {
  status = found;
  byId("pill").dataset.state = byId("figure").dataset.state = found.state;
  byId("state").textContent = found.state;
  document.title = found.state === "live" ? "edge-mnv2" : `${found.state}: edge-mnv2`;
  byId("reason").textContent = found.reason;
  if (!byId("figure").classList.contains("live")) {
    byId("placeholder").textContent = found.state === "live" ? "Waiting for the first picture" : found.reason || `The camera is ${found.state}`;
  }
  showSince();
}

function showSince() {
  if (status === null) return;
  const start = new Date(status.lost_since ?? status.since);
  const past_s = Math.max(0, Math.round((Date.now() + clockOffset_ms - start) / 1000));
  const word = status.lost_since ? "no picture since" : `${status.state} since`;
  const tries = status.attempt > 1 ? `, attempt ${status.attempt}` : "";
  byId("since").textContent = `${word} ${start.toLocaleTimeString()} (${duration(past_s)}${tries})`;
}

const duration = (s) =>
  s < 60 ? `${s} s` : s < 3600 ? `${Math.floor(s / 60)} min ${s % 60} s` : `${Math.floor(s / 3600)} h ${Math.floor((s % 3600) / 60)} min`;

let isPolling = false;
let wasAway = false; // whether the device did not answer

async function poll() {
  if (isPolling) return;
  isPolling = true;
  try {
    const needsLabels = labelsOf === null || labelsOf !== camera;
    const answer = await fetch(url("/api/state", needsLabels ? {} : { labels: "no" }), {
      signal: AbortSignal.timeout(PATIENCE_MS),
    });
    if (answer.status === 401) return location.reload();
    if (answer.status === 404 && camera !== null) return void location.replace("/"); // the camera of an old bookmark
    if (!answer.ok) throw new Error(await problemOf(answer));
    const state = await answer.json();
    clockOffset_ms = new Date(state.time) - Date.now();
    showBanner("");
    // A browser does not tell that a picture's stream broke off: it keeps the last one.
    if (wasAway && stream.hasAttribute("src")) showStream();
    wasAway = false;
    if (state.cameras.length) showCamera(state, state.cameras[0]);
    else showBanner("There is no camera yet.");
  } catch (error) {
    const isAway = error instanceof TypeError || error.name === "TimeoutError";
    wasAway ||= isAway;
    if (isAway) byId("figure").classList.remove("live");
    showBanner(isAway ? ASK_AGAIN : error.message);
    for (const chart of Object.values(charts)) chart.add(null);
  } finally {
    isPolling = false;
  }
}

function showBanner(text) {
  const banner = byId("banner");
  if (banner.textContent !== text) banner.textContent = text;
  banner.hidden = !text;
}

function showCamera(state, found) {
  camera ??= found.name;
  showSwitcher(state.names);
  byId("snapshot").href = url("/snapshot.jpg");
  if (found.labels) {
    labelsOf = camera;
    task = found.task;
    byId("threshold-field").hidden = !(task in DEFAULT_THRESHOLD);
    classes.setLabels(found.labels);
  }
  showStatus({ ...found, camera: found.name });
  charts.fps.add(found.fps);
  const isLive = found.state === "live"; // else these are of a picture long ago
  charts.age.add(isLive ? found.age_ms : null);
  charts.infer.add(isLive ? found.stages_ms.infer ?? null : null);
  charts.temperature.add(state.device.temperature_c.value);
  charts.power.add(state.device.power_w.value);
  if (!changing) showDecoder(found.decoder);
  showFacts(found);
}

function showSwitcher(names) {
  const select = byId("camera");
  if ([...select.options].map((option) => option.value).join("\n") !== names.join("\n")) {
    select.replaceChildren(...names.map((name) => new Option(name, name)));
  }
  select.value = camera;
  byId("switcher").hidden = names.length < 2;
}

function showFacts(found) {
  const drops = Object.entries(found.drops).filter(([, count]) => count > 0);
  const size = found.image && `${found.image.width} \u00d7 ${found.image.height}`;
  const stages = Object.entries(found.stages_ms).map(([stage, ms]) => `${stage} ${ms.toFixed(1)}`);
  const rows = [
    ["Source", found.source], ["Picture", size], ["Model", found.model], ["Engine", found.engine],
    ["Stages", stages.length ? `${stages.join(", ")} ms` : ""],
    ["Frames", found.frames.toLocaleString()],
    ["Drops", drops.length ? drops.map(([cause, count]) => `${count.toLocaleString()} ${cause}`).join(", ") : "none"],
    ["Viewers", String(found.viewers)],
  ];
  const list = byId("facts");
  if (list.children.length !== rows.length * 2) {
    list.replaceChildren(...rows.flatMap(() => [document.createElement("dt"), document.createElement("dd")]));
  }
  rows.forEach(([name, value], index) => {
    list.children[2 * index].textContent = name;
    list.children[2 * index + 1].textContent = value || NONE;
  });
}

// --- what is reported

const slider = byId("threshold");
const classes = new ClassFilter((chosen) => change({ classes: chosen }));
const wanted = {}; // the newest change that is not on its way yet

slider.addEventListener("input", () => {
  byId("threshold-value").textContent = Number(slider.value).toFixed(2);
  change({ threshold: Number(slider.value) });
});

function showDecoder(decoder) {
  const threshold = decoder.threshold ?? DEFAULT_THRESHOLD[task] ?? 0.5;
  if (Math.abs(Number(slider.value) - threshold) > 1e-9) slider.value = String(threshold);
  byId("threshold-value").textContent = threshold.toFixed(2);
  classes.setChosen(decoder.classes);
}

// One request at a time, with the newest wish: a slider gives dozens a second.
async function change(wish) {
  Object.assign(wanted, wish);
  if (changing) return;
  changing += 1;
  try {
    while (Object.keys(wanted).length) {
      const body = { ...wanted, camera };
      for (const key of Object.keys(wanted)) delete wanted[key];
      const answer = await fetch("/api/decoder", {
        method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(body),
      });
      byId("problem").textContent = answer.ok ? "" : await problemOf(answer);
      if (answer.ok && !Object.keys(wanted).length) showDecoder((await answer.json()).decoder);
    }
  } catch {
    byId("problem").textContent = ASK_AGAIN;
  } finally {
    changing -= 1;
  }
}

async function problemOf(answer) {
  try {
    return (await answer.json()).error;
  } catch {
    return `The device answers with error ${answer.status}.`;
  }
}

// --- begin, pause while nobody looks, go on

function later(action, pause_ms) {
  timers.push(setTimeout(action, pause_ms));
}

function resume() {
  if (events !== null) return;
  showStream();
  listen();
  poll();
  timers.push(setInterval(poll, POLL_MS), setInterval(showFound, FOUND_MS), setInterval(showSince, POLL_MS));
}

function pause() {
  timers.forEach(clearTimeout);
  timers = [];
  events?.close();
  events = null;
  stream.removeAttribute("src");
  byId("figure").classList.remove("live");
}

byId("camera").addEventListener("change", (event) => {
  pause();
  camera = event.target.value;
  history.replaceState(null, "", url("/"));
  seen.clear();
  byId("found").replaceChildren();
  byId("problem").textContent = "";
  Object.values(charts).forEach((chart) => chart.clear());
  resume();
});

const followVisibility = () => (document.hidden ? pause() : resume());
document.addEventListener("visibilitychange", followVisibility);
window.addEventListener("pagehide", pause);
// The first time, too: not before the page is loaded, as a picture that never ends would keep it loading.
window.addEventListener("pageshow", followVisibility);
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => Object.values(charts).forEach((chart) => chart.draw()));
