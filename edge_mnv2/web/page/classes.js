// The class filter: chosen classes as chips, the others in a list that can be searched.

const MOST_SHOWN = 60;

export class ClassFilter {
  // onChange gets the labels to report, null for all.
  constructor(onChange) {
    this.onChange = onChange;
    this.labels = [];
    this.chosen = null;
    this.field = document.getElementById("classes-field");
    this.chips = document.getElementById("chosen");
    this.search = document.getElementById("class-search");
    this.choices = document.getElementById("choices");
    this.all = document.getElementById("all-classes");
    this.search.addEventListener("input", () => this.showChoices());
    this.search.addEventListener("keydown", (event) => {
      const first = this.choices.querySelector("button");
      if (event.key === "Enter" && first) first.click();
      if (event.key === "Escape") { this.search.value = ""; this.showChoices(); }
    });
    this.all.addEventListener("click", () => this.choose(null));
  }

  // labels: by class id, as the state has them.
  setLabels(labels) {
    this.byId = labels;
    this.labels = [...new Set(Object.values(labels))];
    this.field.hidden = !this.labels.length;
    this.show();
  }

  // classes: labels or numbers as the server has them, null for all.
  setChosen(classes) {
    const known = new Map(this.labels.map((label) => [label.toLowerCase(), label]));
    const name = (given) => known.get(given.trim().toLowerCase()) ?? this.byId?.[given.trim()] ?? given;
    const chosen = classes === null ? null : [...new Set(classes.map(name))];
    if (JSON.stringify(chosen) === JSON.stringify(this.chosen) && this.isShown) return;
    this.chosen = chosen;
    this.show();
  }

  choose(classes) {
    this.chosen = classes && classes.length ? classes : null;
    this.show();
    this.onChange(this.chosen);
  }

  show() {
    this.isShown = true;
    this.all.hidden = this.chosen === null;
    this.chips.replaceChildren();
    if (this.chosen === null) {
      const item = document.createElement("li");
      item.className = "quiet";
      item.textContent = "All are reported";
      this.chips.append(item);
    }
    for (const label of this.chosen ?? []) {
      this.chips.append(button(label, `Report ${label} no more`, "chip", () => {
        this.choose(this.chosen.filter((other) => other !== label));
        this.search.focus();
      }));
    }
    this.showChoices();
  }

  showChoices() {
    const wanted = this.search.value.trim().toLowerCase();
    const left = this.labels.filter((label) => !this.chosen?.includes(label) && label.toLowerCase().includes(wanted));
    // A thousand classes are searched, not scrolled.
    const shown = wanted || this.labels.length <= MOST_SHOWN * 2 ? left.slice(0, MOST_SHOWN * 2) : [];
    this.choices.replaceChildren(...shown.map((label) => button(label, `Report ${label}`, "choice", () => {
      this.search.value = "";
      this.choose([...(this.chosen ?? []), label]);
      this.search.focus({ preventScroll: true });
    })));
    if (wanted && !left.length) {
      const item = document.createElement("li");
      item.className = "quiet";
      item.textContent = "No class is called so";
      this.choices.append(item);
    }
  }
}

function button(label, description, kind, onClick) {
  const item = document.createElement("li"), made = document.createElement("button");
  made.type = "button";
  made.className = kind;
  made.textContent = label;
  made.setAttribute("aria-label", description);
  made.addEventListener("click", onClick);
  item.append(made);
  return item;
}
