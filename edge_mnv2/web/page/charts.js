// Small charts of the last minute: one value a second, a gap where there is none.

const SPAN_S = 60;
const GUTTER = 30, MARGIN = 6; // px: for the numbers of the scale, and half of their height
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
    const foot = document.createElement("p"), span = document.createElement("span");
    foot.className = "foot quiet";
    this.range = document.createElement("span");
    span.className = "span";
    span.textContent = `${SPAN_S} s`;
    span.title = `The last ${SPAN_S} seconds`;
    foot.append(this.range, span);
    card.append(name, this.value, this.canvas, foot);
    this.card = card;
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
    this.card.classList.toggle("empty", !known.length);
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
    const colour = (name) => style.getPropertyValue(name).trim();
    const accent = colour("--accent");
    const known = this.points.filter((point) => point.value !== null).map((point) => point.value);
    const { bottom, step } = scale(Math.min(...known), Math.max(...known), this.least);
    const left = known.length ? GUTTER : 0;
    const y = (point) => height - MARGIN - ((point.value - bottom) / (2 * step)) * (height - 2 * MARGIN);
    pen.font = `10px ${style.fontFamily}`;
    pen.textBaseline = "middle";
    pen.textAlign = "right";
    pen.fillStyle = colour("--quiet");
    pen.strokeStyle = colour("--line");
    pen.lineWidth = 1;
    for (const part of [0, 1, 2]) {
      const value = bottom + part * step, line = Math.round(y({ value })) + 0.5;
      pen.beginPath();
      pen.moveTo(left, line);
      pen.lineTo(width, line);
      pen.stroke();
      if (known.length && part !== 1) pen.fillText(shortest(value), left - 5, line);
    }
    if (!known.length) return;
    const now_s = this.points[this.points.length - 1].at_s;
    const x = (point) => Math.max(left, width - 3 - ((now_s - point.at_s) / SPAN_S) * (width - 3 - left));
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
    pen.lineTo(x(run[run.length - 1]), height - MARGIN);
    pen.lineTo(x(run[0]), height - MARGIN);
    pen.globalAlpha = 0.12;
    pen.fillStyle = accent;
    pen.fill();
    pen.globalAlpha = 1;
  }
}

// The scale: two steps of 1, 2 or 5 times a power of ten, from a multiple of the step.
// A quiet value shall look quiet: it never zooms into its noise.
function scale(low, high, least) {
  if (low > high) return { bottom: 0, step: 1 };
  const smallest = Math.max(high - low, least, high * 0.2) / 2;
  for (let power = Math.floor(Math.log10(smallest)); ; power += 1) {
    for (const factor of [1, 2, 5]) {
      const step = factor * 10 ** power, bottom = Math.max(0, Math.round((low + high) / 2 / step - 1) * step);
      if (step >= smallest && bottom <= low && bottom + 2 * step >= high) return { bottom, step };
    }
  }
}

// 20 and 2.5, not 20.0 and 2.50000001.
const shortest = (value) => (value >= 10000 ? `${Math.round(value / 1000)}k` : String(Number(value.toPrecision(4))));

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
