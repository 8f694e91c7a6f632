(() => {
"use strict";
const root = document.documentElement;
const figures = JSON.parse(document.getElementById("figures").textContent);
const plots = [...document.querySelectorAll(".plot")];
const narrow = window.matchMedia("(max-width: 640px)");
const dark = window.matchMedia("(prefers-color-scheme: dark)");
const coarse = window.matchMedia("(pointer: coarse)");
const still = window.matchMedia("(prefers-reduced-motion: reduce)");
const hidden = new Set();
const switches = [...document.querySelectorAll(".switch")];
const chosenVariants = () => switches.map((one) => one.querySelector("[aria-pressed=true]").dataset.variant);

// Colours are names in the figures; the stylesheet knows their values in each theme.
function resolver() {
  const style = getComputedStyle(root);
  const known = new Map();
  const paint = ({ $: name, alpha = 1 }) => {
    const key = `${name} ${alpha}`;
    if (!known.has(key)) {
      const hex = style.getPropertyValue(`--${name}`).trim();
      const [r, g, b] = [1, 3, 5].map((i) => parseInt(hex.slice(i, i + 2), 16));
      known.set(key, `rgba(${r},${g},${b},${alpha})`);
    }
    return known.get(key);
  };
  const walk = (value) => {
    if (Array.isArray(value)) return value.map(walk);
    if (value === null || typeof value !== "object") return value;
    if ("$" in value) return paint(value);
    return Object.fromEntries(Object.entries(value).map(([key, part]) => [key, walk(part)]));
  };
  return { walk, paint: (name, alpha) => paint({ $: name, alpha }), font: style.getPropertyValue("--font").trim() };
}

function merge(base, ...changes) {
  const result = { ...base };
  for (const change of changes) {
    for (const [key, value] of Object.entries(change || {})) {
      const both = value && result[key] && typeof value === "object" && typeof result[key] === "object";
      result[key] = both && !Array.isArray(value) ? merge(result[key], value) : value;
    }
  }
  return result;
}

function common({ paint, font }, phone) {
  const axis = {
    color: paint("muted"), gridcolor: paint("line"), linecolor: paint("strong-line"),
    zeroline: false, ticks: "", automargin: true, title: { standoff: 10, font: { size: 12 } },
    tickfont: { size: phone ? 11 : 12 }, exponentformat: "power", nticks: phone ? 5 : 8,
  };
  return {
    paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)",
    font: { family: font, size: 13, color: paint("ink") },
    margin: { l: 8, r: phone ? 8 : 16, t: 12, b: 8 },
    xaxis: axis, yaxis: axis, showlegend: false, separators: ".\u202f",
    dragmode: coarse.matches ? false : "zoom",
    hoverlabel: {
      bgcolor: paint("surface"), bordercolor: paint("strong-line"), align: "left",
      font: { family: font, size: 13, color: paint("ink") },
    },
    modebar: { bgcolor: paint("surface"), color: paint("muted"), activecolor: paint("ink") },
    transition: { duration: 0 },
  };
}

function assemble(id) {
  const spec = figures[id];
  const phone = narrow.matches;
  const colours = resolver();
  const chosen = merge({}, ...chosenVariants().map((name) => {
    const { data, ...rest } = spec.variants[name] || {};
    return data ? { ...rest, data: { ...data } } : rest;
  }));
  const data = spec.data.map((trace, i) => {
    const full = merge(trace, (chosen.data || {})[i]);
    const owner = trace.meta && trace.meta.entrant;
    if (owner !== undefined && hidden.has(owner) && !trace.meta.always) full.visible = false;
    if (full.colorbar) {
      full.colorbar = merge({
        thickness: 10, outlinewidth: 0, tickfont: { size: 11, color: colours.paint("muted") },
        title: { side: "top", font: { size: 12, color: colours.paint("muted") } }, ticklen: 0,
      }, full.colorbar);
    }
    return full;
  });
  const { height, cells, ...layout } = spec.phone;
  const full = merge(common(colours, phone), spec.layout, chosen.layout, phone ? layout : {});
  if (phone && cells) for (const trace of data) Object.assign(trace, cells === "none" ? { texttemplate: "" } : { textfont: { size: 10 } });
  const holder = document.getElementById(id);
  let tall = phone && height ? height : Number(holder.dataset.height);
  // Room for axis labels on the left, for the colour bar and the axis title above and below.
  if (spec.aspect) tall = Math.round((holder.clientWidth - (phone ? 30 : 60)) * spec.aspect) + 105;
  holder.style.height = `${tall}px`;
  full.height = tall;
  const title = document.getElementById(`${id}-title`);
  if (title && chosen.title) title.textContent = chosen.title;
  return [colours.walk(data), colours.walk(full)];
}

const config = {
  responsive: true, displaylogo: false, showTips: false, doubleClickDelay: 400,
  modeBarButtonsToRemove: ["select2d", "lasso2d", "autoScale2d", "toggleSpikelines"],
};

const drawn = new Set();
let lib = null;
function draw(id) {
  const holder = document.getElementById(id);
  const [data, layout] = assemble(id);
  if (!drawn.has(id)) holder.replaceChildren();
  drawn.add(id);
  // Not react(): it would count margin corrections over all redraws, and give up in the end.
  return lib.newPlot(holder, data, layout, { ...config, displayModeBar: narrow.matches ? false : "hover" });
}
const redraw = () => Promise.all([...drawn].map(draw));
// A page that lives changes its figures.
window.thalweg = {
  update(changed) {
    Object.assign(figures, changed);
    return Promise.all(Object.keys(changed).filter((id) => drawn.has(id)).map(draw));
  },
};

// plotly.js travels as gzip in base64: a quarter of its size, and no server needed.
async function unpack() {
  const packed = document.getElementById("plotly");
  const bytes = Uint8Array.from(atob(packed.textContent), (c) => c.charCodeAt(0));
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
  const code = document.createElement("script");
  code.textContent = await new Response(stream).text();
  document.head.append(code);
  packed.remove();
  return window.Plotly;
}

const breathe = () => new Promise((resolve) => setTimeout(resolve));
async function start() {
  try {
    if (plots.length) lib = await unpack();
    const waiting = plots.map((plot) => plot.id);
    while (waiting.length) {
      // What is nearest to the reader's eyes first.
      const middle = window.innerHeight / 2;
      const far = (id) => Math.abs(document.getElementById(id).getBoundingClientRect().top - middle);
      waiting.sort((a, b) => far(b) - far(a));
      await draw(waiting.pop());
      await breathe();
    }
    root.dataset.ready = "yes";
  } catch (error) {
    for (const note of document.querySelectorAll(".waiting")) {
      note.textContent = "This browser cannot draw the plots; a version from 2023 or later can.";
    }
    root.dataset.ready = "failed";
    throw error;
  }
}

function setTheme(name) {
  root.dataset.theme = name;
  try { localStorage.setItem("thalweg-theme", name); } catch { root.dataset.storage = "none"; }
  redraw();
}
document.getElementById("theme").addEventListener("click", () => {
  const now = root.dataset.theme || (dark.matches ? "dark" : "light");
  setTheme(now === "dark" ? "light" : "dark");
});
dark.addEventListener("change", redraw);
narrow.addEventListener("change", redraw);
let settled;
window.addEventListener("resize", () => {
  clearTimeout(settled);
  settled = setTimeout(() => { for (const id of drawn) if (figures[id].aspect) draw(id); }, 120);
});
// Colours in print are the light ones, whatever the screen shows.
let before;
window.addEventListener("beforeprint", () => { before = root.dataset.theme; root.dataset.theme = "light"; redraw(); });
window.addEventListener("afterprint", () => {
  if (before) root.dataset.theme = before; else delete root.dataset.theme;
  redraw();
});

for (const one of switches) {
  for (const button of one.children) {
    button.addEventListener("click", () => {
      for (const other of one.children) other.setAttribute("aria-pressed", String(other === button));
      for (const id of drawn) if (figures[id].variants[button.dataset.variant]) draw(id);
    });
  }
}

for (const chip of document.querySelectorAll(".chip")) {
  chip.addEventListener("click", () => {
    const entrant = Number(chip.dataset.entrant);
    if (hidden.has(entrant)) hidden.delete(entrant); else hidden.add(entrant);
    chip.setAttribute("aria-pressed", String(!hidden.has(entrant)));
    const touched = [...drawn].filter((id) => figures[id].data.some((t) => t.meta && t.meta.entrant === entrant && !t.meta.always));
    touched.forEach(draw);
  });
}

async function copy(text) {
  try { return await navigator.clipboard.writeText(text); } catch {
    const area = document.createElement("textarea");
    area.value = text;
    area.className = "visually-hidden";
    document.body.append(area);
    area.select();
    document.execCommand("copy");
    area.remove();
  }
}
for (const button of document.querySelectorAll(".copy")) {
  button.addEventListener("click", async () => {
    await copy(button.dataset.copy);
    button.textContent = "Copied";
    document.getElementById("live").textContent = "Copied";
    setTimeout(() => { button.textContent = "Copy"; }, 1600);
  });
}

// Mark the section in view in the bar.
const links = new Map([...document.querySelectorAll(".bar nav a")].map((a) => [a.hash.slice(1), a]));
const watcher = new IntersectionObserver((entries) => {
  for (const entry of entries) {
    const link = links.get(entry.target.id);
    if (!link || !entry.isIntersecting) continue;
    for (const other of links.values()) other.removeAttribute("aria-current");
    link.setAttribute("aria-current", "true");
    const nav = link.parentElement;
    nav.scrollTo({ left: link.offsetLeft - nav.clientWidth / 2, behavior: still.matches ? "auto" : "smooth" });
  }
}, { rootMargin: "-20% 0px -70% 0px" });
for (const id of links.keys()) watcher.observe(document.getElementById(id));

start();
})();
