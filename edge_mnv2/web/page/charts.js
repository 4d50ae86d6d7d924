// Small charts of the last minute: one value a second, a gap where there is none.

const SPAN_S = 60;
const NONE = "\u2013";

export class Chart {
  // title and unit are shown as they are; digits after the point; least: the smallest span of the scale.
  constructor(parent, { title, unit, digits, least }) {
    Object.assign(this, { title, unit, digits, least, points: [] });
    const card = document.createElement("div");
    card.className = "card chart";
    const name = document.createElement("h3");
    name.textContent = title;
    this.value = document.createElement("p");
    this.value.className = "value";
    this.number = document.createElement("span");
    const label = document.createElement("small");
    label.textContent = unit;
    this.value.append(this.number, " ", label);
    this.canvas = document.createElement("canvas");
    this.canvas.setAttribute("role", "img");
    this.range = document.createElement("p");
    this.range.className = "range quiet";
    card.append(name, this.value, this.canvas, this.range);
    parent.append(card);
    this.number.textContent = NONE;
    new ResizeObserver(() => this.draw()).observe(this.canvas);
  }

  // value: null where it is unavailable. note: why, shown under an empty chart.
  add(value, note = "not available") {
    const now_s = performance.now() / 1000;
    this.points.push({ at_s: now_s, value });
    while (this.points[0].at_s < now_s - SPAN_S - 2) this.points.shift();
    const known = this.points.filter((point) => point.value !== null).map((point) => point.value);
    const text = value === null ? NONE : value.toFixed(this.digits);
    this.number.textContent = text;
    if (known.length) {
      const low = Math.min(...known).toFixed(this.digits);
      const high = Math.max(...known).toFixed(this.digits);
      this.range.textContent = low === high ? `steady at ${low}` : `${low} to ${high}`;
    } else {
      this.range.textContent = note;
    }
    this.canvas.setAttribute("aria-label", `${this.title}: ${text} ${this.unit}; last minute: ${this.range.textContent}`);
    this.draw();
  }

  clear() {
    this.points = [];
    this.number.textContent = NONE;
    this.range.textContent = "";
    this.draw();
  }

  draw() {
    const ratio = window.devicePixelRatio || 1;
    const width = this.canvas.clientWidth, height = this.canvas.clientHeight;
    if (!width || !height) return;
    this.canvas.width = Math.round(width * ratio);
    this.canvas.height = Math.round(height * ratio);
    const pen = this.canvas.getContext("2d");
    pen.scale(ratio, ratio);
    const style = getComputedStyle(this.canvas);
    const line = style.getPropertyValue("--line").trim(), accent = style.getPropertyValue("--accent").trim();
    pen.strokeStyle = line;
    pen.lineWidth = 1;
    for (const part of [0, 0.5, 1]) {
      const y = Math.round(1 + part * (height - 3)) + 0.5;
      pen.beginPath();
      pen.moveTo(0, y);
      pen.lineTo(width, y);
      pen.stroke();
    }
    const known = this.points.filter((point) => point.value !== null);
    if (!known.length) return;
    const low = Math.min(...known.map((point) => point.value)), high = Math.max(...known.map((point) => point.value));
    // A quiet value shall look quiet: the scale never zooms into its noise.
    const span = Math.max(high - low, this.least, high * 0.2) * 1.15, middle = (high + low) / 2;
    const bottom = Math.max(0, middle - span / 2);
    const now_s = this.points[this.points.length - 1].at_s;
    const x = (point) => width - 3 - ((now_s - point.at_s) / SPAN_S) * (width - 3);
    const y = (point) => height - 3 - ((point.value - bottom) / span) * (height - 6);
    for (const run of runs(this.points)) this.drawRun(pen, run, x, y, height, accent);
    const last = this.points[this.points.length - 1];
    if (last.value !== null) {
      pen.fillStyle = accent;
      pen.beginPath();
      pen.arc(x(last), y(last), 2.6, 0, 7);
      pen.fill();
    }
  }

  drawRun(pen, run, x, y, height, accent) {
    pen.beginPath();
    run.forEach((point, index) => (index ? pen.lineTo(x(point), y(point)) : pen.moveTo(x(point), y(point))));
    pen.strokeStyle = accent;
    pen.lineWidth = 1.8;
    pen.lineJoin = "round";
    pen.stroke();
    pen.lineTo(x(run[run.length - 1]), height - 1);
    pen.lineTo(x(run[0]), height - 1);
    pen.globalAlpha = 0.12;
    pen.fillStyle = accent;
    pen.fill();
    pen.globalAlpha = 1;
  }
}

// Rows of points without a gap between them.
function runs(points) {
  const found = [];
  let run = [];
  for (const point of points) {
    const before = run[run.length - 1];
    if (point.value === null || (before && point.at_s - before.at_s > 5)) {
      if (run.length) found.push(run);
      run = [];
    }
    if (point.value !== null) run.push(point);
  }
  if (run.length) found.push(run);
  return found;
}
