// The answers: filtered as a whole, drawn only as far as they are visible.
const data = JSON.parse(document.getElementById("data").textContent);
const list = document.getElementById("list");
const dialog = document.getElementById("one");
const bar = document.querySelector(".bar");
const EXTRA = 5; // rows drawn above and below the visible ones
const SIGNS = { right: "✓ right", wrong: "✗ wrong", partly: "~ partly", unscored: "? unscored", none: "not evaluated" };
const drawn = new Map(); // rows by their place in `shown`
const orders = {}; // by run
const types = new Map(); // of each benchmark
for (const one of data.questions) {
  if (!types.has(one.benchmark)) types.set(one.benchmark, new Set());
  types.get(one.benchmark).add(one.type);
}
let shown = []; // numbers of the questions that pass the filters
let height = 150;
let current = -1;

// An element with text or elements in it; texts stay texts.
function make(tag, attributes, ...children) {
  const made = document.createElement(tag);
  for (const [name, content] of Object.entries(attributes)) made.setAttribute(name, content);
  made.append(...children.filter((child) => child !== null));
  return made;
}

function runs() {
  return data.runs.length > 1 ? [Number(value("a")), Number(value("b"))] : [0];
}

function verdict(answer) {
  if (!answer) return "none";
  if (answer.value === null) return "unscored";
  return answer.value >= 1 ? "right" : answer.value <= 0 ? "wrong" : "partly";
}

// How an answer changes from one run to another: "better", "worse", "unscored" (in one of them), or "".
function change(before, after) {
  if (!before || !after || before.value === after.value) return "";
  if (before.value === null || after.value === null) return "unscored";
  return after.value > before.value ? "better" : "worse";
}

function textOf(one) {
  if (one.search === undefined) {
    const answers = one.answers.filter(Boolean).flatMap((answer) => [answer.text, answer.answer, answer.explanation]);
    const names = one.images.filter((image) => image !== null).map((image) => data.images[image].name);
    one.search = [one.id, one.prompt, ...one.references, ...one.choices, ...names, ...answers].join("\n").toLowerCase();
  }
  return one.search;
}

// The numbers of all questions: as they were evaluated, or by the mean score of their image.
function ordered(run) {
  if (value("order") === "file") return data.questions.map((_, number) => number);
  if (!orders[run]) {
    const images = new Map();
    const keys = data.questions.map((one, number) => (one.images.length ? one.images.join() : `question ${number}`));
    const values = data.questions.map((one) => (one.answers[run] ? one.answers[run].value : null));
    keys.forEach((key, number) => {
      if (!images.has(key)) images.set(key, { first: number, sum: 0, n: 0 });
      if (values[number] !== null) { images.get(key).sum += values[number]; images.get(key).n += 1; }
    });
    const mean = (image) => (image.n ? image.sum / image.n : Infinity);
    orders[run] = keys.map((_, number) => number).sort((x, y) => {
      const [p, q] = [images.get(keys[x]), images.get(keys[y])];
      if (p === q) return (values[x] ?? 2) - (values[y] ?? 2) || x - y;
      return (mean(p) === mean(q) ? 0 : mean(p) - mean(q)) || p.first - q.first;
    });
  }
  return orders[run];
}

function filter() {
  offerTypes();
  const words = searched();
  const [a, b] = runs();
  const chosen = { benchmark: value("benchmark"), type: value("type"), verdict: value("verdict"), change: value("change") };
  const counts = { changed: 0, better: 0, worse: 0 };
  shown = ordered(a).filter((number) => {
    const one = data.questions[number];
    if (chosen.benchmark && one.benchmark !== chosen.benchmark) return false;
    if (chosen.type && one.type !== chosen.type) return false;
    if (chosen.verdict && verdict(one.answers[a]) !== chosen.verdict) return false;
    if (!words.every((word) => textOf(one).includes(word))) return false;
    if (b === undefined) return true;
    const how = change(one.answers[a], one.answers[b]);
    if (how) counts.changed += 1;
    if (how in counts) counts[how] += 1;
    return !chosen.change || chosen.change === how || (chosen.change === "changed" && how !== "");
  });
  showCounts(counts);
  document.body.classList.toggle("hide-boxes", Boolean(form.elements.boxes) && !form.elements.boxes.checked);
  current = -1;
  redraw();
}

function showCounts(counts) {
  const [left, all] = [shown.length, data.questions.length];
  document.getElementById("count").textContent =
    (left < all ? `${left.toLocaleString("en")} of ` : "") + `${all.toLocaleString("en")} questions`;
  document.getElementById("none").hidden = left > 0;
  for (const option of form.elements.change ? form.elements.change.options : []) {
    option.dataset.name ||= option.textContent;
    option.textContent = option.dataset.name + (option.value ? ` (${counts[option.value].toLocaleString("en")})` : "");
  }
}

// Of the types only those of the chosen benchmark.
function offerTypes() {
  if (!form.elements.type) return;
  const known = types.get(value("benchmark"));
  for (const option of form.elements.type.options)
    option.hidden = option.disabled = Boolean(known) && option.value !== "" && !known.has(option.value);
  if (form.elements.type.selectedOptions[0].disabled) form.elements.type.value = "";
}

function picture(one) {
  const known = one.images.filter((image) => image !== null);
  const image = known.length ? data.images[known[0]] : null;
  const none = one.images.length ? "image missing" : "no image";
  return make(
    "button", { class: "picture", type: "button", "aria-label": `Open question ${one.id}` },
    image ? make("img", { src: image.thumbnail, alt: image.name }) : none,
    one.images.length > 1 ? make("span", { class: "more" }, `${one.images.length} images`) : null,
  );
}

function about(one) {
  return [one.benchmark, one.type, one.id].filter(Boolean).join(" · ");
}

function reference(one) {
  return one.references.length ? `Reference: ${one.references.join(" | ")}` : "";
}

function head(one, run, before) {
  const answer = one.answers[run];
  const name = verdict(answer);
  const how = before === undefined || before === run ? "" : change(one.answers[before], answer);
  const sign = name === "partly" ? `~ ${Math.round(100 * answer.value)} %` : SIGNS[name];
  return make(
    "div", { class: "head" },
    make("span", { class: `chip ${name}` }, sign),
    how === "better" || how === "worse" ? make("span", { class: `change ${how}` }, how === "better" ? "▲ better" : "▼ worse") : null,
    data.runs.length > 1 ? make("span", { class: "run" }, data.runs[run]) : null,
  );
}

function row(place) {
  const one = data.questions[shown[place]];
  const [a, b] = runs();
  const answers = (b === undefined || a === b ? [a] : [a, b]).map((run) => {
    const answer = one.answers[run];
    return make(
      "div", { class: "answer" },
      head(one, run, a),
      answer ? make("p", { class: "clip" }, answer.text.trim() || "(empty)") : null,
      answer ? make("p", { class: "clip lines2 why" }, answer.explanation) : null,
    );
  });
  const question = make(
    "div", { class: "question" },
    make("p", { class: "clip" }, one.prompt),
    make("p", { class: "clip lines2 meta" }, reference(one)),
    make("p", { class: "clip lines1 meta" }, about(one)),
  );
  const card = make("div", { class: "card" }, picture(one), question, make("div", { class: "answers" }, ...answers));
  card.addEventListener("click", () => show(place));
  const item = make("li", { class: "row", "aria-setsize": shown.length, "aria-posinset": place + 1 }, card);
  item.style.top = `${place * height}px`;
  return item;
}

// Draw what is visible; a row with the focus stays.
function draw() {
  const top = -list.getBoundingClientRect().top;
  const first = Math.max(0, Math.floor(top / height) - EXTRA);
  const end = Math.min(shown.length, Math.max(first, Math.ceil((top + window.innerHeight) / height)) + EXTRA);
  for (const [place, item] of drawn)
    if ((place < first || place >= end) && !item.contains(document.activeElement)) {
      item.remove();
      drawn.delete(place);
    }
  for (let place = end - 1; place >= first; place--)
    if (!drawn.has(place)) {
      drawn.set(place, row(place));
      list.insertBefore(drawn.get(place), drawn.get(place + 1) || null);
    }
}

function redraw() {
  list.replaceChildren();
  drawn.clear();
  if (shown.length) { // the height of a row is the style sheet's
    const probe = list.appendChild(row(0));
    height = probe.offsetHeight;
    probe.remove();
  }
  list.style.height = `${shown.length * height}px`;
  if (list.getBoundingClientRect().top < 0) toList(0);
  draw();
}

// Scroll to a row, below the bar where that stays in view.
function toList(place) {
  const covered = getComputedStyle(bar).position === "sticky" ? bar.offsetHeight : 0;
  window.scrollBy({ top: list.getBoundingClientRect().top + place * height - covered - 14, behavior: "instant" });
}

function step(by) {
  if (!shown.length) return;
  const next = Math.max(0, Math.min(shown.length - 1, current + by));
  if (dialog.open) return show(next);
  current = next;
  toList(current);
  draw();
  drawn.get(current).querySelector("button").focus({ preventScroll: true });
}

function frame(number) {
  if (number === null) return make("div", { class: "gone" }, "The image cannot be read.");
  const image = data.images[number];
  const { width, height: tall } = image;
  const large = make("img", { src: `${data.folder}/${image.file}`, alt: image.name, width, height: tall });
  large.addEventListener("error", () => { large.src = image.thumbnail; }, { once: true });
  const made = make("div", { class: "frame" }, large);
  made.insertAdjacentHTML("beforeend", image.boxes); // an SVG picture whose texts are escaped
  return made;
}

function figures(parts) {
  const rows = Object.entries(parts).flatMap(([name, part]) => [
    make("dt", {}, name), make("dd", {}, typeof part === "number" ? String(Math.round(part * 1e4) / 1e4) : String(part)),
  ]);
  return rows.length ? make("dl", {}, ...rows) : null;
}

function answered(one, run) {
  const answer = one.answers[run];
  if (!answer) return make("div", {}, head(one, run, runs()[0]));
  return make(
    "div", {},
    head(one, run, runs()[0]),
    answer.prompt ? make("p", { class: "text why" }, answer.prompt) : null,
    make("p", { class: "text" }, answer.text.trim() || "(empty)"),
    answer.answer && answer.answer !== answer.text ? make("p", { class: "why" }, `Read as: ${answer.answer}`) : null,
    make("p", { class: "why" }, answer.explanation),
    figures(answer.parts),
  );
}

// A question in full, with the larger images and the answers of all runs side by side.
function show(place) {
  current = place;
  const one = data.questions[shown[place]];
  const move = (by, text) => {
    const button = make("button", { type: "button" }, text);
    button.addEventListener("click", () => step(by));
    return button;
  };
  const close = make("button", { type: "button", autofocus: "" }, "close");
  close.addEventListener("click", () => dialog.close());
  const choices = one.choices.length ? `Choices: ${one.choices.join(" | ")}` : "";
  dialog.replaceChildren(make(
    "div", { class: "one" },
    make("header", {}, make("span", { class: "meta" }, about(one)), move(-1, "previous"), move(1, "next"), close),
    make(
      "div", { class: "top" },
      make("div", { class: "frames" }, ...one.images.map(frame)),
      make(
        "div", {},
        make("p", { class: "text prompt" }, one.prompt),
        make("p", { class: "text why" }, choices),
        make("p", { class: "text why" }, reference(one)),
      ),
    ),
    make("div", { class: "runs" }, ...data.runs.map((_, run) => answered(one, run))),
  ));
  if (!dialog.open) dialog.showModal();
  dialog.scrollTop = 0;
}

onKeys({
  j: () => step(1), ArrowRight: () => step(1),
  k: () => step(-1), ArrowLeft: () => step(-1),
  "/": () => form.elements.text.focus(),
  b: () => form.elements.boxes && form.elements.boxes.click(),
  Escape: () => {
    if (dialog.open) return dialog.close();
    form.reset();
    filter();
    document.activeElement.blur();
  },
});

form.addEventListener("input", filter);
document.addEventListener("click", (event) => {
  if (event.target === dialog) return dialog.close(); // the backdrop
  const chosen = event.target.dataset && event.target.dataset.filter;
  if (!chosen) return;
  form.reset();
  for (const [name, content] of Object.entries(JSON.parse(chosen)))
    if (form.elements[name]) form.elements[name].value = content;
  filter();
  document.getElementById("answers").scrollIntoView();
});
dialog.addEventListener("close", () => {
  if (current < 0) return;
  toList(current);
  draw();
  drawn.get(current).querySelector("button").focus({ preventScroll: true });
});
let waiting = false;
window.addEventListener("scroll", () => {
  if (waiting) return;
  waiting = true;
  requestAnimationFrame(() => { waiting = false; draw(); });
}, { passive: true });
window.addEventListener("resize", redraw);
filter();
setTimeout(() => data.questions.forEach(textOf), 100); // so that the first search is as fast as later ones
