// A surface in space: its heights as a mesh, the camera, and what hides what.
class Body {
  constructor(data) {
    Object.assign(this, data);
    this.nx = this.x.length;
    this.ny = this.y.length;
    const most = Math.max(this.nx, this.ny) - 1;
    this.parts = [10, 8, 6, 4, 3, 2, 1].find((p) => p * most <= 220) || 1;
    const wide = (this.x.at(-1) - this.x[0]) * this.lengths[0], deep = (this.y.at(-1) - this.y[0]) * this.lengths[1];
    const ratio = deep / wide;
    this.toScale = ratio >= 0.5 && ratio <= 2;
    const shown = Math.min(Math.max(ratio, 0.5), 2);
    this.half = shown <= 1 ? [1, shown] : [1 / shown, 1];
  }
  // World coordinates of plane coordinates, and back.
  across(x) { return ((x - this.x[0]) / (this.x.at(-1) - this.x[0]) * 2 - 1) * this.half[0]; }
  up(y) { return ((y - this.y[0]) / (this.y.at(-1) - this.y[0]) * 2 - 1) * this.half[1]; }
  plane(wx, wy) {
    return [this.x[0] + (wx / this.half[0] + 1) / 2 * (this.x.at(-1) - this.x[0]),
      this.y[0] + (wy / this.half[1] + 1) / 2 * (this.y.at(-1) - this.y[0])];
  }
  inside(x, y) { return x >= this.x[0] && x <= this.x.at(-1) && y >= this.y[0] && y <= this.y.at(-1); }

  shape(scale) {
    this.scale = scale;
    this.shares = Float64Array.from(this.losses, (v) => scale.share(v));
    // What lies above the clip still pulls the slope below it, but not from infinitely far.
    const held = this.shares.map((t) => (t > 1 ? Math.min(1 + Math.log(t), 4) : t));
    this.fine = field.refine(this.x, this.y, held, this.parts);
    const { nx, ny, x, y, z } = this.fine;
    this.fx = Float64Array.from(x, (v) => this.across(v));
    this.fy = Float64Array.from(y, (v) => this.up(v));
    this.flat = z.map((t) => Math.min(Math.max(t, 0), 1));
    this.lookX = this.look(this.fx, this.half[0]);
    this.lookY = this.look(this.fy, this.half[1]);
    this.clippedPoints = this.losses.reduce((n, v) => n + (v > scale.high), 0);
    this.missing = this.losses.reduce((n, v) => n + Number.isNaN(v), 0);
    this.size = [nx, ny];
    this.paths = null;
  }
  // From even steps of a world coordinate to fractions of a fine index.
  look(coordinates, half) {
    const out = new Float32Array(1025);
    for (let k = 0, i = 0; k <= 1024; k++) {
      const w = -half + 2 * half * k / 1024;
      while (i < coordinates.length - 2 && coordinates[i + 1] < w) i++;
      out[k] = Math.min(Math.max(i + (w - coordinates[i]) / (coordinates[i + 1] - coordinates[i]), 0), coordinates.length - 1);
    }
    return out;
  }
  // Height (0 to 1) at world coordinates; NaN in a gap or outside.
  at(wx, wy) {
    const u = (wx / this.half[0] + 1) * 512, v = (wy / this.half[1] + 1) * 512;
    if (!(u >= -1e-3 && v >= -1e-3 && u <= 1024.001 && v <= 1024.001)) return NaN;
    const [nx, ny] = this.size;
    const part = (table, w) => { const k = Math.min(Math.max(Math.floor(w), 0), 1023); return table[k] + (table[k + 1] - table[k]) * (Math.min(Math.max(w, 0), 1024) - k); };
    const fi = part(this.lookX, u), fj = part(this.lookY, v);
    const i = Math.min(Math.floor(fi), nx - 2), j = Math.min(Math.floor(fj), ny - 2), s = fi - i, r = fj - j, k = j * nx + i, z = this.flat;
    if (s === 0 && r === 0) return z[k];
    return (z[k] * (1 - s) + z[k + 1] * s) * (1 - r) + (z[k + nx] * (1 - s) + z[k + nx + 1] * s) * r;
  }
  // Level lines, once for each shape.
  levels() {
    const { scale } = this;
    if (!this.paths) {
      const [nx, ny] = this.size;
      const world = ([i, j]) => {
        const a = Math.floor(i), b = Math.floor(j), s = i - a, r = j - b;
        return [s ? this.fx[a] * (1 - s) + this.fx[a + 1] * s : this.fx[a], r ? this.fy[b] * (1 - r) + this.fy[b + 1] * r : this.fy[b]];
      };
      this.paths = scale.levels(14).map((level) => ({
        level, share: scale.share(level),
        lines: field.lines(this.fine.z, nx, ny, scale.share(level)).map((path) => path.map(world)),
      }));
    }
    return this.paths;
  }
  node(k) { const i = k % this.nx, j = (k - i) / this.nx; return [this.across(this.x[i]), this.up(this.y[j])]; }
  // A way over the surface between plane points, dense enough to lie on it.
  drape(points) {
    const out = [];
    for (let k = 0; k < points.length - 1; k++) {
      const [a, b] = [points[k], points[k + 1]];
      const count = Math.max(1, Math.ceil(Math.hypot(b[0] - a[0], b[1] - a[1]) / 0.02));
      for (let p = 0; p < count; p++) out.push([a[0] + (b[0] - a[0]) * p / count, a[1] + (b[1] - a[1]) * p / count]);
    }
    out.push(points.at(-1));
    return out;
  }
}

class Camera {
  constructor(body, state, width, height, tall) {
    const { azimuth: a, elevation: e } = state;
    this.r = [Math.cos(a), Math.sin(a), 0];
    this.u = [-Math.sin(e) * Math.sin(a), Math.sin(e) * Math.cos(a), Math.cos(e)];
    this.d = [Math.cos(e) * Math.sin(a), -Math.cos(e) * Math.cos(a), Math.sin(e)];
    this.tall = tall;
    this.target = [0, 0, tall * 0.44];
    this.distance = 5.4;
    const radius = Math.hypot(...body.half);
    const fit = Math.min(0.40 * width / radius, 0.43 * height / (radius * 0.62 + tall * 0.42));
    this.focal = fit * this.distance * state.zoom;
    this.cx = width / 2;
    this.cy = height * 0.49;
    this.width = width;
    this.height = height;
  }
  project(x, y, z) {
    const q = [x - this.target[0], y - this.target[1], z - this.target[2]];
    const dot = (v) => q[0] * v[0] + q[1] * v[1] + q[2] * v[2];
    const depth = this.distance - dot(this.d);
    return [this.cx + this.focal * dot(this.r) / depth, this.cy - this.focal * dot(this.u) / depth, depth];
  }
  eye() { return this.target.map((t, k) => t + this.d[k] * this.distance); }
  // Whether the surface hides a point that lies on or above it.
  hides(body, x, y, z) {
    const eye = this.eye(), to = [eye[0] - x, eye[1] - y, eye[2] - z];
    const length = Math.hypot(...to), step = 0.025;
    for (let k = 1; k < 120; k++) {
      const s = k * step / length, h = z + to[2] * s + 0.004;
      if (h > this.tall) return false;
      const ground = body.at(x + to[0] * s, y + to[1] * s) * this.tall;
      if (ground > h + 0.006) return true;
      if (Math.abs(x + to[0] * s) > body.half[0] || Math.abs(y + to[1] * s) > body.half[1]) return false;
    }
    return false;
  }
  // The world coordinates of the surface under a pixel, or null.
  pick(body, px, py) {
    const eye = this.eye(), a = (px - this.cx) / this.focal, b = (this.cy - py) / this.focal;
    const ray = [0, 1, 2].map((k) => -this.d[k] + this.r[k] * a + this.u[k] * b);
    let before = null;
    for (let s = this.distance - 2.2; s < this.distance + 2.2; s += 0.008) {
      const [x, y, z] = eye.map((e, k) => e + ray[k] * s);
      const ground = body.at(x, y) * this.tall;
      if (!Number.isNaN(ground)) {
        const gap = z - ground;
        if (gap <= 0) return before === null || before > 0 || gap > -0.05 ? [x, y] : null;
        before = gap;
      } else before = null;
    }
    return null;
  }
}
