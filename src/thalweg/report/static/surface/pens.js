// Two pens with the same strokes: one draws on a canvas, the other writes SVG.
const FONT = "Inter, ui-sans-serif, system-ui, -apple-system, 'Segoe UI', Roboto, 'Helvetica Neue', Arial, sans-serif";
const rgb = ([r, g, b], alpha = 1) => (alpha === 1 ? `rgb(${Math.round(r)},${Math.round(g)},${Math.round(b)})` : `rgba(${Math.round(r)},${Math.round(g)},${Math.round(b)},${alpha})`);

class CanvasPen {
  constructor(context) { this.c = context; }
  path(points, closed) {
    this.c.beginPath();
    points.forEach(([x, y], k) => (k ? this.c.lineTo(x, y) : this.c.moveTo(x, y)));
    if (closed) this.c.closePath();
  }
  line(points, { stroke, width = 1, dash = [], alpha = 1 }) {
    if (points.length < 2) return;
    const c = this.c;
    c.save();
    Object.assign(c, { strokeStyle: stroke, lineWidth: width, lineJoin: "round", lineCap: dash.length ? "butt" : "round", globalAlpha: alpha });
    c.setLineDash(dash);
    this.path(points);
    c.stroke();
    c.restore();
  }
  fill(points, { fill, stroke, width = 0.5, alpha = 1 }) {
    const c = this.c;
    c.save();
    c.globalAlpha = alpha;
    this.path(points, true);
    c.fillStyle = fill;
    c.fill();
    if (stroke) { Object.assign(c, { strokeStyle: stroke, lineWidth: width, lineJoin: "round" }); c.stroke(); }
    c.restore();
  }
  circle(x, y, r, { fill, stroke, width = 1 }) {
    const c = this.c;
    c.beginPath();
    c.arc(x, y, r, 0, 2 * Math.PI);
    if (fill) { c.fillStyle = fill; c.fill(); }
    if (stroke) { Object.assign(c, { strokeStyle: stroke, lineWidth: width }); c.stroke(); }
  }
  text(x, y, words, { size = 12, fill, anchor = "middle", base = "middle", weight = 400, halo, angle = 0 }) {
    const c = this.c;
    c.save();
    c.translate(x, y);
    c.rotate(angle);
    c.font = `${weight} ${size}px ${FONT}`;
    c.textAlign = anchor === "middle" ? "center" : anchor === "end" ? "right" : "left";
    c.textBaseline = base;
    if (halo) { Object.assign(c, { strokeStyle: halo, lineWidth: 3.5, lineJoin: "round" }); c.strokeText(words, 0, 0); }
    c.fillStyle = fill;
    c.fillText(words, 0, 0);
    c.restore();
  }
  measure(words, size = 12, weight = 400) { this.c.font = `${weight} ${size}px ${FONT}`; return this.c.measureText(words).width; }
  box(x, y, w, h, r, { fill, stroke }) {
    const c = this.c;
    c.beginPath();
    c.roundRect(x, y, w, h, r);
    if (fill) { c.fillStyle = fill; c.fill(); }
    if (stroke) { c.strokeStyle = stroke; c.lineWidth = 1; c.stroke(); }
  }
}

const escaped = (words) => String(words).replace(/[&<>"]/g, (c) => ({ "&": "&amp;", "<": "&lt;", ">": "&gt;", '"': "&quot;" })[c]);
class SvgPen {
  constructor(width, height) { this.width = width; this.height = height; this.parts = []; this.ruler = new CanvasPen(document.createElement("canvas").getContext("2d")); }
  d(points, closed) {
    const n = (v) => String(Math.round(v * 10) / 10);
    let last = null;
    // What is nearer than a pixel can be seen no more.
    const kept = points.filter((p, k) => {
      if (last && k < points.length - 1 && points.length > 8 && Math.hypot(p[0] - last[0], p[1] - last[1]) < 1.4) return false;
      last = p;
      return true;
    });
    return kept.map(([x, y], k) => `${k ? "L" : "M"}${n(x)} ${n(y)}`).join("") + (closed ? "Z" : "");
  }
  look({ fill = "none", stroke, width = 1, dash = [], alpha = 1 }) {
    const pattern = dash.length ? ` stroke-dasharray="${dash.join(" ")}"` : "";
    const line = stroke ? ` stroke="${stroke}" stroke-width="${width}" stroke-linejoin="round"${pattern}` : "";
    return `fill="${fill}"${line}${alpha < 1 ? ` opacity="${alpha}"` : ""}`;
  }
  line(points, style) { if (points.length > 1) this.parts.push(`<path d="${this.d(points)}" ${this.look({ ...style, fill: "none" })}/>`); }
  fill(points, style) { this.parts.push(`<path d="${this.d(points, true)}" ${this.look({ width: 0.5, ...style })}/>`); }
  rings(rings, style) { this.parts.push(`<path fill-rule="evenodd" d="${rings.map((ring) => this.d(ring, true)).join("")}" ${this.look(style)}/>`); }
  circle(x, y, r, style) { this.parts.push(`<circle cx="${x.toFixed(2)}" cy="${y.toFixed(2)}" r="${r}" ${this.look(style)}/>`); }
  box(x, y, w, h, r, style) { this.parts.push(`<rect x="${x.toFixed(2)}" y="${y.toFixed(2)}" width="${w.toFixed(2)}" height="${h.toFixed(2)}" rx="${r}" ${this.look(style)}/>`); }
  text(x, y, words, { size = 12, fill, anchor = "middle", base = "middle", weight = 400, halo, angle = 0 }) {
    const turn = angle ? ` transform="rotate(${(angle * 180 / Math.PI).toFixed(2)})"` : "";
    const around = halo ? ` stroke="${halo}" stroke-width="3.5" stroke-linejoin="round" paint-order="stroke"` : "";
    const down = base === "middle" ? 0.35 * size : base === "top" ? 0.8 * size : 0;
    this.parts.push(`<g transform="translate(${x.toFixed(2)} ${y.toFixed(2)})"><text${turn} dy="${down.toFixed(1)}" font-size="${size}" font-weight="${weight}" text-anchor="${anchor}" fill="${fill}"${around}>${escaped(words)}</text></g>`);
  }
  measure(words, size, weight) { return this.ruler.measure(words, size, weight); }
  svg(title) {
    return `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${this.width} ${this.height}" width="${this.width}" height="${this.height}" font-family="${FONT}" role="img" aria-label="${escaped(title)}"><title>${escaped(title)}</title>${this.parts.join("")}</svg>`;
  }
}
