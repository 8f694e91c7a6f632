// The page as it lives: parts of it and its figures come as the race goes on.
(() => {
"use strict";
const link = document.getElementById("link");
const say = (text) => { link.textContent = text; link.hidden = !text; };
let headline = document.querySelector("h1").textContent;

function show({ parts, figures, ended, error }) {
  if (error) { say(error); return; }
  say("");
  for (const [id, html] of Object.entries(parts)) {
    if (id === "title") { document.title = html; continue; }
    const holder = document.getElementById(id);
    const scrolled = [...holder.querySelectorAll(".scroll")].map((one) => one.scrollLeft);
    holder.innerHTML = html; // made by the server's templates, which escape every name
    holder.querySelectorAll(".scroll").forEach((one, i) => { one.scrollLeft = scrolled[i] || 0; });
  }
  const now = document.querySelector("h1").textContent;
  if (now !== headline) document.getElementById("live").textContent = now;
  headline = now;
  if (Object.keys(figures).length) window.thalweg.update(figures);
  if (ended) location.reload();
}

function listen() {
  const source = new EventSource("events");
  source.onopen = () => say("");
  source.onmessage = (event) => {
    const content = JSON.parse(event.data);
    if (content.ended || content.error) source.close();
    show(content);
    if (content.error) setTimeout(listen, 5000);
  };
  source.onerror = () => {
    say("The server does not answer; trying again.");
    if (source.readyState === EventSource.CLOSED) setTimeout(listen, 5000);
  };
}
listen();
})();
