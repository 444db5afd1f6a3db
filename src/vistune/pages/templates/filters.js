"use strict";
// What the pages with a form of filters share.
const form = document.getElementById("filters");

function value(name) {
  return form.elements[name] ? form.elements[name].value : "";
}

function searched() {
  return value("text").toLowerCase().split(/\s+/).filter(Boolean);
}

// Call the function of a key, unless something is being typed.
function onKeys(keys) {
  document.addEventListener("keydown", (event) => {
    const typing = ["INPUT", "SELECT"].includes(event.target.tagName) && event.target.type !== "checkbox";
    if (event.ctrlKey || event.metaKey || event.altKey || !keys[event.key]) return;
    if (typing && event.key !== "Escape") return;
    event.preventDefault();
    keys[event.key]();
  });
}

form.addEventListener("submit", (event) => event.preventDefault());
