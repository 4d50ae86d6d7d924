// What is in view, by class.

const FOUND_MS = 250, SILENT_MS = 1000, REMEMBERED_MS = 5000;

const UNITS = {
  detections: (entries) => ({ count: entries.length, best: Math.max(...entries.map((entry) => entry.score)) }),
  segments: (entries) => ({ share: entries[0].share, best: entries[0].share }),
  classes: (entries) => ({ share: entries[0].score, best: entries[0].score }),
};

export class FoundList {
  constructor() {
    this.list = document.getElementById("found");
    this.nothing = document.getElementById("nothing");
    this.latest = null; // the newest record that is not shown yet
    this.kind = "detections";
    this.heard_ms = 0;
    this.seen = new Map();
    this.timer = null;
  }

  take(record) {
    this.latest = record;
  }

  start() {
    this.timer = setInterval(() => this.show(), FOUND_MS);
  }

  stop() {
    clearInterval(this.timer);
  }

  clear() {
    this.latest = null;
    this.seen.clear();
    this.list.replaceChildren();
  }

  show() {
    const now_ms = performance.now();
    if (this.latest !== null) {
      this.kind = Object.keys(UNITS).find((key) => key in this.latest);
      this.heard_ms = now_ms;
    } else if (now_ms - this.heard_ms < SILENT_MS) {
      return;
    }
    const groups = new Map();
    for (const entry of this.latest?.[this.kind] ?? []) {
      if (!groups.has(entry.label)) groups.set(entry.label, []);
      groups.get(entry.label).push(entry);
    }
    this.latest = null;
    this.remember(groups, now_ms);
    // By name, so that rows do not jump.
    const isRanking = this.kind === "classes";
    const order = isRanking ? (a, b) => b[1].best - a[1].best : (a, b) => a[0].localeCompare(b[0]);
    this.list.dataset.kind = this.kind;
    this.list.replaceChildren(...[...this.seen].sort(order).map(([label, row]) => this.row(label, row)));
    this.nothing.hidden = this.seen.size > 0;
  }

  remember(groups, now_ms) {
    for (const [label, entries] of groups) this.seen.set(label, { ...UNITS[this.kind](entries), at_ms: now_ms });
    for (const [label, row] of this.seen) {
      // A class that flickers keeps its row for a while; a ranking is what it is.
      if (now_ms - row.at_ms > (this.kind === "classes" ? 0 : REMEMBERED_MS)) this.seen.delete(label);
      else if (!groups.has(label)) Object.assign(row, { count: 0, share: 0, best: 0 });
    }
  }

  row(label, row) {
    const item = document.createElement("li"), name = document.createElement("span"), value = document.createElement("b");
    const meter = document.createElement("span"), fill = document.createElement("span");
    name.className = "name";
    name.textContent = label;
    value.textContent = this.kind === "detections" ? String(row.count) : `${Math.round(row.share * 100)} %`;
    meter.className = "meter";
    fill.style.width = `${Math.round(row.best * 100)}%`;
    meter.append(fill);
    meter.title = this.kind === "detections" ? `best score ${row.best.toFixed(2)}` : "";
    item.className = row.best ? "" : "gone";
    item.append(name, value, meter);
    return item;
  }
}
