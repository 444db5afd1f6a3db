const articles = [...document.querySelectorAll("article")];
const texts = new Map(articles.map((one) => [one, one.textContent.toLowerCase()]));
let current = -1;

function shown() {
  return articles.filter((one) => !one.hidden);
}

function filter() {
  const words = searched();
  for (const one of articles) {
    const fits =
      (!value("kind") || one.dataset.kind === value("kind")) &&
      (!value("verdict") || one.dataset.verdict === value("verdict")) &&
      (!value("reason") || JSON.parse(one.dataset.reasons).includes(value("reason"))) &&
      words.every((word) => texts.get(one).includes(word));
    one.hidden = !fits;
  }
  const left = shown().length;
  document.getElementById("count").textContent =
    (left < articles.length ? `${left} of ` : "") + `${articles.length} samples`;
  document.getElementById("none").hidden = left > 0;
  document.body.classList.toggle("hide-boxes", !form.elements.boxes.checked);
  current = -1;
}

function step(by) {
  const left = shown();
  if (!left.length) return;
  current = Math.max(0, Math.min(left.length - 1, current + by));
  left[current].focus({ preventScroll: true });
  left[current].scrollIntoView({ block: "start" });
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
  Escape: () => { form.reset(); filter(); document.activeElement.blur(); },
});

form.addEventListener("input", filter);

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
