// The page: its state, its controls, and when what is drawn again.
const data = JSON.parse(document.getElementById("surfaces").textContent);
const card = document.getElementById("stage");
const root = document.documentElement;
const calm = window.matchMedia("(prefers-reduced-motion: reduce)");
const numbers = (text) => new Float64Array(Uint8Array.from(atob(text), (c) => c.charCodeAt(0)).buffer);
const bodies = data.surfaces.map((one) => new Body({ ...one, x: numbers(one.x), y: numbers(one.y), losses: numbers(one.losses) }));
const maps = Object.fromEntries(Object.entries(data.maps).map(([name, hex]) => [name, new Colours(Uint8Array.from(hex.match(/../g), (c) => parseInt(c, 16)))]));
const LOSS = "loss", kinds = [...new Set(bodies.map((b) => b.kind))];
const finite = (kind) => Float64Array.from(bodies.flatMap((b) => (b.kind === kind ? [...b.losses].filter(Number.isFinite) : []))).sort();
const sorted = finite(LOSS), others = Object.fromEntries(kinds.map((kind) => [kind, new Scale(finite(kind), false, null)]));

const HOME = { azimuth: -0.62, elevation: 0.56, zoom: 1 };
const state = { ...HOME, ...data.state, lines: true, arrows: false, turning: !calm.matches, height: 1 };
state.hidden = new Set(bodies.flatMap((b, k) => (b.kind === LOSS ? [] : [k])));
state.map ||= LOOKS[state.look].map;
const page = {
  state, data, bodies, point: null, pinned: false, frames: 0,
  paint: (name) => page.style.getPropertyValue(`--${name}`).trim() || "#888",
  nodeAt(body, { x, y }) {
    const pad = 1e-9 * (body.x.at(-1) - body.x[0]);
    if (x < body.x[0] - pad || x > body.x.at(-1) + pad || y < body.y[0] - pad || y > body.y.at(-1) + pad) return null;
    return field.nearest(body.y, y) * body.nx + field.nearest(body.x, x);
  },
  // What slices and numbers are of: the point in hand, or the first mark, or the origin.
  where() {
    const mark = bodies[0].marks.find((m) => bodies[0].inside(m.x, m.y));
    return page.point || mark || { x: 0, y: 0 };
  },
  arrowNodes(body) {
    const at = body.marks.filter((m) => body.inside(m.x, m.y)).slice(0, 4);
    const points = page.point ? [page.point] : at.length ? at : [{ x: 0, y: 0 }];
    return [...new Set(points.map((p) => page.nodeAt(body, p)).filter((k) => k !== null))];
  },
};
const all = (selector) => [...document.querySelectorAll(selector)];
const panels = all(".ground").map((element, k) => ({
  body: bodies[k], element, view: element.querySelector(".view"), map: element.querySelector(".map"), fresh: {}, seen: true,
}));
// A map is as high as its plane asks for.
function fit() {
  for (const { body, map } of shown()) {
    map.style.height = "";
    const most = map.clientHeight, wanted = (map.clientWidth - 72) * body.half[1] / body.half[0] + 66;
    if (wanted < most) map.style.height = `${Math.max(Math.round(wanted), 200)}px`;
  }
}
const shown = () => panels.filter((panel) => !state.hidden.has(panel.body.index));
bodies.forEach((body, k) => { body.index = k; });

let stage = null;
try { if (data.flat || new URLSearchParams(location.hash.slice(1)).has("flat")) throw new Error("asked for"); stage = new Stage(); } catch { card.dataset.flat = "yes"; }

const due = new Set();
let waiting = false;
function draw(...what) {
  for (const one of what) due.add(one);
  if (!waiting) { waiting = true; requestAnimationFrame(tick); }
}

function restyle() {
  const look = LOOKS[state.look];
  card.removeAttribute("style");
  if (look.theme) {
    for (const [name, [, dark]] of Object.entries(data.tokens)) card.style.setProperty(`--${name}`, dark);
    for (const [name, value] of Object.entries(look.theme)) card.style.setProperty(`--${name}`, value);
    card.style.colorScheme = "dark";
  }
  page.look = look;
  page.style = getComputedStyle(card);
  page.map = maps[state.map];
  const dark = !isLight(parse(page.paint("surface")));
  page.halo = dark ? "#0a0e13" : "#ffffff";
  page.inkBytes = dark ? [232, 237, 242] : [13, 22, 32];
  page.ink = rgb(page.inkBytes);
  page.lineBytes = [13, 22, 32];
  if (stage) stage.colours(page.map);
}

function reshape() {
  page.scale = new Scale(sorted, state.log, state.clip);
  for (const body of bodies) body.shape(body.kind === LOSS ? page.scale : others[body.kind]);
}

function remesh() {
  page.tall = 0.82 * state.height;
  for (const { body } of shown()) {
    body.shade = shade(body, page.tall, page.look);
    if (stage) stage.load(body, page.tall, page.look);
  }
}

function context(canvas) {
  const ratio = Math.min(window.devicePixelRatio || 1, 2), width = canvas.clientWidth, height = canvas.clientHeight;
  if (canvas.width !== Math.round(width * ratio) || canvas.height !== Math.round(height * ratio)) {
    canvas.width = Math.round(width * ratio);
    canvas.height = Math.round(height * ratio);
  }
  const c = canvas.getContext("2d");
  c.setTransform(ratio, 0, 0, ratio, 0, 0);
  c.clearRect(0, 0, width, height);
  return { c, width, height, ratio };
}

function ground(c, width, height) {
  const fill = c.createRadialGradient(width / 2, height * 0.46, 10, width / 2, height * 0.5, Math.max(width, height) * 0.75);
  fill.addColorStop(0, page.look.theme ? page.look.theme["surface-2"] : page.paint("surface"));
  fill.addColorStop(1, page.look.theme ? page.look.theme.surface : page.look.block ? page.paint("sunken") : page.paint("surface"));
  c.fillStyle = fill;
  c.fillRect(0, 0, width, height);
}

function drawView({ body, view }) {
  const { c, width, height, ratio } = context(view);
  if (!width) return;
  ground(c, width, height);
  const camera = new Camera(body, state, width, height, page.tall), pen = new CanvasPen(c);
  paintView(pen, body, camera, page, () => {
    // While it moves, a slow machine draws fewer pixels.
    const sharp = page.moving ? ratio * quality : ratio;
    if (stage && !stage.lost) c.drawImage(stage.draw(body, camera, page.look, state, page.lineBytes, sharp), 0, 0, width, height);
    else paintQuads(pen, body, camera, page, page.moving ? 2500 : 8000);
  });
}

function drawMap(panel) {
  const { c, width, height, ratio } = context(panel.map), place = mapPlace(panel.body, width, height);
  if (!width) return;
  paintMap(new CanvasPen(c), panel.body, page, place, ({ x, y, w, h }) => {
    const size = [Math.round(w * ratio), Math.round(h * ratio)];
    if (!panel.field || panel.field.width !== size[0] || panel.field.height !== size[1]) panel.field = raster(panel.body, page, ...size);
    c.drawImage(panel.field, x, y, w, h);
  });
}

// The colours of each kind of quantity, beside each other.
function paintBars(pen, start, width, several) {
  const some = kinds.filter((kind) => several.some((b) => b.kind === kind)), each = width / some.length;
  some.forEach((kind, k) => paintBar(pen, start + k * each, each, several.filter((b) => b.kind === kind)));
}
function paintBar(pen, start, width, several) {
  const { scale } = several[0], { paint } = page, left = start + 10, w = width - 20, top = 22, h = 11, end = scale.clipped ? 26 : 0, full = w - end;
  for (let k = 0; k < full; k++) pen.fill([[left + k, top], [left + k + 1.3, top], [left + k + 1.3, top + h], [left + k, top + h]], { fill: rgb(page.map.at(k / full)) });
  const unit = new Set(several.map((b) => b.unit)).size === 1 ? several[0].unit : several[0].kind;
  pen.text(left, 9, scale.log ? `${unit} (log scale)` : unit, { size: 12, weight: 550, fill: paint("ink"), anchor: "start" });
  if (scale.clipped) {
    const pale = page.map.at(1).map((v, n) => v * 0.8 + page.inkBytes[n] * 0.2);
    pen.fill([[left + full + 2, top], [left + w, top], [left + w, top + h], [left + full + 2, top + h]], { fill: rgb(pale) });
    for (let k = 0; k < 4; k++) pen.line([[left + full + 4 + 6 * k, top + h], [left + full + 8 + 6 * k, top]], { stroke: page.ink, width: 1.2, alpha: 0.6 });
    pen.text(left + w, 9, `above ${short(scale.high)}`, { size: 11, fill: paint("muted"), anchor: "end" });
  }
  for (const v of scale.ticks(Math.max(46 / full, 0.05))) {
    const x = left + scale.share(v) * full;
    pen.line([[x, top + h], [x, top + h + 4]], { stroke: paint("strong-line") });
    pen.text(x, top + h + 7, short(v), { size: 11, fill: paint("muted"), base: "top" });
  }
}

function drawBar() {
  const { c, width } = context(document.getElementById("bar"));
  paintBars(new CanvasPen(c), 0, width, shown().map((panel) => panel.body));
}

function drawSlices() {
  const visible = shown().map((panel) => panel.body), some = kinds.filter((kind) => visible.some((b) => b.kind === kind));
  all(".slice").forEach((holder, axis) => {
    const at = page.where()[axis ? "x" : "y"];
    holder.innerHTML = some.map((kind) => {
      const pen = new SvgPen(Math.max(holder.clientWidth, 220), 184);
      paintSlice(pen, page, visible.filter((b) => b.kind === kind), axis, pen.width, pen.height);
      return pen.svg(`${kind[0].toUpperCase()}${kind.slice(1)} along the ${axis ? "second" : "first"} direction, with ${number(at)} along the ${axis ? "first" : "second"}`);
    }).join("");
  });
}

function readout() {
  const out = document.getElementById("readout");
  const rows = [], spoken = [];
  for (const { body } of shown()) {
    const k = page.nodeAt(body, page.where());
    if (k === null) continue;
    const i = k % body.nx, j = (k - i) / body.nx;
    if (!rows.length) {
      const [g0, g1, g2] = body.metric, x = body.x[i], y = body.y[j];
      rows.push([body.axes[0], number(x, 4)], [body.axes[1], number(y, 4)], ["from the origin", number(Math.sqrt(g0 * x * x + 2 * g1 * x * y + g2 * y * y))]);
    }
    const bent = field.curvature(body.x, body.y, body.losses, i, j, body.metric);
    rows.push([body.name, number(body.losses[k], 5), bent ? `curvatures ${number(bent[0].value)} and ${number(bent[1].value)}` : ""]);
  }
  out.replaceChildren(...rows.map(([name, value, more = ""]) => {
    const item = document.createElement("span");
    item.append(name, " ", Object.assign(document.createElement("b"), { textContent: value }), more && ` ${more}`);
    spoken.push(`${name} ${value} ${more}`.trim());
    return item;
  }));
  return spoken.join(", ");
}

function notes() {
  for (const { body, element } of panels) {
    const words = [], points = body.losses.length;
    if (body.clippedPoints) words.push(`${count(body.clippedPoints)} of ${count(points)} grid points lie above ${number(body.scale.high)}, up to ${number(body.losses.reduce((most, v) => (v > most ? v : most), -Infinity))}, and are drawn at it, hatched.`);
    if (body.missing) words.push(`${count(body.missing)} of ${count(points)} are NaN: holes.`);
    if (!body.toScale) words.push("The two directions are not drawn to one scale.");
    element.querySelector(".drawn").textContent = words.join(" ");
  }
}

function controls() {
  const press = (selector, test) => { for (const one of all(selector)) one.setAttribute("aria-pressed", String(test(one))); };
  press("[data-look]", (one) => one.dataset.look === state.look);
  press("[data-scale]", (one) => (one.dataset.scale === "log") === state.log);
  press("[data-toggle]", (one) => state[one.dataset.toggle]);
  press("[data-show]", (one) => !state.hidden.has(Number(one.dataset.show)));
  document.getElementById("colours").value = state.map;
  document.getElementById("height").value = Math.round(100 * state.height);
  const below = state.clip === null ? sorted.length : sorted.filter((v) => v <= state.clip).length;
  const slider = document.getElementById("clip"), place = Math.round(1000 * below / sorted.length);
  if (Math.abs(slider.value - place) > 1) slider.value = place;
  document.getElementById("clip-value").textContent = page.scale.clipped ? `at ${number(page.scale.high)}` : "off";
  slider.setAttribute("aria-valuetext", page.scale.clipped ? `losses above ${number(page.scale.high)} are drawn at it` : "nothing is clipped");
}

let before = 0, spin = [0, 0], quality = 1;
function tick(now) {
  waiting = false;
  const gap = now - before, passed = Math.min(gap / 1000, 0.1);
  before = now;
  const moving = state.turning && !grabbed && !page.point && !document.hidden && panels.some((p) => p.seen);
  if (moving) { state.azimuth += passed * 0.16; due.add("view"); }
  if (!grabbed && (Math.abs(spin[0]) > 0.02 || Math.abs(spin[1]) > 0.02)) {
    turn(spin[0] * passed, spin[1] * passed);
    spin = spin.map((v) => v * Math.exp(-5 * passed));
    due.add("view");
  }
  if (page.moving && gap > 45) quality = Math.max(quality * 0.85, 0.35);
  else if (page.moving && gap < 25) quality = Math.min(quality * 1.03, 1);
  page.moving = grabbed || moving || Math.abs(spin[0]) > 0.02 || Math.abs(spin[1]) > 0.02;
  const has = (...names) => names.some((name) => due.has(name));
  if (has("style")) restyle();
  if (has("shape")) reshape();
  if (has("style", "shape", "mesh")) remesh();
  if (has("layout")) fit();
  if (has("style", "shape", "mesh", "layout")) for (const panel of panels) panel.field = null;
  if (has("style", "shape", "layout")) { drawBar(); notes(); controls(); }
  if (has("style", "shape", "layout", "point", "controls")) { drawSlices(); page.words = readout(); controls(); }
  const maps_ = has("style", "shape", "mesh", "layout", "point", "controls");
  for (const panel of shown()) { drawView(panel); if (maps_) drawMap(panel); }
  due.clear();
  page.frames += 1;
  card.dataset.drawn = "yes";
  if (moving || Math.abs(spin[0]) > 0.02 || Math.abs(spin[1]) > 0.02) draw("view");
  else if (page.moving && !grabbed) { page.moving = false; draw("view"); }
}
