// The view in space: axes behind, the surface, and what lies on it in front.
function paintView(pen, body, camera, page, paintSurface) {
  const { state, look, paint } = page, { tall } = camera, [hx, hy] = body.half;
  const zf = look.block ? -BASE : -0.05;
  const P = (x, y, z) => camera.project(x, y, z);
  const sx = camera.d[0] >= 0 ? 1 : -1, sy = camera.d[1] >= 0 ? 1 : -1;
  const small = camera.width < 420, size = small ? 10.5 : 12;
  pen.room = camera.width;
  const ticks = body.scale.ticks(small ? 0.2 : 0.15).map((v) => [v, body.scale.share(v) * tall]);

  // Floor and the two walls behind.
  if (look.walls) {
    const wall = { stroke: paint("line"), width: 1 };
    pen.fill([P(-hx, -hy, zf), P(hx, -hy, zf), P(hx, hy, zf), P(-hx, hy, zf)], { fill: paint("sunken"), alpha: 0.55 });
    for (const [, z] of [...ticks, [0, zf]]) {
      pen.line([P(-hx * sx, hy * sy, z), P(-hx * sx, -hy * sy, z), P(hx * sx, -hy * sy, z)], wall);
    }
    for (const [x, y] of [[-sx, -sy], [-sx, sy], [sx, -sy]]) pen.line([P(x * hx, y * hy, zf), P(x * hx, y * hy, tall)], wall);
    pen.line([P(-hx * sx, hy * sy, tall), P(-hx * sx, -hy * sy, tall), P(hx * sx, -hy * sy, tall)], wall);
  }
  if (look.floor && state.lines) {
    for (const { share, lines } of body.levels()) {
      const stroke = rgb(page.map.at(share));
      for (const path of lines) pen.line(thin(path, 3).map(([x, y]) => P(x, y, zf)), { stroke, width: 1, alpha: 0.8 });
    }
  }
  paintSurface();
  // The edges in front, which no part of the surface hides.
  frame(pen, body, P, page, { zf, sx, sy, size, small });
  height(pen, body, P, page, { ticks, size, tall, zf });
  for (const trail of body.trails) drawTrail(pen, body, camera, page, trail);
  if (state.arrows) for (const k of page.arrowNodes(body)) drawCross(pen, body, page, k, (x, y) => {
    const p = onSurface(body, camera, x, y);
    return p && !camera.hides(body, x, y, p[3]) ? p : null;
  });
  drawMarks(pen, body, camera, page);
  if (page.point) drawPoint(pen, body, camera, page);
}

const thin = (path, every) => path.filter((_, k) => k % every === 0 || k === path.length - 1);

function onSurface(body, camera, x, y, lift = 0.004) {
  const t = body.at(x, y);
  return Number.isNaN(t) ? null : [...camera.project(x, y, t * camera.tall + lift), t * camera.tall];
}

function frame(pen, body, P, page, { zf, sx, sy, size, small }) {
  const { paint } = page, [hx, hy] = body.half;
  const line = { stroke: paint("strong-line"), width: 1.2 };
  pen.line([P(-hx, hy * sy, zf), P(hx, hy * sy, zf)], line);
  pen.line([P(hx * sx, -hy, zf), P(hx * sx, hy, zf)], line);
  // Text that lies beside an edge, as far from it as its width asks for.
  const put = (p, inner, words, gap, style) => {
    const dx = p[0] - inner[0], dy = p[1] - inner[1], l = Math.hypot(dx, dy) || 1, w = pen.measure(words, style.size, style.weight) / 2;
    const far = gap + Math.abs(dx / l) * w * 0.9 + Math.abs(dy / l) * size * 0.5;
    const held = (v, room) => Math.min(Math.max(v, w + 3), room - w - 3);
    pen.text(held(p[0] + dx / l * far, pen.room), p[1] + dy / l * far, words, style);
  };
  const count = small ? 3 : 5;
  const axes = [
    [body.x, (v, out) => P(body.across(v), hy * sy * out, zf), body.axes[0]],
    [body.y, (v, out) => P(hx * sx * out, body.up(v), zf), body.axes[1]],
  ];
  for (const [list, at, label] of axes) {
    const ends = [at(list[0], 1), at(list.at(-1), 1)];
    // An axis that is seen almost end on has no room for numbers.
    if (Math.hypot(ends[0][0] - ends[1][0], ends[0][1] - ends[1][1]) < 90) continue;
    for (const v of steps(list[0], list.at(-1), count)) {
      pen.line([at(v, 1), at(v, 1.035)], line);
      put(at(v, 1.03), at(v, 0.9), short(v), 5, { size: size - 1, fill: paint("muted") });
    }
    const middle = (list[0] + list.at(-1)) / 2;
    put(at(middle, 1.03), at(middle, 0.9), label, small ? 18 : 26, { size, weight: 550, fill: paint("ink") });
  }
}

function height(pen, body, P, page, { ticks, size, tall, zf }) {
  const { paint } = page, [hx, hy] = body.half;
  const corners = [[-hx, -hy], [hx, -hy], [hx, hy], [-hx, hy]].map(([x, y]) => [P(x, y, tall / 2)[0], x, y]);
  const [, x, y] = corners.reduce((a, b) => (b[0] < a[0] ? b : a));
  const line = { stroke: paint("strong-line"), width: 1.2 };
  pen.line([P(x, y, zf), P(x, y, tall)], line);
  for (const [value, z] of ticks) {
    const p = P(x, y, z);
    pen.line([p, [p[0] - 5, p[1]]], line);
    pen.text(p[0] - 8, p[1], short(value), { size: size - 1, fill: paint("muted"), anchor: "end" });
  }
  const top = P(x, y, tall);
  const title = body.scale.log ? `${body.unit} (log)` : body.unit;
  pen.text(Math.max(top[0], pen.measure(title, size, 550) / 2 + 4), top[1] - 16, title, { size, weight: 550, fill: paint("ink") });
}

function trailColour(body, page, trail) {
  const own = page.look.trails;
  return page.paint(own ? own[body.trails.indexOf(trail) % own.length] : trail.colour);
}

function drawTrail(pen, body, camera, page, trail) {
  const way = body.drape(trail.x.map((x, k) => [body.across(x), body.up(trail.y[k])]));
  const runs = [];
  for (const [x, y] of way) {
    const p = onSurface(body, camera, x, y);
    const kind = p === null ? 0 : camera.hides(body, x, y, p[3]) ? 1 : 2;
    const last = runs.at(-1);
    if (last && last.kind === kind) last.points.push(p);
    else runs.push({ kind, points: last && kind && last.kind ? [last.points.at(-1), p] : [p] });
  }
  const colour = trailColour(body, page, trail);
  for (const { kind, points } of runs) if (kind === 1) pen.line(points, { stroke: colour, width: 1.4, dash: [2, 4], alpha: 0.75 });
  for (const { kind, points } of runs) if (kind === 2) pen.line(points, { stroke: page.halo, width: 5.5, alpha: 0.85 });
  for (const { kind, points } of runs) if (kind === 2) pen.line(points, { stroke: colour, width: 2.6 });
  let last = null;
  trail.x.forEach((x, k) => {
    const p = onSurface(body, camera, body.across(x), body.up(trail.y[k]));
    // Points that would cover each other are left out.
    if (p && last && k < trail.x.length - 1 && Math.hypot(p[0] - last[0], p[1] - last[1]) < 13) return;
    last = p;
    if (p && !camera.hides(body, body.across(x), body.up(trail.y[k]), p[3])) {
      const end = k === trail.x.length - 1;
      pen.circle(p[0], p[1], end ? 5 : 2.2, { fill: end ? colour : page.halo, stroke: end ? page.halo : colour, width: end ? 2 : 1 });
    }
  });
}

// Pins with names; a name that would cover another one stands higher.
function drawMarks(pen, body, camera, page) {
  const { paint } = page, taken = [], size = camera.width < 420 ? 11 : 12.5;
  const pins = body.marks.map((mark) => ({ mark, p: onSurface(body, camera, body.across(mark.x), body.up(mark.y)) })).filter((one) => one.p);
  pins.sort((a, b) => a.p[1] - b.p[1]);
  for (const { mark, p } of pins) {
    const w = pen.measure(mark.name, size, 600) + 16, h = size + 9, x = Math.min(Math.max(p[0] - w / 2, 2), camera.width - w - 2);
    let y = p[1] - 34 - h;
    while (taken.some((t) => x < t.x + t.w + 3 && t.x < x + w + 3 && y < t.y + t.h + 3 && t.y < y + h + 3)) y -= 6;
    taken.push({ x, y, w, h });
    const stem = [[p[0], p[1]], [p[0], y + h]], hidden = camera.hides(body, body.across(mark.x), body.up(mark.y), p[3]);
    if (!hidden) pen.line(stem, { stroke: page.halo, width: 3.5 });
    pen.line(stem, { stroke: paint("ink"), width: 1.4, dash: hidden ? [2, 3] : [] });
    pen.circle(p[0], p[1], hidden ? 2.5 : 4, { fill: page.halo, stroke: paint("ink"), width: hidden ? 1 : 1.8 });
    pen.box(x, y, w, h, h / 2, { fill: paint("surface"), stroke: paint("strong-line") });
    pen.text(x + w / 2, y + h / 2 + 0.5, mark.name, { size, weight: 600, fill: paint("ink") });
  }
}

function drawPoint(pen, body, camera, page) {
  const k = page.nodeAt(body, page.point);
  if (k === null) return;
  const [x, y] = body.node(k), [hx, hy] = body.half, { paint } = page;
  for (const way of [[[-hx, y], [hx, y]], [[x, -hy], [x, hy]]]) {
    let run = [];
    const flush = () => { pen.line(run, { stroke: page.halo, width: 3.4, alpha: 0.5 }); pen.line(run, { stroke: paint("ink"), width: 1.3, alpha: 0.9 }); run = []; };
    for (const [a, b] of body.drape(way)) {
      const p = onSurface(body, camera, a, b);
      if (p && !camera.hides(body, a, b, p[3])) run.push(p); else flush();
    }
    flush();
  }
  const p = onSurface(body, camera, x, y);
  if (!p) return;
  pen.circle(p[0], p[1], 6.5, { fill: page.halo, stroke: paint("ink"), width: 2 });
  pen.circle(p[0], p[1], 2.6, { fill: paint("ink") });
  const words = `${body.unit} ${number(body.losses[k], 4)}`, w = pen.measure(words, 13, 600) + 20;
  const left = Math.min(Math.max(p[0] + 14, 4), camera.width - w - 4), top = Math.max(p[1] - 40, 4);
  pen.box(left, top, w, 27, 13.5, { fill: paint("ink") });
  pen.text(left + w / 2, top + 14, words, { size: 13, weight: 600, fill: paint("surface") });
}

// Principal directions at a grid point: arrows point where the loss rises.
function drawCross(pen, body, page, k, at) {
  const i = k % body.nx, j = (k - i) / body.nx;
  const found = field.curvature(body.x, body.y, body.losses, i, j, body.metric);
  if (!found) return;
  const [wx, wy] = body.node(k), most = Math.max(...found.map((one) => Math.abs(one.value))) || 1;
  for (const { value, direction } of found) {
    const way = [direction[0] * 2 * body.half[0] / (body.x.at(-1) - body.x[0]), direction[1] * 2 * body.half[1] / (body.y.at(-1) - body.y[0])];
    const length = 0.05 + 0.25 * Math.sqrt(Math.abs(value) / most), l = Math.hypot(...way), rises = value >= 0;
    for (const side of [-1, 1]) {
      const points = [];
      for (let s = 0.03; s <= length; s += 0.01) {
        const p = at(wx + side * way[0] / l * s, wy + side * way[1] / l * s);
        if (p) points.push(p);
      }
      if (points.length < 3) continue;
      const stroke = page.paint(rises ? "ink" : "warning"), dash = rises ? [] : [5, 3];
      pen.line(points, { stroke: page.halo, width: 5, alpha: 0.85 });
      pen.line(points, { stroke, width: 2.2, dash });
      // The head: outward where the loss rises, inward where it falls.
      const [tip, back] = rises ? [points.at(-1), points.at(-Math.min(5, points.length))] : [points[0], points[Math.min(4, points.length - 1)]];
      const dx = tip[0] - back[0], dy = tip[1] - back[1], d = Math.hypot(dx, dy) || 1, ux = dx / d, uy = dy / d, h = 8;
      const end = [tip[0] + ux * 2, tip[1] + uy * 2];
      pen.fill([end, [end[0] - ux * h - uy * h * 0.5, end[1] - uy * h + ux * h * 0.5], [end[0] - ux * h + uy * h * 0.5, end[1] - uy * h - ux * h * 0.5]], { fill: stroke, stroke: page.halo, width: 1 });
    }
  }
}

// The surface as filled quadrilaterals, the farthest first: where there is no WebGL, and for SVG.
function paintQuads(pen, body, camera, page, limit) {
  const { look } = page, [nx, ny] = body.size, light = lightOf(look, page.state.azimuth), z = body.fine.z;
  const every = [1, 2, 3, 4, 5, 6, 8].find((s) => body.parts % s === 0 && (nx - 1) * (ny - 1) / (s * s) <= limit) || body.parts;
  const quads = [], { normals, sky, sun } = body.shade, ink = page.inkBytes;
  for (let j = 0; j < ny - 1; j += every) {
    for (let i = 0; i < nx - 1; i += every) {
      const ks = [j * nx + i, j * nx + i + every, (j + every) * nx + i + every, (j + every) * nx + i];
      if (ks.some((k) => Number.isNaN(z[k]))) continue;
      const points = ks.map((k) => camera.project(body.fx[k % nx], body.fy[Math.floor(k / nx)], body.flat[k] * camera.tall));
      const mean = (list, step = 1, offset = 0) => ks.reduce((s, k) => s + list[k * step + offset], 0) / 4;
      const share = mean(z), normal = [0, 1, 2].map((c) => mean(normals, 3, c));
      let colour = lit(page.map.at(Math.min(share, 1)), normal, mean(sky), mean(sun), look, light);
      if (share > 1.0005) colour = colour.map((c, n) => c * 0.72 + ink[n] * 0.28);
      quads.push({ points, colour, depth: points.reduce((s, p) => s + p[2], 0) });
    }
  }
  if (look.block) for (const [a, b, out] of edge(body, every)) {
    if (camera.d[0] * out[0] + camera.d[1] * out[1] <= 0) continue;
    const P = (k, low) => camera.project(body.fx[k % nx], body.fy[Math.floor(k / nx)], low ? -BASE : body.flat[k] * camera.tall);
    const points = [P(a, false), P(b, false), P(b, true), P(a, true)];
    quads.push({ points, colour: lit(page.map.at(Math.min(z[a], 1) * 0.5), [...out, 0], 0.7, 1, look, light), depth: points.reduce((s, p) => s + p[2], 0) });
  }
  quads.sort((a, b) => b.depth - a.depth);
  for (const { points, colour } of quads) { const fill = rgb(colour); pen.fill(points, { fill, stroke: fill, width: 0.7 }); }
  if (page.state.lines && look.lines) for (const { share, lines } of body.levels()) {
    for (const path of lines) {
      let run = [];
      const flush = () => { pen.line(run, { stroke: page.ink, width: 0.8, alpha: look.lines }); run = []; };
      for (const [x, y] of thin(path, 2)) {
        if (camera.hides(body, x, y, share * camera.tall)) flush(); else run.push(camera.project(x, y, share * camera.tall));
      }
      flush();
    }
  }
}
