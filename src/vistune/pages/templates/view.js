const articles = [...document.querySelectorAll("article")];
const texts = new Map(articles.map((one) => [one, one.textContent.toLowerCase()]));
const pageSize = Number(document.querySelector("main").dataset.pageSize);
const nav = document.getElementById("pages");
const zoom = document.getElementById("zoom");
let matching = articles;
let page = 0;
let current = -1;

function includes(list, name) {
  return !value(name) || JSON.parse(list).includes(value(name));
}

function filter() {
  const words = searched();
  matching = articles.filter((one) =>
    (!value("kind") || one.dataset.kind === value("kind")) &&
    (!value("verdict") || one.dataset.verdict === value("verdict")) &&
    includes(one.dataset.reasons, "reason") &&
    includes(one.dataset.classes, "class") &&
    words.every((word) => texts.get(one).includes(word)));
  const left = matching.length;
  document.getElementById("count").textContent =
    (left < articles.length ? `${left} of ` : "") + `${articles.length} samples`;
  document.getElementById("none").hidden = left > 0;
  current = -1;
  turn(0);
}

function showBoxes() {
  document.body.classList.toggle("hide-boxes", !form.elements.boxes.checked);
}

function turn(to) {
  const last = Math.max(0, Math.ceil(matching.length / pageSize) - 1);
  page = Math.max(0, Math.min(last, to));
  const seen = new Set(matching.slice(page * pageSize, (page + 1) * pageSize));
  for (const one of articles) one.hidden = !seen.has(one);
  nav.hidden = last === 0;
  nav.querySelector("output").textContent = `page ${page + 1} of ${last + 1}`;
  nav.querySelector("[data-by='-1']").disabled = page === 0;
  nav.querySelector("[data-by='1']").disabled = page === last;
}

function step(by) {
  if (!matching.length) return;
  current = Math.max(0, Math.min(matching.length - 1, current + by));
  const to = Math.floor(current / pageSize);
  if (to !== page) turn(to);
  matching[current].focus({ preventScroll: true });
  matching[current].scrollIntoView({ block: "start" });
}

function enlarge(frame) {
  if (!frame) return;
  const large = frame.cloneNode(true);
  const image = frame.querySelector("img");
  large.style.width = `min(96vw, ${(96 * image.getAttribute("width")) / image.getAttribute("height")}vh)`;
  zoom.replaceChildren(large);
  zoom.showModal();
}

onKeys({
  j: () => step(1), ArrowRight: () => step(1),
  k: () => step(-1), ArrowLeft: () => step(-1),
  "/": () => form.elements.text.focus(),
  b: () => form.elements.boxes.click(),
  p: () => {
    const details = document.activeElement.querySelector && document.activeElement.querySelector("details");
    if (details) details.open = !details.open;
  },
  z: () => { if (!zoom.open && current >= 0) enlarge(matching[current].querySelector(".frame:not(.gone)")); },
  Escape: () => {
    if (zoom.open) return zoom.close();
    form.reset(); showBoxes(); filter(); document.activeElement.blur();
  },
});

form.addEventListener("input", (event) => (event.target.name === "boxes" ? showBoxes() : filter()));
zoom.addEventListener("click", () => zoom.close());
document.querySelector("main").addEventListener("click", (event) => enlarge(event.target.closest(".frame:not(.gone)")));
nav.addEventListener("click", (event) => {
  const by = event.target.dataset.by;
  if (!by) return;
  turn(page + Number(by));
  current = page * pageSize - 1;
  scrollTo(0, 0);
});

for (const one of articles) {
  const light = (name) => {
    for (const part of one.querySelectorAll(".frame svg [data-name]"))
      part.style.opacity = name === null || part.dataset.name === name ? 1 : 0.12;
  };
  for (const label of one.querySelectorAll(".category")) {
    label.addEventListener("mouseenter", () => light(label.dataset.name));
    label.addEventListener("mouseleave", () => light(null));
  }
}
filter();
showBoxes();
