// The theme, the size and the address of the page; and the first drawing.
new MutationObserver(() => draw("style", "layout")).observe(root, { attributes: true, attributeFilter: ["data-theme"] });
window.matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => draw("style", "layout"));
calm.addEventListener("change", () => set({ turning: !calm.matches }));
document.addEventListener("visibilitychange", () => draw("view"));
let resized;
new ResizeObserver(() => { clearTimeout(resized); resized = setTimeout(() => draw("layout"), 60); }).observe(card);

// A link can say how the page looks: #look=night&azimuth=40&point=0.2,-0.1
function fromHash() {
  const asked = new URLSearchParams(location.hash.slice(1)), changes = {};
  if (LOOKS[asked.get("look")]) changes.look = asked.get("look");
  if (maps[asked.get("map")]) changes.map = asked.get("map");
  for (const name of ["azimuth", "elevation"]) if (asked.has(name)) changes[name] = Number(asked.get(name)) * Math.PI / 180;
  for (const name of ["zoom", "height", "clip"]) if (asked.has(name)) changes[name] = Number(asked.get(name));
  for (const name of ["log", "lines", "arrows", "turning"]) if (asked.has(name)) changes[name] = asked.get(name) === "1";
  if (asked.has("point")) { const [x, y] = asked.get("point").split(",").map(Number); page.pinned = true; page.point = { x, y }; const k = page.nodeAt(bodies[0], page.point); page.point = k === null ? null : { x: bodies[0].x[k % bodies[0].nx], y: bodies[0].y[Math.floor(k / bodies[0].nx)] }; }
  set(changes);
}
fromHash();
arrange();
Object.assign(window.thalweg ||= {}, { surface: { page, set, files, panels, point, stage, drawView, drawMap, shade, raster, mapPlace, Camera, field } });
