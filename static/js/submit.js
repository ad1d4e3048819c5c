// The form of a job: fields that differ from the run are marked at once, the preview comes from the server.
import { say } from "./page.js";

const form = document.getElementById("job-form");

function mark(field) {
  const box = field.closest(".field");
  if (!box || field.dataset.usual === undefined) return;
  box.classList.toggle("changed", field.value.trim() !== field.dataset.usual && field.value.trim() !== "");
}

for (const field of form.elements) mark(field);
form.addEventListener("input", (event) => mark(event.target));

// A field that was emptied goes back to what the run has.
form.addEventListener("focusout", (event) => {
  const { value, dataset } = event.target;
  if (!dataset.usual || value === undefined || value.trim() !== "") return;
  event.target.value = dataset.usual;
  mark(event.target);
});

// A second press while the first is on its way changes nothing: both carry the same key.
form.addEventListener("submit", (event) => {
  if (event.submitter) event.submitter.setAttribute("aria-busy", "true");
});

document.addEventListener("htmx:afterSwap", (event) => {
  const told = event.target.id === "preview" && event.target.querySelector("header .badge");
  if (told) say(`This job ${told.textContent}`);
});
