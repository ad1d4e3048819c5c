// Pages that keep themselves up to date: ages go on while nothing new is sent.
import { ago } from "./page.js";

const EVERY = 15000;

setInterval(() => {
  for (const time of document.querySelectorAll("main time[datetime][title]")) time.textContent = ago(Date.parse(time.dateTime));
}, EVERY);
