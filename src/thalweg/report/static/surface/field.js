// Mathematics of losses on a grid: what lies between grid points, level lines, curvature.
const field = (() => {
  // Monotone cubic slopes (Fritsch and Carlson 1980): no hill or pit that was not measured.
  function slopes(x, v, count, start, stride, out) {
    const at = (k) => v[start + k * stride];
    for (let k = 0; k < count; k++) {
      const left = k > 0 ? (at(k) - at(k - 1)) / (x[k] - x[k - 1]) : NaN;
      const right = k < count - 1 ? (at(k + 1) - at(k)) / (x[k + 1] - x[k]) : NaN;
      if (Number.isNaN(left) || Number.isNaN(right)) {
        out[k] = Number.isNaN(left) ? (Number.isNaN(right) ? 0 : right) : left;
      } else if (left * right <= 0) {
        out[k] = 0;
      } else {
        const a = x[k] - x[k - 1], b = x[k + 1] - x[k];
        out[k] = 3 * (a + b) / ((2 * b + a) / left + (b + 2 * a) / right);
      }
    }
  }

  function along(x, v, count, start, stride, parts, out, outStart, outStride, m) {
    slopes(x, v, count, start, stride, m);
    for (let k = 0; k < count - 1; k++) {
      const a = v[start + k * stride], b = v[start + (k + 1) * stride], h = x[k + 1] - x[k];
      for (let p = 0; p < parts; p++) {
        const s = p / parts, r = 1 - s;
        out[outStart + (k * parts + p) * outStride] = p === 0 ? a
          : a * (1 + 2 * s) * r * r + b * s * s * (3 - 2 * s) + h * (m[k] * s * r * r - m[k + 1] * s * s * r);
      }
    }
    out[outStart + (count - 1) * parts * outStride] = v[start + (count - 1) * stride];
  }

  const finer = (x, parts) => Float64Array.from({ length: (x.length - 1) * parts + 1 }, (_, k) => {
    const i = Math.min(Math.floor(k / parts), x.length - 2), s = k / parts - i;
    return s === 0 ? x[i] : s === 1 ? x[i + 1] : x[i] * (1 - s) + x[i + 1] * s;
  });

  // Values on a grid with `parts` steps for each: at the old points they are the old values.
  function refine(x, y, z, parts) {
    const nx = (x.length - 1) * parts + 1, ny = (y.length - 1) * parts + 1;
    const m = new Float64Array(Math.max(x.length, y.length));
    const wide = new Float64Array(nx * y.length), out = new Float64Array(nx * ny);
    for (let j = 0; j < y.length; j++) along(x, z, x.length, j * x.length, 1, parts, wide, j * nx, 1, m);
    for (let i = 0; i < nx; i++) along(y, wide, y.length, i, nx, parts, out, i, nx, m);
    return { x: finer(x, parts), y: finer(y, parts), z: out, nx, ny };
  }

  // The lines where z crosses a level (marching squares), as lists of [column, row] with fractions.
  function lines(z, nx, ny, level) {
    const one = new Int32Array(2 * nx * ny).fill(-1), two = new Int32Array(2 * nx * ny).fill(-1);
    const used = [];
    const join = (a, b) => {
      for (const [from, to] of [[a, b], [b, a]]) {
        if (one[from] < 0) { one[from] = to; used.push(from); } else two[from] = to;
      }
    };
    for (let j = 0; j < ny - 1; j++) {
      for (let i = 0; i < nx - 1; i++) {
        const k = j * nx + i, a = z[k], b = z[k + 1], c = z[k + nx + 1], d = z[k + nx];
        const code = (a >= level) + 2 * (b >= level) + 4 * (c >= level) + 8 * (d >= level);
        if (code === 0 || code === 15 || Number.isNaN(a + b + c + d)) continue;
        const bottom = 2 * k, right = 2 * k + 3, top = 2 * (k + nx), left = 2 * k + 1;
        if (code === 5 || code === 10) {
          const high = (a + b + c + d) / 4 >= level;
          if (high === (code === 5)) { join(bottom, right); join(left, top); } else { join(left, bottom); join(top, right); }
        } else {
          const sides = [];
          if ((code & 1) !== (code >> 1 & 1)) sides.push(bottom);
          if ((code >> 1 & 1) !== (code >> 2 & 1)) sides.push(right);
          if ((code >> 2 & 1) !== (code >> 3 & 1)) sides.push(top);
          if ((code >> 3 & 1) !== (code & 1)) sides.push(left);
          join(sides[0], sides[1]);
        }
      }
    }
    const point = (edge) => {
      const k = edge >> 1, i = k % nx, j = (k - i) / nx, upward = edge & 1;
      const a = z[k], b = z[upward ? k + nx : k + 1], s = (level - a) / (b - a);
      return upward ? [i, j + s] : [i + s, j];
    };
    const done = new Uint8Array(2 * nx * ny), found = [];
    const walk = (start) => {
      const path = [];
      let edge = start, before = -1;
      while (edge >= 0 && !done[edge]) {
        done[edge] = 1;
        path.push(point(edge));
        const next = one[edge] !== before ? one[edge] : two[edge];
        before = edge;
        edge = next;
      }
      const closed = edge === start && path.length > 2;
      if (closed) path.push(path[0]);
      if (path.length > 1) found.push(path);
    };
    for (const edge of used) if (two[edge] < 0 && !done[edge]) walk(edge);
    for (const edge of used) if (!done[edge]) walk(edge);
    return found;
  }

  // Closed outlines of where z is at least a level; gaps count as below it.
  function regions(z, nx, ny, level) {
    const wide = nx + 2, padded = new Float64Array(wide * (ny + 2)).fill(-1e9);
    for (let j = 0; j < ny; j++) {
      for (let i = 0; i < nx; i++) {
        const value = z[j * nx + i];
        if (!Number.isNaN(value)) padded[(j + 1) * wide + i + 1] = value;
      }
    }
    return lines(padded, wide, ny + 2, level).map((path) => path.map(([i, j]) => [
      Math.min(Math.max(i - 1, 0), nx - 1), Math.min(Math.max(j - 1, 0), ny - 1)]));
  }

  // Second derivatives at a grid point by central differences, and their eigenvalues and
  // directions where lengths are those of weight space: H v = lambda G v, G = [[g0, g1], [g1, g2]].
  function curvature(x, y, z, i, j, [g0, g1, g2]) {
    const nx = x.length;
    if (i < 1 || j < 1 || i > nx - 2 || j > y.length - 2) return null;
    const at = (di, dj) => z[(j + dj) * nx + i + di];
    const second = (c, k, before, here, after) => {
      const a = c[k] - c[k - 1], b = c[k + 1] - c[k];
      return 2 * ((after - here) / b - (here - before) / a) / (a + b);
    };
    const xx = second(x, i, at(-1, 0), at(0, 0), at(1, 0));
    const yy = second(y, j, at(0, -1), at(0, 0), at(0, 1));
    const xy = (at(1, 1) - at(1, -1) - at(-1, 1) + at(-1, -1)) / ((x[i + 1] - x[i - 1]) * (y[j + 1] - y[j - 1]));
    if (!Number.isFinite(xx + yy + xy)) return null;
    // With G = L L', the symmetric matrix inverse(L) H inverse(L)'.
    const a = Math.sqrt(g0), b = g1 / a, c = Math.sqrt(Math.max(g2 - b * b, Number.MIN_VALUE));
    const p = xx / (a * a), q = (xy - b * xx / a) / (a * c);
    const r = (yy - 2 * b * xy / a + b * b * xx / (a * a)) / (c * c);
    const mean = (p + r) / 2, half = Math.hypot((p - r) / 2, q), turn = 0.5 * Math.atan2(2 * q, p - r);
    return [[mean + half, turn], [mean - half, turn + Math.PI / 2]].map(([value, angle]) => {
      const w0 = Math.cos(angle), w1 = Math.sin(angle), v1 = w1 / c;
      return { value, direction: [(w0 - b * v1) / a, v1] };
    });
  }

  const nearest = (list, value) => {
    let best = 0;
    for (let k = 1; k < list.length; k++) if (Math.abs(list[k] - value) < Math.abs(list[best] - value)) best = k;
    return best;
  };

  return { refine, lines, regions, curvature, nearest };
})();
