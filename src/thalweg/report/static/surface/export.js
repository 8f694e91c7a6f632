// The surfaces as files for other programs, written here: nothing is sent anywhere.
const little = (Type, values) => new Uint8Array(Type.from(values).buffer);

function joined(parts) {
  const out = new Uint8Array(parts.reduce((n, part) => n + part.length, 0));
  parts.reduce((at, part) => { out.set(part, at); return at + part.length; }, 0);
  return out;
}

// Grid points as they are drawn: their height on their scale, and the squares without gaps.
function gridMesh(body) {
  const { scale } = body;
  const heights = Float64Array.from(body.losses, (v) => scale.f(Math.min(Math.max(v, scale.low), scale.high)));
  const squares = [];
  for (let j = 0; j < body.ny - 1; j++) {
    for (let i = 0; i < body.nx - 1; i++) {
      const k = j * body.nx + i, corners = [k, k + 1, k + body.nx + 1, k + body.nx];
      if (!corners.some((c) => Number.isNaN(heights[c]))) squares.push(corners);
    }
  }
  const used = [...new Set(squares.flat())].sort((a, b) => a - b), place = new Map(used.map((k, n) => [k, n]));
  return { heights, used, squares: squares.map((corners) => corners.map((k) => place.get(k))) };
}

// The format allows no infinity.
const MOST = 3.4028234663852886e38;

// Binary glTF 2.0: positions are the plane's coordinates and heights; the node scales them to a box.
function toGlb(bodies, map, tall) {
  const views = [], accessors = [], parts = [], meshes = [], nodes = [];
  let offset = 0, across = 0;
  const add = (bytes, accessor, target) => {
    const padded = joined([bytes, new Uint8Array((4 - bytes.length % 4) % 4)]);
    views.push({ buffer: 0, byteOffset: offset, byteLength: bytes.length, ...(target ? { target } : {}) });
    parts.push(padded);
    offset += padded.length;
    return accessors.push({ bufferView: views.length - 1, byteOffset: 0, ...accessor }) - 1;
  };
  for (const body of bodies) {
    const { scale } = body, { heights, used, squares } = gridMesh(body);
    const x = (k) => body.x[k % body.nx], y = (k) => body.y[Math.floor(k / body.nx)];
    const sizes = [2 * body.half[0] / (body.x.at(-1) - body.x[0]), tall / scale.span, 2 * body.half[1] / (body.y.at(-1) - body.y[0])];
    const places = little(Float32Array, used.flatMap((k) => [x(k), heights[k], -y(k)]));
    const floats = new Float32Array(places.buffer), edges = [0, 1, 2].map((c) => { let low = Infinity, high = -Infinity; for (let n = c; n < floats.length; n += 3) { low = Math.min(low, floats[n]); high = Math.max(high, floats[n]); } return [low, high]; });
    const position = add(places, { componentType: 5126, count: used.length, type: "VEC3", min: edges.map((e) => e[0]), max: edges.map((e) => e[1]) }, 34962);
    const colours = add(little(Float32Array, used.flatMap((k) => map.at(body.shares[k]).map((c) => toLinear(c / 255)))), { componentType: 5126, count: used.length, type: "VEC3" }, 34962);
    const losses = add(little(Float32Array, used.map((k) => Math.min(Math.max(body.losses[k], -MOST), MOST))), { componentType: 5126, count: used.length, type: "SCALAR" }, 34962);
    const triangles = squares.flatMap(([a, b, c, d]) => [a, b, d, b, c, d]);
    const indices = add(little(Uint32Array, triangles), { componentType: 5125, count: triangles.length, type: "SCALAR" }, 34963);
    const primitives = [{ attributes: { POSITION: position, COLOR_0: colours, _LOSS: losses }, indices, material: 0, mode: 4 }];
    const on = (a, b) => [a, heights[field.nearest(body.y, b) * body.nx + field.nearest(body.x, a)], -b];
    for (const trail of body.trails) {
      const points = trail.x.map((a, k) => on(a, trail.y[k])).filter((p) => !Number.isNaN(p[1]));
      if (points.length < 2) continue;
      const way = add(little(Float32Array, points.flat()), { componentType: 5126, count: points.length, type: "VEC3", min: [0, 1, 2].map((c) => Math.fround(Math.min(...points.map((p) => p[c])))), max: [0, 1, 2].map((c) => Math.fround(Math.max(...points.map((p) => p[c])))) }, 34962);
      primitives.push({ attributes: { POSITION: way }, material: 1, mode: 3 });
    }
    const centre = [(body.x[0] + body.x.at(-1)) / 2 * sizes[0], scale.a * sizes[1], -(body.y[0] + body.y.at(-1)) / 2 * sizes[2]];
    meshes.push({ name: body.name, primitives });
    nodes.push({ name: body.name, mesh: meshes.length - 1, scale: sizes, translation: [across - centre[0], -centre[1], -centre[2]],
      extras: { x: body.labels[0], y: body.labels[1], height: scale.log ? `log10 of ${body.unit}` : body.unit } });
    across += 2.4 * body.half[0];
  }
  const document = {
    asset: { version: "2.0", generator: `Thalweg ${page_version()}` }, scene: 0,
    scenes: [{ nodes: nodes.map((_, k) => k) }], nodes, meshes, accessors, bufferViews: views, buffers: [{ byteLength: offset }],
    materials: [
      { name: "loss", doubleSided: true, pbrMetallicRoughness: { metallicFactor: 0, roughnessFactor: 0.75 } },
      { name: "trajectory", pbrMetallicRoughness: { baseColorFactor: [0.8, 0.05, 0.05, 1], metallicFactor: 0 } },
    ],
  };
  const text = new TextEncoder().encode(JSON.stringify(document)), json = joined([text, new Uint8Array((4 - text.length % 4) % 4).fill(32)]);
  const binary = joined(parts), total = 28 + json.length + binary.length;
  return joined([little(Uint32Array, [0x46546c67, 2, total, json.length, 0x4e4f534a]), json, little(Uint32Array, [binary.length, 0x004e4942]), binary]);
}

const base64 = (bytes) => { let text = ""; for (let k = 0; k < bytes.length; k += 32768) text += String.fromCharCode(...bytes.subarray(k, k + 32768)); return btoa(text); };

// An unstructured grid of VTK in XML: squares, trajectories as lines, marks as vertices.
function toVtu(body, others) {
  const { scale } = body, { heights, used, squares } = gridMesh(body);
  const points = used.map((k) => [body.x[k % body.nx], body.y[Math.floor(k / body.nx)], heights[k], k]);
  const cells = squares.map((corners) => ({ corners, type: 9, part: 0 }));
  const put = (a, b) => points.push([a, b, heights[field.nearest(body.y, b) * body.nx + field.nearest(body.x, a)], -1]) - 1;
  body.trails.forEach((trail, n) => {
    const places = trail.x.map((a, k) => put(a, trail.y[k]));
    for (let k = 0; k < places.length - 1; k++) cells.push({ corners: [places[k], places[k + 1]], type: 3, part: 1 + n });
  });
  for (const mark of body.marks) cells.push({ corners: [put(mark.x, mark.y)], type: 1, part: -1 });
  const array = (name, kind, Type, values, width) => {
    const data = little(Type, values), text = base64(joined([little(Uint32Array, [data.length]), data]));
    return `<DataArray type="${kind}" Name="${escaped(name)}"${width > 1 ? ` NumberOfComponents="${width}"` : ""} format="binary">${text}</DataArray>`;
  };
  let end = 0;
  const scalars = [body, ...others].map((one) => array(one.quantity, "Float64", Float64Array, points.map((p) => (p[3] < 0 ? NaN : one.losses[p[3]])), 1));
  return new TextEncoder().encode(`<?xml version="1.0"?>\n<VTKFile type="UnstructuredGrid" version="0.1" byte_order="LittleEndian"><UnstructuredGrid><Piece NumberOfPoints="${points.length}" NumberOfCells="${cells.length}">`
    + `<Points>${array("Points", "Float64", Float64Array, points.flatMap(([a, b, c]) => [a, b, Number.isNaN(c) ? scale.a : c]), 3)}</Points>`
    + `<Cells>${array("connectivity", "Int64", BigInt64Array, cells.flatMap((c) => c.corners.map(BigInt)), 1)}${array("offsets", "Int64", BigInt64Array, cells.map((c) => BigInt(end += c.corners.length)), 1)}${array("types", "UInt8", Uint8Array, cells.map((c) => c.type), 1)}</Cells>`
    + `<PointData Scalars="${escaped(body.quantity)}">${scalars.join("")}</PointData><CellData>${array("part", "Int64", BigInt64Array, cells.map((c) => BigInt(c.part)), 1)}</CellData></Piece></UnstructuredGrid></VTKFile>\n`);
}

const page_version = () => document.querySelector("meta[name=generator]").content.replace("Thalweg ", "");

function download(content, name, type) {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(content instanceof Blob ? content : new Blob([content], { type }));
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10000);
}
