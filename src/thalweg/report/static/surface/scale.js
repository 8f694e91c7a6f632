// Losses as heights from 0 to 1, levels, ticks, and numbers as people read them.
const THIN = "\u202f", MINUS = "\u2212";

function number(value, digits = 3, most = 1e7) {
  if (value === null || value === undefined) return "\u2013";
  if (Number.isNaN(value)) return "NaN";
  if (!Number.isFinite(value)) return value > 0 ? "\u221e" : `${MINUS}\u221e`;
  if (value === 0) return "0";
  const size = Math.abs(value);
  if (size < 1e-3 || size >= most) {
    const [mantissa, power] = value.toExponential(digits - 1).split("e");
    const raised = [...String(Number(power))].map((c) => "\u207b\u2070\u00b9\u00b2\u00b3\u2074\u2075\u2076\u2077\u2078\u2079"["-0123456789".indexOf(c)]).join("");
    return `${mantissa.replace("-", MINUS)}${THIN}\u00d7${THIN}10${raised}`;
  }
  let text = size < 1e4 ? String(Number(size.toPrecision(digits))) : String(Math.round(size));
  if (text.split(".")[0].length > 4) text = text.replace(/\B(?=(\d{3})+$)/g, THIN);
  return value < 0 ? MINUS + text : text;
}
// A plain power reads better without the "1 x" before it.
const short = (value) => number(value, 3, 1e5).replace(/^(\u2212?\d)\.00\u202f/, "$1\u202f").replace(/^1\u202f\u00d7\u202f/, "");
const count = (value) => String(value).replace(/\B(?=(\d{3})+$)/g, value < 10000 ? "" : THIN);

function steps(low, high, count) {
  const rough = (high - low) / count, power = 10 ** Math.floor(Math.log10(rough));
  const step = power * ([1, 2, 2.5, 5, 10].find((m) => m * power >= rough * 0.999) || 10);
  const found = [];
  for (let k = Math.ceil(low / step - 1e-9); k * step <= high + step * 1e-9; k++) found.push(Number((k * step).toPrecision(12)));
  return found;
}

// How all losses of a page are drawn: one scale for every surface.
class Scale {
  constructor(values, log, clip) {
    let low = Infinity, top = -Infinity;
    for (const v of values) if (Number.isFinite(v)) { if (v < low) low = v; if (v > top) top = v; }
    this.log = log && low > 0;
    this.low = low;
    this.top = top;
    this.high = clip !== null && clip > low ? Math.min(clip, top) : top;
    this.clipped = this.high < top;
    if (this.high <= this.low) this.high = this.low + (Math.abs(this.low) || 1) * 1e-6;
    this.a = this.f(this.low);
    this.span = this.f(this.high) - this.a;
  }
  f(value) { return this.log ? Math.log10(value) : value; }
  // Where a loss is drawn: from 0 to 1 up to the clip, more above it; NaN stays.
  share(value) {
    if (Number.isNaN(value)) return NaN;
    return (this.f(Math.min(Math.max(value, this.low), this.top)) - this.a) / this.span;
  }
  value(share) { const x = this.a + share * this.span; return this.log ? 10 ** x : x; }
  levels(count) {
    const decades = this.log ? this.span : 0;
    if (decades < 0.6) return steps(this.low, this.high, count).filter((v) => v > this.low && v < this.high);
    const sets = [[1], [1, 3], [1, 2, 5], [1, 1.5, 2, 3, 5, 7], [1, 1.2, 1.5, 2, 2.5, 3, 4, 5, 6, 8]];
    const set = [...sets].reverse().find((s) => s.length * decades <= count * 1.25) || sets[0];
    const every = Math.max(1, Math.ceil(decades / count)), found = [];
    for (let p = Math.floor(Math.log10(this.low)); p <= Math.log10(this.high); p++) {
      if (p % every === 0) for (const m of set) found.push(Number((m * 10 ** p).toPrecision(3)));
    }
    return found.filter((v) => v > this.low && v < this.high);
  }
  // Few of the levels, apart by a share of the scale; powers of ten first.
  ticks(apart = 0.16) {
    const all = this.levels(14);
    if (all.length > 1 && Math.abs(all[1] - all[0] - (all.at(-1) - all.at(-2))) < 1e-6 * this.high) {
      const step = all[1] - all[0], far = Math.min(...all.slice(1).map((v, k) => this.share(v) - this.share(all[k])));
      const every = [1, 2, 4, 5, 10, 20].find((m) => m * far >= apart) || 20;
      return all.filter((v) => Math.round(v / step) % every === 0);
    }
    const rank = (v) => { const m = Number(v.toExponential(6).split("e")[0]); return !this.log ? 1 : m === 1 ? 0 : m === 3 || m === 5 ? 1 : m === 2 ? 2 : 3; };
    const kept = [];
    for (const wanted of this.log ? [0, 1, 2, 3] : [1]) {
      for (const v of all) if (rank(v) === wanted && kept.every((k) => Math.abs(this.share(k) - this.share(v)) >= apart)) kept.push(v);
    }
    return kept.sort((p, q) => p - q);
  }
}
