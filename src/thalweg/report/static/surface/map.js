// The map: colours, level lines, ways and marks on the plane.
function mapPlace(body, width, height) {
  const small = width < 420, left = small ? 44 : 58, right = 14, top = 12, bottom = small ? 46 : 54;
  const ratio = body.half[1] / body.half[0];
  let w = width - left - right, h = w * ratio;
  if (h > height - top - bottom) { h = height - top - bottom; w = h / ratio; }
  const x = left + (width - left - right - w) / 2, y = top + (height - top - bottom - h) / 2;
  return { x, y, w, h, small, at: (wx, wy) => [x + (wx / body.half[0] + 1) / 2 * w, y + (1 - wy / body.half[1]) / 2 * h],
    world: (px, py) => [((px - x) / w * 2 - 1) * body.half[0], (1 - (py - y) / h * 2) * body.half[1]] };
}

// The field in pixels, shaded as relief where the look says so; hatched above the clip, empty in gaps.
function raster(body, page, width, height) {
  const { look } = page, [nx, ny] = body.size, z = body.fine.z;
  const made = document.createElement("canvas");
  made.width = width; made.height = height;
  const context = made.getContext("2d"), image = context.createImageData(width, height), out = image.data;
  const light = lightOf({ ...look, fixed: true, light: [2.35, 0.62] }, 0), { normals, sky } = body.shade, ink = page.inkBytes;
  const index = (table, s) => { const u = s * 1024, k = Math.min(Math.floor(u), 1023); return table[k] + (table[k + 1] - table[k]) * (u - k); };
  const columns = Float32Array.from({ length: width }, (_, p) => index(body.lookX, (p + 0.5) / width));
  for (let q = 0; q < height; q++) {
    const fj = index(body.lookY, 1 - (q + 0.5) / height), j = Math.min(Math.floor(fj), ny - 2), r = fj - j;
    for (let p = 0; p < width; p++) {
      const fi = columns[p], i = Math.min(Math.floor(fi), nx - 2), s = fi - i, k = j * nx + i, o = 4 * (q * width + p);
      const t = (z[k] * (1 - s) + z[k + 1] * s) * (1 - r) + (z[k + nx] * (1 - s) + z[k + nx + 1] * s) * r;
      if (Number.isNaN(t)) {
        if ((p + q) % 8 < 1.2) out.set([...ink, 110], o);
        continue;
      }
      const c = 3 * Math.round(Math.min(Math.max(t, 0), 1) * 255);
      let shade = 1;
      if (look.relief) {
        const near = (s < 0.5 ? k : k + 1) + (r < 0.5 ? 0 : nx);
        const n0 = normals[3 * k] * (1 - s) * (1 - r) + normals[3 * k + 3] * s * (1 - r) + normals[3 * (k + nx)] * (1 - s) * r + normals[3 * (k + nx) + 3] * s * r;
        const n1 = normals[3 * k + 1] * (1 - s) * (1 - r) + normals[3 * k + 4] * s * (1 - r) + normals[3 * (k + nx) + 1] * (1 - s) * r + normals[3 * (k + nx) + 4] * s * r;
        const n2 = Math.sqrt(Math.max(1 - n0 * n0 - n1 * n1, 0));
        shade = mix(1, (0.35 + 0.95 * Math.max(n0 * light[0] + n1 * light[1] + n2 * light[2], 0)) * mix(1, sky[near], 0.5), look.relief);
      }
      const above = t > 1.0005, pale = above ? ((p + q) % 9 < 2 ? 0.32 : 0.12) : 0;
      for (let n = 0; n < 3; n++) out[o + n] = Math.min((page.map.bytes[c + n] * shade) * (1 - pale) + ink[n] * pale, 255);
      out[o + 3] = 255;
    }
  }
  context.putImageData(image, 0, 0);
  return made;
}

function paintMap(pen, body, page, place, paintField) {
  const { paint, state } = page, { scale } = body, { x, y, w, h, small, at } = place, size = small ? 10.5 : 12;
  paintField(place);
  if (state.lines) {
    const labelled = new Set(scale.ticks(0.1)), labels = [];
    for (const { level, share, lines } of body.levels()) {
      const light = isLight(page.map.at(share)), stroke = light ? "#0d1620" : "#ffffff";
      for (const path of lines) pen.line(path.map(([a, b]) => at(a, b)), { stroke, width: labelled.has(level) ? 0.9 : 0.55, alpha: labelled.has(level) ? 0.62 : 0.34 });
      if (labelled.has(level) && lines.length) labels.push({ level, share, path: lines.reduce((a, b) => (b.length > a.length ? b : a)).map(([a, b]) => at(a, b)) });
    }
    labelLevels(pen, labels, page, place, size);
  }
  pen.line([[x, y], [x + w, y], [x + w, y + h], [x, y + h], [x, y]], { stroke: paint("strong-line"), width: 1 });
  for (const v of steps(body.x[0], body.x.at(-1), small ? 4 : 6)) {
    const [px] = at(body.across(v), 0);
    pen.line([[px, y + h], [px, y + h + 5]], { stroke: paint("strong-line") });
    pen.text(px, y + h + 9, short(v), { size: size - 1, fill: paint("muted"), base: "top" });
  }
  for (const v of steps(body.y[0], body.y.at(-1), small ? 4 : 6)) {
    const [, py] = at(0, body.up(v));
    pen.line([[x, py], [x - 5, py]], { stroke: paint("strong-line") });
    pen.text(x - 8, py, short(v), { size: size - 1, fill: paint("muted"), anchor: "end" });
  }
  const fit = (n, room) => (pen.measure(body.labels[n], size) <= room ? body.labels[n] : body.axes[n]);
  pen.text(x + w / 2, y + h + 27, fit(0, w + 40), { size, fill: paint("ink"), base: "top" });
  pen.text(x - (small ? 34 : 46), y + h / 2, fit(1, h + 40), { size, fill: paint("ink"), angle: -Math.PI / 2 });
  for (const trail of body.trails) {
    const colour = trailColour(body, page, trail), points = trail.x.map((v, k) => at(body.across(v), body.up(trail.y[k])));
    pen.line(points, { stroke: page.halo, width: 5, alpha: 0.85 });
    pen.line(points, { stroke: colour, width: 2.3 });
    let last = null;
    points.forEach(([a, b], k) => {
      const end = k === points.length - 1;
      if (last && !end && Math.hypot(a - last[0], b - last[1]) < 13) return;
      last = [a, b];
      pen.circle(a, b, end ? 5 : 2, { fill: end ? colour : page.halo, stroke: end ? page.halo : colour, width: end ? 2 : 1 });
    });
  }
  const inside = (a, b) => (Math.abs(a) <= body.half[0] && Math.abs(b) <= body.half[1] ? at(a, b) : null);
  if (state.arrows) for (const k of page.arrowNodes(body)) drawCross(pen, body, page, k, inside);
  const taken = [];
  for (const mark of body.marks) {
    if (!body.inside(mark.x, mark.y)) continue;
    const [a, b] = at(body.across(mark.x), body.up(mark.y)), words = mark.name, wide = pen.measure(words, size + 0.5, 600) + 14;
    const left = Math.min(Math.max(a - wide / 2, x + 2), x + w - wide - 2);
    let top = b - 32;
    if (top < y + 2) top = b + 12;
    while (taken.some((t) => left < t[0] + t[2] && t[0] < left + wide && Math.abs(t[1] - top) < 24)) top += 6;
    taken.push([left, top, wide]);
    pen.circle(a, b, 5, { fill: page.halo, stroke: paint("ink"), width: 2 });
    pen.box(left, top, wide, 21, 10.5, { fill: paint("surface"), stroke: paint("strong-line") });
    pen.text(left + wide / 2, top + 11, words, { size: size + 0.5, weight: 600, fill: paint("ink") });
  }
  if (page.point) {
    const k = page.nodeAt(body, page.point);
    if (k !== null) {
      const [a, b] = at(...body.node(k));
      for (const way of [[[x, b], [x + w, b]], [[a, y], [a, y + h]]]) {
        pen.line(way, { stroke: page.halo, width: 3, alpha: 0.4 });
        pen.line(way, { stroke: paint("ink"), width: 1, alpha: 0.85 });
      }
      pen.circle(a, b, 6.5, { fill: page.halo, stroke: paint("ink"), width: 2 });
      pen.circle(a, b, 2.4, { fill: paint("ink") });
    }
  }
}

// The value of a level line, written along it where it runs most nearly level.
function labelLevels(pen, labels, page, place, size) {
  const taken = [];
  for (const { level, share, path } of labels) {
    const words = short(level), room = pen.measure(words, size - 1) + 10;
    let best = null;
    for (let k = 0; k < path.length; k += 2) {
      let m = k;
      while (m < path.length - 1 && Math.hypot(path[m][0] - path[k][0], path[m][1] - path[k][1]) < room) m++;
      if (m === path.length - 1) break;
      const [a, b] = [path[k], path[m]], middle = [(a[0] + b[0]) / 2, (a[1] + b[1]) / 2];
      if (middle[0] < place.x + room || middle[0] > place.x + place.w - room || middle[1] < place.y + 14 || middle[1] > place.y + place.h - 14) continue;
      if (taken.some((t) => Math.hypot(t[0] - middle[0], t[1] - middle[1]) < 46)) continue;
      const centre = path[Math.floor((k + m) / 2)], bend = Math.hypot(centre[0] - middle[0], centre[1] - middle[1]);
      const tilt = Math.abs(Math.atan((b[1] - a[1]) / (b[0] - a[0] || 1e-9)));
      const cost = bend + tilt * 6;
      if (!best || cost < best.cost) best = { cost, middle: centre, angle: Math.atan((b[1] - a[1]) / (b[0] - a[0] || 1e-9)) };
    }
    if (!best || best.cost > 14) continue;
    taken.push(best.middle);
    const ground = page.map.at(share), light = isLight(ground);
    pen.text(best.middle[0], best.middle[1], words, { size: size - 1, fill: light ? "#0d1620" : "#ffffff", halo: rgb(ground), angle: best.angle, weight: 550 });
  }
}

// Quantities of one kind along the row and the column of a point.
function paintSlice(pen, page, bodies, axis, width, height) {
  const { paint } = page, { scale, kind } = bodies[0], left = 52, right = 12, top = 24, bottom = 40, w = width - left - right, h = height - top - bottom;
  const first = bodies[0], list = axis ? "y" : "x", low = Math.min(...bodies.map((b) => b[list][0])), high = Math.max(...bodies.map((b) => b[list].at(-1)));
  const px = (v) => left + (v - low) / (high - low) * w, py = (share) => top + (1 - Math.min(share, 1)) * h;
  for (const v of scale.ticks(0.22)) {
    pen.line([[left, py(scale.share(v))], [left + w, py(scale.share(v))]], { stroke: paint("line") });
    pen.text(left - 8, py(scale.share(v)), short(v), { size: 11, fill: paint("muted"), anchor: "end" });
  }
  pen.line([[left, top + h], [left + w, top + h]], { stroke: paint("strong-line") });
  for (const v of steps(low, high, 5)) pen.text(px(v), top + h + 7, short(v), { size: 11, fill: paint("muted"), base: "top" });
  pen.text(left, 9, scale.log ? `${kind} (log scale)` : kind, { size: 11.5, fill: paint("ink"), anchor: "start" });
  pen.text(left + w / 2, height - 13, first.axes[axis], { size: 11.5, fill: paint("ink") });
  bodies.forEach((body) => {
    const k = page.nodeAt(body, page.where());
    if (k === null) return;
    const i = k % body.nx, j = (k - i) / body.nx, colour = paint(body.colour);
    const points = Array.from(body[list], (v, n) => [px(v), py(body.shares[axis ? n * body.nx + i : j * body.nx + n])]);
    let run = [];
    const flush = () => { pen.line(run, { stroke: colour, width: 1.8, dash: body.dash }); run = []; };
    for (const p of points) if (Number.isNaN(p[1])) flush(); else run.push(p);
    flush();
    for (const p of points) if (!Number.isNaN(p[1])) pen.circle(p[0], p[1], 1.4, { fill: colour });
    const here = points[axis ? j : i];
    pen.line([[here[0], top], [here[0], top + h]], { stroke: paint("ink"), width: 1, alpha: 0.25 });
    if (!Number.isNaN(here[1])) pen.circle(here[0], here[1], 4.5, { fill: colour, stroke: paint("surface"), width: 2 });
  });
}
