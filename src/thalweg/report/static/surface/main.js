// The page: its state, its controls, and when what is drawn again.
const data = JSON.parse(document.getElementById("surfaces").textContent);
const card = document.getElementById("stage");
const root = document.documentElement;
const calm = window.matchMedia("(prefers-reduced-motion: reduce)");
const numbers = (text) => new Float64Array(Uint8Array.from(atob(text), (c) => c.charCodeAt(0)).buffer);
const bodies = data.surfaces.map((one) => new Body({ ...one, x: numbers(one.x), y: numbers(one.y), losses: numbers(one.losses) }));
const maps = Object.fromEntries(Object.entries(data.maps).map(([name, hex]) => [name, new Colours(Uint8Array.from(hex.match(/../g), (c) => parseInt(c, 16)))]));
const sorted = Float64Array.from(bodies.flatMap((b) => [...b.losses].filter(Number.isFinite))).sort();

const HOME = { azimuth: -0.62, elevation: 0.56, zoom: 1 };
const state = { ...HOME, ...data.state, lines: true, arrows: false, turning: !calm.matches, height: 1, hidden: new Set() };
state.map ||= LOOKS[state.look].map;
const page = {
  state, data, bodies, point: null, pinned: false, frames: 0,
  paint: (name) => page.style.getPropertyValue(`--${name}`).trim() || "#888",
  nodeAt(body, { x, y }) {
    const pad = 1e-9 * (body.x.at(-1) - body.x[0]);
    if (x < body.x[0] - pad || x > body.x.at(-1) + pad || y < body.y[0] - pad || y > body.y.at(-1) + pad) return null;
    return field.nearest(body.y, y) * body.nx + field.nearest(body.x, x);
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

// --- what is drawn -----------------------------------------------------------------------------
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
  for (const body of bodies) body.shape(page.scale);
}

function remesh() {
  page.tall = 0.82 * state.height;
  for (const { body } of shown()) {
    body.shade = shade(body, page.tall, page.look);
    if (stage) stage.load(body, page.scale, page.tall, page.look);
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

function paintBar(pen, width) {
  const { scale, paint } = page, left = 10, w = width - 20, top = 22, h = 11, end = scale.clipped ? 26 : 0, full = w - end;
  for (let k = 0; k < full; k++) pen.fill([[left + k, top], [left + k + 1.3, top], [left + k + 1.3, top + h], [left + k, top + h]], { fill: rgb(page.map.at(k / full)) });
  const unit = new Set(bodies.map((b) => b.unit)).size === 1 ? bodies[0].unit : "loss";
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
  paintBar(new CanvasPen(c), width);
}

function drawSlices() {
  const visible = shown().map((panel) => panel.body);
  all(".slice").forEach((holder, axis) => {
    const pen = new SvgPen(Math.max(holder.clientWidth, 220), 170);
    if (!visible.length || !page.point) return;
    paintSlice(pen, page, visible, axis, pen.width, pen.height);
    const at = page.point[axis ? "x" : "y"];
    holder.innerHTML = pen.svg(`Losses along the ${axis ? "second" : "first"} direction, with ${number(at)} along the ${axis ? "first" : "second"}`);
  });
}

function readout() {
  const out = document.getElementById("readout");
  if (!page.point) { out.textContent = "Point at the surface or the map: losses and slices of the nearest grid point appear here."; return ""; }
  const rows = [], spoken = [];
  for (const { body } of shown()) {
    const k = page.nodeAt(body, page.point);
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
    if (body.clippedPoints) words.push(`${count(body.clippedPoints)} of ${count(points)} grid points lie above ${number(page.scale.high)}, up to ${number(Math.max(...body.losses.filter((v) => !Number.isNaN(v))))}, and are drawn at it, hatched.`);
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

// --- hands on it -------------------------------------------------------------------------------
let grabbed = false;
function turn(right, up) {
  state.azimuth -= right;
  state.elevation = Math.min(Math.max(state.elevation + up, 0.06), 1.5);
}
function zoom(factor) { state.zoom = Math.min(Math.max(state.zoom * factor, 0.6), 6); draw("view"); }
function point(at, announce) {
  const k = at && page.nodeAt(at.body, at);
  const body = at && at.body;
  const next = at && k !== null ? { x: body.x[k % body.nx], y: body.y[Math.floor(k / body.nx)] } : null;
  const same = next && page.point && next.x === page.point.x && next.y === page.point.y;
  if (!same && (next || page.point)) { page.point = next; draw("point"); }
  if (announce) requestAnimationFrame(() => { document.getElementById("live").textContent = page.words; });
}
function step(panel, right, up) {
  const { body } = panel, k = page.nodeAt(body, page.point || { x: 0, y: 0 }) ?? 0, i = k % body.nx, j = (k - i) / body.nx;
  const held = (v, n) => Math.min(Math.max(v, 0), n - 1);
  page.pinned = true;
  point({ body, x: body.x[held(i + right, body.nx)], y: body.y[held(j + up, body.ny)] }, true);
}

for (const panel of panels) {
  const { view, map, body } = panel, fingers = new Map();
  let gap = 0, walked = 0, last = 0;
  const cameraNow = () => new Camera(body, state, view.clientWidth, view.clientHeight, page.tall);
  const local = (event, element) => { const box = element.getBoundingClientRect(); return [event.clientX - box.left, event.clientY - box.top]; };
  const under = (event) => { const hit = cameraNow().pick(body, ...local(event, view)); return hit && { body, ...Object.fromEntries(body.plane(hit[0], hit[1]).map((v, n) => ["xy"[n], v])) }; };
  view.addEventListener("pointerdown", (event) => {
    fingers.set(event.pointerId, [event.clientX, event.clientY]);
    view.setPointerCapture(event.pointerId);
    grabbed = true; walked = 0; spin = [0, 0]; gap = 0; last = event.timeStamp;
  });
  view.addEventListener("pointermove", (event) => {
    const was = fingers.get(event.pointerId);
    if (!was) { if (!page.pinned && event.pointerType !== "touch") point(under(event)); return; }
    const dx = event.clientX - was[0], dy = event.clientY - was[1];
    fingers.set(event.pointerId, [event.clientX, event.clientY]);
    walked += Math.hypot(dx, dy);
    if (fingers.size === 1) {
      const time = Math.max((event.timeStamp - last) / 1000, 0.004);
      turn(dx * 0.008, dy * 0.006);
      spin = [mix(spin[0], dx * 0.008 / time, 0.4), mix(spin[1], dy * 0.006 / time, 0.4)].map((v) => Math.min(Math.max(v, -4), 4));
      last = event.timeStamp;
    } else {
      const [a, b] = [...fingers.values()], wide = Math.hypot(a[0] - b[0], a[1] - b[1]);
      if (gap) zoom(wide / gap);
      gap = wide;
      turn(0, dy * 0.003);
    }
    draw("view");
  });
  const release = (event) => {
    if (!fingers.delete(event.pointerId)) return;
    gap = 0;
    grabbed = fingers.size > 0;
    if (event.timeStamp - last > 80 || calm.matches) spin = [0, 0];
    if (walked < 4 && event.type === "pointerup") {
      const hit = under(event);
      page.pinned = Boolean(hit);
      point(hit, true);
    }
    draw("view");
  };
  view.addEventListener("pointerup", release);
  view.addEventListener("pointercancel", release);
  for (const element of [view, map]) element.addEventListener("pointerleave", () => { if (!page.pinned) point(null); });
  view.addEventListener("wheel", (event) => {
    if (document.activeElement !== view && !event.ctrlKey) return;
    event.preventDefault();
    zoom(Math.exp(-event.deltaY * 0.0012));
  }, { passive: false });
  view.addEventListener("dblclick", () => { Object.assign(state, HOME); draw("view"); });
  view.addEventListener("keydown", (event) => {
    const moves = { ArrowLeft: [-0.09, 0], ArrowRight: [0.09, 0], ArrowUp: [0, 0.07], ArrowDown: [0, -0.07] };
    if (moves[event.key]) turn(...moves[event.key]);
    else if (event.key === "+" || event.key === "=") zoom(1.12);
    else if (event.key === "-") zoom(1 / 1.12);
    else if (event.key === "0" || event.key === "Home") Object.assign(state, HOME);
    else if (event.key === " ") { state.turning = !state.turning; controls(); }
    else return;
    event.preventDefault();
    draw("view");
  });
  const onMap = (event) => {
    const place = mapPlace(body, map.clientWidth, map.clientHeight), [wx, wy] = place.world(...local(event, map)), [x, y] = body.plane(wx, wy);
    return { body, x, y };
  };
  map.addEventListener("pointermove", (event) => { if (!page.pinned) point(onMap(event)); });
  map.addEventListener("click", (event) => { const at = onMap(event); page.pinned = page.nodeAt(body, at) !== null && !(page.pinned && event.detail > 1); point(page.pinned ? at : null, true); });
  map.addEventListener("keydown", (event) => {
    const moves = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, 1], ArrowDown: [0, -1] }, pace = event.shiftKey ? 5 : 1;
    if (!moves[event.key]) return;
    event.preventDefault();
    step(panel, ...moves[event.key].map((v) => v * pace));
  });
  new IntersectionObserver(([entry]) => { panel.seen = entry.isIntersecting; if (panel.seen) draw("view"); }).observe(view);
}
document.addEventListener("keydown", (event) => { if (event.key === "Escape" && page.point) { page.pinned = false; point(null); } });

const on = (selector, happens) => { for (const one of all(selector)) one.addEventListener("click", () => happens(one.dataset, one)); };
on("[data-look]", ({ look }) => set({ look }));
on("[data-scale]", ({ scale }) => set({ log: scale === "log" }));
on("[data-toggle]", ({ toggle }) => set({ [toggle]: !state[toggle] }));
on("[data-show]", ({ show }) => {
  const k = Number(show);
  if (state.hidden.has(k)) state.hidden.delete(k); else if (shown().length > 1) state.hidden.add(k);
  arrange();
});
document.getElementById("colours").addEventListener("change", (event) => set({ map: event.target.value }));
document.getElementById("clip").addEventListener("input", (event) => {
  const k = Math.ceil(event.target.value / 1000 * sorted.length);
  set({ clip: k >= sorted.length ? null : sorted[Math.max(k - 1, 0)] > sorted[0] ? sorted[k - 1] : sorted.find((v) => v > sorted[0]) ?? null });
});
document.getElementById("height").addEventListener("input", (event) => set({ height: Number(event.target.value) / 100 }));

function set(changes) {
  if (changes.look && LOOKS[changes.look] && !changes.map) changes.map = LOOKS[changes.look].map;
  Object.assign(state, changes);
  const what = new Set(["controls"]);
  if ("look" in changes || "map" in changes) what.add("style");
  if ("log" in changes || "clip" in changes) what.add("shape");
  if ("height" in changes) what.add("mesh");
  draw(...what);
}
function arrange() {
  for (const panel of panels) panel.element.hidden = state.hidden.has(panel.body.index);
  card.dataset.count = shown().length;
  draw("style", "shape", "layout");
}

// --- files -------------------------------------------------------------------------------------
function picture(panelList, ratio) {
  const made = document.createElement("canvas"), widths = panelList.map((p) => p.view.clientWidth), tall = panelList[0].view.clientHeight;
  const width = widths.reduce((a, b) => a + b, 0), several = panelList.length > 1 ? 30 : 0;
  made.width = width * ratio;
  made.height = (tall + 58 + several) * ratio;
  const c = made.getContext("2d");
  const paint = () => {
    c.setTransform(ratio, 0, 0, ratio, 0, 0);
    c.fillStyle = page.paint("surface");
    c.fillRect(0, 0, width, tall + 58 + several);
    let left = 0;
    for (const { body, view } of panelList) {
      c.drawImage(view, left, several, view.clientWidth, tall);
      if (several) new CanvasPen(c).text(left + view.clientWidth / 2, 18, body.name, { size: 15, weight: 600, fill: page.paint("ink") });
      left += view.clientWidth;
    }
    const wide = Math.min(width, 460);
    c.translate(Math.round((width - wide) / 2), tall + several + 4);
    paintBar(new CanvasPen(c), wide);
  };
  paint();
  return { canvas: made, paint };
}

const files = {
  png: () => new Promise((resolve) => { picture(shown(), Math.min(window.devicePixelRatio || 1, 2)).canvas.toBlob(resolve, "image/png"); }),
  mapSvg: (k = shown()[0].body.index) => {
    const { body, map } = panels[k], width = map.clientWidth, tall = map.clientHeight, pen = new SvgPen(width, tall + 56), place = mapPlace(body, width, tall);
    pen.box(0, 0, width, tall + 56, 0, { fill: page.paint("surface") });
    paintMap(pen, body, page, place, ({ x, y, w, h }) => {
      const [nx, ny] = body.size, COUNT = 32;
      const hatch = (name, size, alpha) => `<pattern id="${name}" width="${size}" height="${size}" patternUnits="userSpaceOnUse"><path d="M0 ${size}L${size} 0" stroke="${page.ink}" stroke-width="1" opacity="${alpha}"/></pattern>`;
      pen.parts.push(`<defs>${hatch("gap", 7, 0.5)}${hatch("above", 8, 0.4)}</defs>`);
      pen.box(x, y, w, h, 0, { fill: "url(#gap)" });
      const index = ([i, j]) => { const a = Math.floor(i), b = Math.floor(j); return place.at(body.fx[a] + (i - a) * ((body.fx[a + 1] ?? 0) - body.fx[a]), body.fy[b] + (j - b) * ((body.fy[b + 1] ?? 0) - body.fy[b])); };
      for (let n = 0; n < COUNT; n++) {
        const level = n ? n / COUNT : -1, rings = field.regions(body.fine.z, nx, ny, level).map((ring) => ring.map(index));
        if (rings.length) pen.rings(rings, { fill: rgb(page.map.at((n + 0.5) / COUNT)) });
      }
      if (page.scale.clipped) {
        const rings = field.regions(body.fine.z, nx, ny, 1.0005).map((ring) => ring.map(index));
        if (rings.length) { pen.rings(rings, { fill: page.ink, alpha: 0.12 }); pen.rings(rings, { fill: "url(#above)" }); }
      }
    });
    pen.parts.push(`<g transform="translate(${place.x} ${tall + 4})">`);
    paintBar(pen, place.w);
    pen.parts.push("</g>");
    return pen.svg(`${body.name}: ${body.labels.join(", ")}`);
  },
  viewSvg: (k = shown()[0].body.index) => {
    const { body, view } = panels[k], pen = new SvgPen(view.clientWidth, view.clientHeight);
    const camera = new Camera(body, state, pen.width, pen.height, page.tall);
    pen.box(0, 0, pen.width, pen.height, 0, { fill: page.paint("surface") });
    paintView(pen, body, camera, page, () => paintQuads(pen, body, camera, page, 12000));
    return pen.svg(`${body.name} over its plane`);
  },
  glb: () => toGlb(shown().map((p) => p.body), page.scale, page.map, page.tall),
  vtu: (k = shown()[0].body.index) => toVtu(bodies[k], bodies.filter((b) => b !== bodies[k] && b.group === bodies[k].group), page.scale),
  // One turn in eight seconds, as the browser's recorder codes it.
  async video(seconds = 8) {
    const type = ["video/mp4;codecs=avc1.42E01E", "video/webm;codecs=vp9", "video/webm"].find((t) => MediaRecorder.isTypeSupported(t));
    const { canvas, paint } = picture(shown(), Math.min(window.devicePixelRatio || 1, 2));
    const recorder = new MediaRecorder(canvas.captureStream(30), { mimeType: type, videoBitsPerSecond: 12e6 }), chunks = [];
    recorder.ondataavailable = (event) => chunks.push(event.data);
    const ended = new Promise((resolve) => { recorder.onstop = resolve; });
    const { azimuth, turning } = state, begin = performance.now();
    state.turning = false;
    recorder.start();
    await new Promise((resolve) => {
      const next = () => {
        const done = Math.min((performance.now() - begin) / 1000 / seconds, 1);
        state.azimuth = azimuth + 2 * Math.PI * done;
        for (const panel of shown()) drawView(panel);
        paint();
        if (done < 1) requestAnimationFrame(next); else resolve();
      };
      next();
    });
    recorder.stop();
    await ended;
    Object.assign(state, { azimuth, turning });
    draw("controls");
    return new Blob(chunks, { type });
  },
};
const canRecord = Boolean(window.MediaRecorder && HTMLCanvasElement.prototype.captureStream);
on("[data-save]", async ({ save }, button) => {
  const name = data.file;
  if (save === "png") download(await files.png(), `${name}.png`);
  if (save === "mapSvg" || save === "viewSvg") for (const { body } of shown()) download(files[save](body.index), `${name}-${save === "mapSvg" ? "map" : "view"}${shown().length > 1 ? `-${body.index + 1}` : ""}.svg`, "image/svg+xml");
  if (save === "glb") download(files.glb(), `${name}.glb`, "model/gltf-binary");
  if (save === "vtu") for (const { body } of shown()) download(files.vtu(body.index), `${name}${shown().length > 1 ? `-${body.index + 1}` : ""}.vtu`, "application/xml");
  if (save === "video") {
    const words = button.textContent;
    button.textContent = "Recording …";
    button.disabled = true;
    const film = await files.video();
    download(film, `${name}.${film.type.startsWith("video/mp4") ? "mp4" : "webm"}`);
    button.textContent = words;
    button.disabled = false;
  }
  const menu = button.closest("details");
  if (menu) menu.open = false;
});
for (const button of all("[data-save=video]")) if (!canRecord) { button.disabled = true; button.title = "This browser cannot record; Result.film() of Thalweg in Python can."; }
if (sorted[0] <= 0) for (const button of all("[data-scale=log]")) { button.disabled = true; button.title = "A log scale needs positive losses."; }

// --- the rest of the world ---------------------------------------------------------------------
new MutationObserver(() => draw("style", "layout")).observe(root, { attributes: true, attributeFilter: ["data-theme"] });
window.matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => draw("style", "layout"));
calm.addEventListener("change", () => set({ turning: !calm.matches }));
document.addEventListener("visibilitychange", () => draw("view"));
let resized;
new ResizeObserver(() => { clearTimeout(resized); resized = setTimeout(() => draw("layout"), 60); }).observe(card);

// A link can say how the page looks: #look=night&azimuth=40&point=0.2,-0.1
function fromHash() {
  const asked = new URLSearchParams(location.hash.slice(1)), changes = {};
  if (LOOKS[asked.get("look")]) changes.look = asked.get("look");
  if (maps[asked.get("map")]) changes.map = asked.get("map");
  for (const name of ["azimuth", "elevation"]) if (asked.has(name)) changes[name] = Number(asked.get(name)) * Math.PI / 180;
  for (const name of ["zoom", "height", "clip"]) if (asked.has(name)) changes[name] = Number(asked.get(name));
  for (const name of ["log", "lines", "arrows", "turning"]) if (asked.has(name)) changes[name] = asked.get(name) === "1";
  if (asked.has("point")) { const [x, y] = asked.get("point").split(",").map(Number); page.pinned = true; page.point = { x, y }; const k = page.nodeAt(bodies[0], page.point); page.point = k === null ? null : { x: bodies[0].x[k % bodies[0].nx], y: bodies[0].y[Math.floor(k / bodies[0].nx)] }; }
  set(changes);
}
fromHash();
arrange();
Object.assign(window.thalweg ||= {}, { surface: { page, set, files, panels, point, stage, drawView, drawMap, shade, raster, Camera, field } });
