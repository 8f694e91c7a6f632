// Hands on it: pointers, keys, buttons and sliders.
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
