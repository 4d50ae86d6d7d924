// The live view. Names, labels and reasons come from outside: they are only ever set as text.

import { Chart } from "/charts.js";
import { ClassFilter } from "/classes.js";
import { FoundList } from "/found.js";

const byId = (id) => document.getElementById(id);
const NONE = "\u2013";
const POLL_MS = 1000, PATIENCE_MS = 3000, RETRY_MS = 2000, ASLEEP_MS = 10000;
const ASK_AGAIN = "Connection lost: the device does not answer. Trying again.";
const DEFAULT_THRESHOLD = { detect: 0.5, classify: 0.01 };

let camera = new URLSearchParams(location.search).get("camera");
let labelsOf = null; // the camera whose labels are here
let task = "detect";
let changing = false; // whether a change is on its way
let changes = 0; // so far: what the server was asked before the last one is old
let clockOffset_ms = 0;
let status = null;
let timers = [];
let events = null;
let run = null; // which start of the program the page talks to
const found = new FoundList();

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
let retry = null;
stream.addEventListener("load", () => showPicture(true));
stream.addEventListener("error", () => {
  showPicture(false);
  retry = later(() => { if (status?.ended) stream.removeAttribute("src"); else showStream(); }, RETRY_MS);
});

function showPicture(isThere) {
  byId("figure").classList.toggle("live", isThere);
  showSnapshot();
}

// Where there is no picture, there is none to keep.
function showSnapshot() {
  const link = byId("snapshot"), isThere = byId("figure").classList.contains("live") && !status?.ended;
  if (isThere) link.href = url("/snapshot.jpg");
  else link.removeAttribute("href");
  link.ariaDisabled = String(!isThere);
}

function showStream() {
  clearTimeout(retry);
  // Another query each time: a browser that has lost the stream would show its last picture again.
  stream.src = url("/stream.mjpg", { t: Date.now() });
}

// --- records and states, as they come

function listen() {
  events = new EventSource(url("/api/detections"));
  events.addEventListener("message", (event) => found.take(JSON.parse(event.data)));
  events.addEventListener("state", (event) => showStatus(JSON.parse(event.data)));
  events.addEventListener("error", () => {
    // Of itself it tries again after a lost connection, not after an answer that says no.
    if (events.readyState !== EventSource.CLOSED) return;
    const closed = events;
    later(() => { if (events === closed) listen(); }, RETRY_MS);
  });
}

// What was open may be of a server that is gone, and a browser does not always notice: it keeps the last picture.
function openAgain() {
  if (events === null) return;
  events.close();
  listen();
  showStream();
}

// --- the state

function showStatus(told) {
  // It may come back with another run, or with the same.
  if (status?.ended && !told.ended) showStream();
  status = told;
  byId("pill").dataset.state = byId("figure").dataset.state = told.state;
  byId("figure").classList.toggle("ended", told.ended);
  byId("state").textContent = told.state;
  document.title = told.state === "live" ? "edge-mnv2" : `${told.state}: edge-mnv2`;
  byId("reason").textContent = told.reason;
  byId("placeholder").textContent = placeholder(told);
  showSnapshot();
  showSince();
}

function placeholder(told) {
  if (told.state === "live") return "Waiting for the picture";
  if (told.state === "ended") return "This camera has ended";
  return told.ended ? "This camera is lost, and not tried again" : `The camera is ${told.state}`;
}

function showSince() {
  if (status === null) return;
  if (status.state !== "live" && !status.lost_since && !status.ended) {
    // Each attempt begins anew: its age says nothing.
    byId("since").textContent = status.attempt > 1 ? `no picture yet, attempt ${status.attempt}` : "no picture yet";
    return;
  }
  const start = new Date(status.lost_since ?? status.since);
  const past_s = Math.max(0, Math.round((Date.now() + clockOffset_ms - start) / 1000));
  const word = status.lost_since ? "no picture since" : `${status.state} since`;
  const tries = status.attempt > 1 ? `, attempt ${status.attempt}` : "";
  byId("since").textContent = `${word} ${start.toLocaleTimeString()} (${duration(past_s)}${tries})`;
}

const duration = (s) =>
  s < 60 ? `${s} s` : s < 3600 ? `${Math.floor(s / 60)} min ${s % 60} s` : `${Math.floor(s / 3600)} h ${Math.floor((s % 3600) / 60)} min`;

let isPolling = false;
let wasAway = false; // whether the device did not answer, or nobody could ask
let asked_ms = null;

async function poll() {
  if (isPolling) return;
  isPolling = true;
  // A computer that slept: the server may have hung up meanwhile.
  if (asked_ms !== null && Date.now() - asked_ms > ASLEEP_MS) wasAway = true;
  try {
    const needsLabels = labelsOf === null || labelsOf !== camera;
    const changesBefore = changes;
    const answer = await fetch(url("/api/state", needsLabels ? {} : { labels: "no" }), {
      signal: AbortSignal.timeout(PATIENCE_MS),
    });
    if (answer.status === 401) return location.reload();
    if (answer.status === 404 && camera !== null) return void location.replace("/"); // the camera of an old bookmark
    if (!answer.ok) throw new Error(await problemOf(answer));
    const state = await answer.json();
    clockOffset_ms = new Date(state.time) - Date.now();
    showBanner("");
    if (run !== null && run !== state.run) labelsOf = null; // it may have another model
    if (wasAway || (run !== null && run !== state.run)) openAgain();
    run = state.run;
    wasAway = false;
    if (state.cameras.length) showCamera(state, state.cameras[0], changesBefore === changes);
    else showBanner("There is no camera yet.");
  } catch (error) {
    const isAway = error instanceof TypeError || error.name === "TimeoutError";
    wasAway ||= isAway;
    if (isAway) showPicture(false);
    if (isAway) byId("placeholder").textContent = "No connection";
    showBanner(isAway ? ASK_AGAIN : error.message);
    for (const chart of Object.values(charts)) chart.add(null);
  } finally {
    isPolling = false;
    asked_ms = Date.now();
  }
}

function showBanner(text) {
  const banner = byId("banner");
  if (banner.textContent !== text) banner.textContent = text;
  banner.hidden = !text;
}

function showCamera(state, told, isFresh) {
  camera ??= told.name;
  showSwitcher(state.names, state.states);
  if (told.image) byId("figure").style.setProperty("--ratio", `${told.image.width} / ${told.image.height}`);
  if (told.labels) {
    labelsOf = camera;
    task = told.task;
    byId("threshold-field").hidden = !(task in DEFAULT_THRESHOLD);
    classes.setLabels(told.labels);
  }
  showStatus({ ...told, camera: told.name });
  const isLive = told.state === "live"; // else these are of a picture long ago
  charts.fps.add(isLive ? told.fps : null, "no picture");
  charts.age.add(isLive ? told.age_ms : null, "no picture");
  charts.infer.add(isLive ? told.stages_ms.infer ?? null : null, "no picture");
  charts.temperature.add(state.device.temperature_c.value);
  charts.power.add(state.device.power_w.value);
  if (isFresh && !changing) showDecoder(told.decoder);
  showFacts(told);
}

function showSwitcher(names, states) {
  const select = byId("camera");
  if ([...select.options].map((option) => option.value).join("\n") !== names.join("\n")) {
    select.replaceChildren(...names.map((name) => new Option(name, name)));
  }
  names.forEach((name, index) => {
    const text = states[index] === "live" ? name : `${name} (${states[index]})`;
    if (select.options[index].text !== text) select.options[index].text = text;
  });
  select.value = camera;
  byId("switcher").hidden = names.length < 2;
  const away = states.filter((state) => state !== "live").length;
  byId("others").textContent = away ? `${away} of ${names.length} not live` : "";
}

function showFacts(told) {
  const drops = Object.entries(told.drops).filter(([, count]) => count > 0);
  const size = told.image && `${told.image.width} \u00d7 ${told.image.height}`;
  const stages = Object.entries(told.stages_ms).map(([stage, ms]) => `${stage} ${ms.toFixed(1)}`);
  const rows = [
    ["Source", told.source], ["Picture", size], ["Model", told.model], ["Engine", told.engine],
    ["Stages", stages.length ? `${stages.join(", ")} ms` : ""],
    ["Frames", told.frames.toLocaleString()],
    ["Drops", drops.length ? drops.map(([cause, count]) => `${count.toLocaleString()} ${cause}`).join(", ") : "none"],
    ["Viewers", String(told.viewers)],
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
  changes += 1;
  if (changing) return;
  changing = true;
  while (Object.keys(wanted).length) await send(take(wanted));
  changing = false;
}

function take(wishes) {
  const taken = { ...wishes, camera };
  for (const key of Object.keys(wishes)) delete wishes[key];
  return taken;
}

async function send(wish) {
  try {
    const answer = await fetch("/api/decoder", {
      method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(wish),
      signal: AbortSignal.timeout(PATIENCE_MS),
    });
    byId("problem").textContent = answer.ok ? "" : await problemOf(answer);
    const decoder = answer.ok ? (await answer.json()).decoder : null;
    // Whoever has moved on meanwhile must not be pulled back.
    if (decoder && !Object.keys(wanted).length) showDecoder(decoder);
  } catch {
    byId("problem").textContent = ASK_AGAIN;
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
  const timer = setTimeout(action, pause_ms);
  timers.push(timer);
  return timer;
}

function resume() {
  if (events !== null) return;
  showStream();
  listen();
  poll();
  timers.push(setInterval(poll, POLL_MS), setInterval(showSince, POLL_MS));
  found.start();
}

function pause() {
  timers.forEach(clearTimeout);
  timers = [];
  found.stop();
  asked_ms = null;
  events?.close();
  events = null;
  stream.removeAttribute("src");
  showPicture(false);
}

byId("camera").addEventListener("change", (event) => {
  pause();
  camera = event.target.value;
  history.replaceState(null, "", url("/"));
  status = null;
  found.clear();
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
