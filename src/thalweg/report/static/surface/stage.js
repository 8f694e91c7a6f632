// WebGL 2: one canvas off screen that draws every surface of the page.
class Stage {
  constructor() {
    this.canvas = document.createElement("canvas");
    const gl = this.canvas.getContext("webgl2", { alpha: true, antialias: true, premultipliedAlpha: true, preserveDrawingBuffer: true });
    if (!gl) throw new Error("no WebGL 2");
    this.gl = gl;
    this.lost = false;
    this.canvas.addEventListener("webglcontextlost", (event) => { event.preventDefault(); this.lost = true; });
    const shader = (type, source) => {
      const made = gl.createShader(type);
      gl.shaderSource(made, source);
      gl.compileShader(made);
      if (!gl.getShaderParameter(made, gl.COMPILE_STATUS)) throw new Error(gl.getShaderInfoLog(made));
      return made;
    };
    const program = gl.createProgram();
    gl.attachShader(program, shader(gl.VERTEX_SHADER, VERTEX));
    gl.attachShader(program, shader(gl.FRAGMENT_SHADER, FRAGMENT));
    ["place", "normal", "look", "cell"].forEach((name, k) => gl.bindAttribLocation(program, k, name));
    gl.linkProgram(program);
    if (!gl.getProgramParameter(program, gl.LINK_STATUS)) throw new Error(gl.getProgramInfoLog(program));
    gl.useProgram(program);
    this.uniforms = {};
    for (let k = gl.getProgramParameter(program, gl.ACTIVE_UNIFORMS) - 1; k >= 0; k--) {
      const { name } = gl.getActiveUniform(program, k);
      this.uniforms[name] = gl.getUniformLocation(program, name);
    }
    this.texture = gl.createTexture();
    gl.bindTexture(gl.TEXTURE_2D, this.texture);
    gl.enable(gl.DEPTH_TEST);
  }

  colours(map) {
    const gl = this.gl;
    const rgba = new Uint8Array(1024).fill(255);
    for (let k = 0; k < 256; k++) rgba.set(map.bytes.subarray(3 * k, 3 * k + 3), 4 * k);
    gl.texImage2D(gl.TEXTURE_2D, 0, gl.RGBA, 256, 1, 0, gl.RGBA, gl.UNSIGNED_BYTE, rgba);
    for (const [key, value] of [["MIN_FILTER", gl.LINEAR], ["MAG_FILTER", gl.LINEAR], ["WRAP_S", gl.CLAMP_TO_EDGE], ["WRAP_T", gl.CLAMP_TO_EDGE]]) {
      gl.texParameteri(gl.TEXTURE_2D, gl[`TEXTURE_${key}`], value);
    }
  }

  // The mesh of a body, in the buffers that it keeps.
  load(body, tall, look) {
    const gl = this.gl, { vertices, indices } = mesh(body, tall, look);
    body.gl ||= { array: gl.createVertexArray(), data: gl.createBuffer(), order: gl.createBuffer() };
    gl.bindVertexArray(body.gl.array);
    gl.bindBuffer(gl.ARRAY_BUFFER, body.gl.data);
    gl.bufferData(gl.ARRAY_BUFFER, vertices, gl.STATIC_DRAW);
    [3, 3, 4, 2].reduce((offset, size, k) => {
      gl.enableVertexAttribArray(k);
      gl.vertexAttribPointer(k, size, gl.FLOAT, false, 48, offset);
      return offset + 4 * size;
    }, 0);
    gl.bindBuffer(gl.ELEMENT_ARRAY_BUFFER, body.gl.order);
    gl.bufferData(gl.ELEMENT_ARRAY_BUFFER, indices, gl.STATIC_DRAW);
    body.gl.count = indices.length;
  }

  draw(body, camera, look, state, ink, ratio) {
    const gl = this.gl, u = this.uniforms, width = Math.round(camera.width * ratio), height = Math.round(camera.height * ratio);
    if (this.canvas.width !== width || this.canvas.height !== height) { this.canvas.width = width; this.canvas.height = height; }
    gl.viewport(0, 0, width, height);
    gl.clearColor(0, 0, 0, 0);
    gl.clear(gl.COLOR_BUFFER_BIT | gl.DEPTH_BUFFER_BIT);
    gl.uniform3fv(u.right, camera.r);
    gl.uniform3fv(u.upward, camera.u);
    gl.uniform3fv(u.toward, camera.d);
    gl.uniform3fv(u.target, camera.target);
    gl.uniform4f(u.lens, 2 * camera.focal / camera.width, 2 * camera.focal / camera.height, 2 * camera.cx / camera.width - 1, 1 - 2 * camera.cy / camera.height);
    gl.uniform1f(u.distance, camera.distance);
    gl.uniform3fv(u.light, lightOf(look, state.azimuth));
    gl.uniform4f(u.shine, look.ambient, look.diffuse, look.gloss, look.rim);
    gl.uniform4f(u.depth, look.occlusion, look.fixed ? look.shadow : 0, state.lines ? look.lines : 0, look.mesh);
    gl.uniform3fv(u.ink, ink.map((c) => c / 255));
    gl.uniform2f(u.options, look.glow ? 1 : 0, ratio);
    gl.bindVertexArray(body.gl.array);
    gl.drawElements(gl.TRIANGLES, body.gl.count, gl.UNSIGNED_INT, 0);
    return this.canvas;
  }
}

// Twelve numbers a vertex: place, normal, (share, level, sky, sun), (column, row) of the grid.
function mesh(body, tall, look) {
  const [nx, ny] = body.size, { fx, fy, flat, parts, scale } = body, z = body.fine.z;
  const { normals, sky, sun } = body.shade;
  const levels = [-Infinity, ...scale.levels(14).map((v) => scale.share(v)), Infinity];
  // Which level lines a height lies between, with a fraction: the shader draws whole numbers.
  const rank = (t) => {
    let k = 1;
    while (t >= levels[k]) k++;
    const low = levels[k - 1], high = levels[k];
    if (low === -Infinity) return high === Infinity ? 0.5 : 0.05 + 0.95 * Math.exp((t - high) / 0.1);
    return high === Infinity ? k - 1 + Math.min((t - low) / 0.08, 0.5) : k - 1 + (t - low) / (high - low);
  };
  const rim = look.block ? edge(body) : [];
  const vertices = new Float32Array(12 * (nx * ny + 4 * rim.length)), indices = [];
  for (let k = 0; k < nx * ny; k++) {
    const i = k % nx, j = (k - i) / nx, t = z[k];
    vertices.set([fx[i], fy[j], flat[k] * tall, normals[3 * k], normals[3 * k + 1], normals[3 * k + 2],
      t, rank(Math.min(t, 1)), sky[k], sun[k], i / parts, j / parts], 12 * k);
  }
  for (let j = 0; j < ny - 1; j++) {
    for (let i = 0; i < nx - 1; i++) {
      const k = j * nx + i;
      if (!Number.isNaN(z[k] + z[k + 1] + z[k + nx] + z[k + nx + 1])) indices.push(k, k + 1, k + nx, k + 1, k + nx + 1, k + nx);
    }
  }
  let next = nx * ny;
  for (const [a, b, out] of rim) {
    const base = next;
    for (const [k, top] of [[a, true], [b, true], [a, false], [b, false]]) {
      const i = k % nx, j = (k - i) / nx, t = top ? Math.min(z[k], 1) : -BASE / tall;
      vertices.set([fx[i], fy[j], top ? flat[k] * tall : -BASE, out[0], out[1], 0,
        t, rank(t), top ? 1 : 0.8, 1, 0.5, 0.5], 12 * next++);
    }
    indices.push(base, base + 2, base + 1, base + 1, base + 2, base + 3);
  }
  return { vertices, indices: Uint32Array.from(indices) };
}

const BASE = 0.1;

// The edges of the rectangle where there is surface, with the direction outward.
function edge(body, step = 1) {
  const [nx, ny] = body.size, z = body.fine.z, found = [];
  const add = (a, b, out) => { if (!Number.isNaN(z[a] + z[b])) found.push([a, b, out]); };
  for (let i = 0; i < nx - 1; i += step) { add(i, i + step, [0, -1]); add((ny - 1) * nx + i + step, (ny - 1) * nx + i, [0, 1]); }
  for (let j = 0; j < ny - 1; j += step) { add((j + step) * nx, j * nx, [-1, 0]); add(j * nx + nx - 1, (j + step) * nx + nx - 1, [1, 0]); }
  return found;
}

const VERTEX = `#version 300 es
in vec3 place; in vec3 normal; in vec4 look; in vec2 cell;
uniform vec3 right, upward, toward, target;
uniform vec4 lens;
uniform float distance;
out vec3 vNormal, vPlace; out vec4 vLook; out vec2 vCell;
void main() {
  vec3 q = place - target;
  float depth = distance - dot(q, toward);
  float near = 1.0, far = 12.0;
  gl_Position = vec4(dot(q, right) * lens.x + lens.z * depth, dot(q, upward) * lens.y + lens.w * depth,
    (depth * (far + near) - 2.0 * far * near) / (far - near), depth);
  vNormal = normal; vPlace = place; vLook = look; vCell = cell;
}`;

const FRAGMENT = `#version 300 es
precision highp float;
in vec3 vNormal, vPlace; in vec4 vLook; in vec2 vCell;
uniform vec3 toward, target, light, ink;
uniform vec4 shine, depth;
uniform vec2 options;
uniform float distance;
uniform sampler2D map;
out vec4 colour;
vec3 linear(vec3 c) { return mix(c / 12.92, pow((c + 0.055) / 1.055, vec3(2.4)), step(0.04045, c)); }
vec3 coded(vec3 c) { return mix(12.92 * c, 1.055 * pow(max(c, vec3(0.0)), vec3(1.0 / 2.4)) - 0.055, step(0.0031308, c)); }
// How much of a line of some width in pixels, at the whole numbers of v, covers this pixel.
float stroke(float v, float width) {
  float w = max(fwidth(v), 1e-6);
  float gap = abs(fract(v - 0.5) - 0.5) / w;
  return (1.0 - smoothstep(width * 0.5 - 0.5, width * 0.5 + 0.5, gap)) * (1.0 - smoothstep(0.25, 0.7, w));
}
void main() {
  float share = vLook.x;
  vec3 n = normalize(vNormal);
  vec3 view = normalize(target + toward * distance - vPlace);
  bool under = dot(n, view) < 0.0 && n.z > 0.001;
  if (under) n = -n;
  vec3 base = linear(texture(map, vec2(clamp(share, 0.0, 1.0) * 255.0 / 256.0 + 0.5 / 256.0, 0.5)).rgb);
  float open = mix(1.0, vLook.z, depth.x), clear = mix(1.0, vLook.w, depth.y);
  float wrapped = max((dot(n, light) + 0.25) / 1.25, 0.0);
  float amount = shine.x * open + shine.y * wrapped * clear * mix(1.0, open, 0.4);
  vec3 lit = base * amount;
  float gloss = pow(max(dot(n, normalize(light + view)), 0.0), 48.0) * shine.z * clear * open;
  float rim = pow(1.0 - max(dot(n, view), 0.0), 3.0) * shine.w;
  lit += gloss * mix(vec3(0.5), base * 2.0, 0.75) + rim * base;
  // Above the clip: paler, hatched, without level lines; its edge is drawn.
  if (share > 1.0005) {
    float hatch = step(0.82, fract((gl_FragCoord.x + gl_FragCoord.y) / (9.0 * options.y)));
    float grey = dot(lit, vec3(0.3, 0.5, 0.2));
    lit = mix(mix(lit, vec3(grey), 0.45), linear(ink), 0.10 + 0.22 * hatch);
  } else {
    float line = stroke(vLook.y, 1.15 * options.y) * depth.z;
    if (options.x > 0.5) lit += line * (base * 1.6 + 0.10);
    else lit = mix(lit, linear(ink), line);
  }
  if (depth.w > 0.0) lit = mix(lit, linear(ink), max(stroke(vCell.x, options.y), stroke(vCell.y, options.y)) * depth.w);
  if (under) lit *= 0.55;
  colour = vec4(coded(lit), 1.0);
}`;
