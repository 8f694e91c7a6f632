// How the surface is lit and drawn, from plain to dramatic. Colours of the page unless given.
const LOOKS = {
  paper: {
    label: "Paper", map: "cividis", ambient: 0.9, diffuse: 0.12, gloss: 0, rim: 0, occlusion: 0.25, shadow: 0,
    light: [0.5, 0.6], fixed: false, lines: 0.75, mesh: 0, block: false, relief: 0, floor: true, walls: true,
  },
  studio: {
    label: "Studio", map: "viridis", ambient: 0.62, diffuse: 0.5, gloss: 0.16, rim: 0, occlusion: 0.65, shadow: 0.22,
    light: [-0.75, 0.85], fixed: false, lines: 0.34, mesh: 0, block: false, relief: 0, floor: true, walls: true,
  },
  mesh: {
    label: "Grid points", map: "viridis", ambient: 0.86, diffuse: 0.2, gloss: 0, rim: 0, occlusion: 0.3, shadow: 0,
    light: [-0.6, 0.8], fixed: false, lines: 0, mesh: 0.6, block: false, relief: 0, floor: false, walls: true,
  },
  relief: {
    label: "Relief", map: "tarn", ambient: 0.5, diffuse: 0.72, gloss: 0.05, rim: 0, occlusion: 0.9, shadow: 0.5,
    light: [2.35, 0.62], fixed: true, lines: 0.3, mesh: 0, block: true, relief: 0.75, floor: false, walls: false,
  },
  night: {
    label: "Night", map: "ember", ambient: 0.34, diffuse: 0.8, gloss: 0.5, rim: 0.5, occlusion: 1, shadow: 0.6,
    light: [2.2, 0.5], fixed: true, lines: 0.55, mesh: 0, block: true, relief: 0.55, floor: false, walls: false,
    glow: true, trails: ["entrant-4", "entrant-3", "entrant-1"],
    theme: { surface: "#07090f", "surface-2": "#171429", sunken: "#10131f", ink: "#eef0f6", muted: "#a2a8bd", line: "#262b3d", "strong-line": "#5b637e", accent: "#ffb86b" },
  },
};

const mix = (a, b, s) => a + (b - a) * s;
const toLinear = (c) => (c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4);
const toCoded = (c) => (c <= 0.0031308 ? 12.92 * c : 1.055 * c ** (1 / 2.4) - 0.055);
const parse = (hex) => [1, 3, 5].map((k) => parseInt(hex.slice(k, k + 2), 16));
// What is drawn over a colour and must be seen: dark on light, light on dark.
const isLight = ([r, g, b]) => 0.2126 * toLinear(r / 255) + 0.7152 * toLinear(g / 255) + 0.0722 * toLinear(b / 255) > 0.36;

class Colours {
  constructor(bytes) { this.bytes = bytes; }
  at(share) {
    const k = 3 * Math.round(Math.min(Math.max(share, 0), 1) * 255);
    return [this.bytes[k], this.bytes[k + 1], this.bytes[k + 2]];
  }
}

// The direction to the light in the world: one that turns with the camera, or stands still.
function lightOf(look, azimuth) {
  const [a, e] = look.light, turn = look.fixed ? a : azimuth + a;
  return [Math.cos(e) * Math.sin(turn), -Math.cos(e) * Math.cos(turn), Math.sin(e)];
}

// Normals, how much sky each point sees, and how much of a light that stands still.
function shade(body, tall, look) {
  const [nx, ny] = body.size, { fx, fy, flat } = body, count = nx * ny;
  const normals = new Float32Array(3 * count), sky = new Float32Array(count).fill(1), sun = new Float32Array(count).fill(1);
  const z = (i, j) => flat[j * nx + i] * tall;
  const slope = (c, n, k, height) => {
    const here = height(k), before = k > 0 ? height(k - 1) : NaN, after = k < n - 1 ? height(k + 1) : NaN;
    const a = Number.isNaN(before) ? NaN : (here - before) / (c[k] - c[k - 1]);
    const b = Number.isNaN(after) ? NaN : (after - here) / (c[k + 1] - c[k]);
    return Number.isNaN(a) ? (Number.isNaN(b) ? 0 : b) : Number.isNaN(b) ? a : (a + b) / 2;
  };
  const around = [[1, 0], [1, 1], [0, 1], [-1, 1], [-1, 0], [-1, -1], [0, -1], [1, -1]];
  const light = lightOf(look, 0), level = Math.hypot(light[0], light[1]), rise = light[2] / level;
  const pace = 1.6 * (fx[nx - 1] - fx[0]) / nx;
  for (let j = 0; j < ny; j++) {
    for (let i = 0; i < nx; i++) {
      const k = j * nx + i, here = flat[k] * tall;
      if (Number.isNaN(here)) continue;
      const sx = slope(fx, nx, i, (p) => z(p, j)), sy = slope(fy, ny, j, (p) => z(i, p)), length = Math.hypot(sx, sy, 1);
      normals[3 * k] = -sx / length; normals[3 * k + 1] = -sy / length; normals[3 * k + 2] = 1 / length;
      if (look.occlusion) {
        let hidden = 0;
        for (const [di, dj] of around) {
          let steepest = 0;
          for (const reach of [2, 5, 9, 15, 24]) {
            const p = i + di * reach, q = j + dj * reach;
            if (p < 0 || q < 0 || p >= nx || q >= ny) break;
            const up = (z(p, q) - here) / Math.hypot(fx[p] - fx[i], fy[q] - fy[j]);
            if (up > steepest) steepest = up;
          }
          hidden += steepest / Math.hypot(1, steepest);
        }
        sky[k] = 1 - hidden / 8;
      }
      if (look.fixed && look.shadow) {
        let open = 1;
        for (let s = 2; s < 90; s++) {
          const h = here + s * pace * rise;
          if (h > tall) break;
          const ground = body.at(fx[i] + light[0] / level * s * pace, fy[j] + light[1] / level * s * pace) * tall;
          if (ground > h) { open = 0; break; }
          if (!Number.isNaN(ground)) open = Math.min(open, (h - ground) / (s * pace) * 7);
        }
        sun[k] = open;
      }
    }
  }
  return { normals, sky, sun };
}

// The light on a point, as the shader computes it, without gloss: for maps, pictures and fallback.
function lit(rgb, normal, sky, sun, look, light) {
  const toward = normal[0] * light[0] + normal[1] * light[1] + normal[2] * light[2];
  const wrapped = Math.max((toward + 0.25) / 1.25, 0);
  const open = mix(1, sky, look.occlusion), clear = look.fixed ? mix(1, sun, look.shadow) : 1;
  const amount = look.ambient * open + look.diffuse * wrapped * clear * mix(1, open, 0.4);
  return rgb.map((c) => 255 * Math.min(toCoded(toLinear(c / 255) * amount), 1));
}
