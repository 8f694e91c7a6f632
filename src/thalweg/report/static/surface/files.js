// The files that the page makes.
function picture(panelList, ratio) {
  const made = document.createElement("canvas"), widths = panelList.map((p) => p.view.clientWidth), tall = panelList[0].view.clientHeight;
  const width = widths.reduce((a, b) => a + b, 0), several = panelList.length > 1 ? 30 : 0;
  made.width = width * ratio;
  made.height = (tall + 58 + several) * ratio;
  const c = made.getContext("2d");
  const paint = () => {
    c.setTransform(ratio, 0, 0, ratio, 0, 0);
    c.fillStyle = page.paint("surface");
    c.fillRect(0, 0, width, tall + 58 + several);
    let left = 0;
    for (const { body, view } of panelList) {
      c.drawImage(view, left, several, view.clientWidth, tall);
      if (several) new CanvasPen(c).text(left + view.clientWidth / 2, 18, body.name, { size: 15, weight: 600, fill: page.paint("ink") });
      left += view.clientWidth;
    }
    const wide = Math.min(width, 460);
    c.translate(Math.round((width - wide) / 2), tall + several + 4);
    paintBars(new CanvasPen(c), 0, wide, panelList.map((p) => p.body));
  };
  paint();
  return { canvas: made, paint };
}

const files = {
  png: () => new Promise((resolve) => { picture(shown(), Math.min(window.devicePixelRatio || 1, 2)).canvas.toBlob(resolve, "image/png"); }),
  mapSvg: (k = shown()[0].body.index) => {
    const { body, map } = panels[k], width = map.clientWidth, tall = map.clientHeight, pen = new SvgPen(width, tall + 56), place = mapPlace(body, width, tall);
    pen.box(0, 0, width, tall + 56, 0, { fill: page.paint("surface") });
    paintMap(pen, body, page, place, ({ x, y, w, h }) => {
      const [nx, ny] = body.size, COUNT = 32;
      const hatch = (name, size, alpha) => `<pattern id="${name}" width="${size}" height="${size}" patternUnits="userSpaceOnUse"><path d="M0 ${size}L${size} 0" stroke="${page.ink}" stroke-width="1" opacity="${alpha}"/></pattern>`;
      pen.parts.push(`<defs>${hatch("gap", 7, 0.5)}${hatch("above", 8, 0.4)}</defs>`);
      pen.box(x, y, w, h, 0, { fill: "url(#gap)" });
      const index = ([i, j]) => { const a = Math.floor(i), b = Math.floor(j); return place.at(body.fx[a] + (i - a) * ((body.fx[a + 1] ?? 0) - body.fx[a]), body.fy[b] + (j - b) * ((body.fy[b + 1] ?? 0) - body.fy[b])); };
      for (let n = 0; n < COUNT; n++) {
        const level = n ? n / COUNT : -1, rings = field.regions(body.fine.z, nx, ny, level).map((ring) => ring.map(index));
        if (rings.length) pen.rings(rings, { fill: rgb(page.map.at((n + 0.5) / COUNT)) });
      }
      if (body.scale.clipped) {
        const rings = field.regions(body.fine.z, nx, ny, 1.0005).map((ring) => ring.map(index));
        if (rings.length) { pen.rings(rings, { fill: page.ink, alpha: 0.12 }); pen.rings(rings, { fill: "url(#above)" }); }
      }
    });
    pen.parts.push(`<g transform="translate(${place.x} ${tall + 4})">`);
    paintBars(pen, 0, place.w, [body]);
    pen.parts.push("</g>");
    return pen.svg(`${body.name}: ${body.labels.join(", ")}`);
  },
  viewSvg: (k = shown()[0].body.index) => {
    const { body, view } = panels[k], pen = new SvgPen(view.clientWidth, view.clientHeight);
    const camera = new Camera(body, state, pen.width, pen.height, page.tall);
    pen.box(0, 0, pen.width, pen.height, 0, { fill: page.paint("surface") });
    paintView(pen, body, camera, page, () => paintQuads(pen, body, camera, page, 12000));
    return pen.svg(`${body.name} over its plane`);
  },
  glb: () => toGlb(shown().map((p) => p.body), page.map, page.tall),
  vtu: (k = shown()[0].body.index) => toVtu(bodies[k], bodies.filter((b) => b !== bodies[k] && b.group === bodies[k].group)),
  // One turn in eight seconds, as the browser's recorder codes it.
  async video(seconds = 8) {
    const type = ["video/mp4;codecs=avc1.42E01E", "video/webm;codecs=vp9", "video/webm"].find((t) => MediaRecorder.isTypeSupported(t));
    const { canvas, paint } = picture(shown(), Math.min(window.devicePixelRatio || 1, 2));
    const recorder = new MediaRecorder(canvas.captureStream(30), { mimeType: type, videoBitsPerSecond: 12e6 }), chunks = [];
    recorder.ondataavailable = (event) => chunks.push(event.data);
    const ended = new Promise((resolve) => { recorder.onstop = resolve; });
    const { azimuth, turning } = state, begin = performance.now();
    state.turning = false;
    recorder.start();
    await new Promise((resolve) => {
      const next = () => {
        const done = Math.min((performance.now() - begin) / 1000 / seconds, 1);
        state.azimuth = azimuth + 2 * Math.PI * done;
        for (const panel of shown()) drawView(panel);
        paint();
        if (done < 1) requestAnimationFrame(next); else resolve();
      };
      next();
    });
    recorder.stop();
    await ended;
    Object.assign(state, { azimuth, turning });
    draw("controls");
    return new Blob(chunks, { type });
  },
};
const canRecord = Boolean(window.MediaRecorder && HTMLCanvasElement.prototype.captureStream);
on("[data-save]", async ({ save }, button) => {
  const name = data.file;
  if (save === "png") download(await files.png(), `${name}.png`);
  if (save === "mapSvg" || save === "viewSvg") for (const { body } of shown()) download(files[save](body.index), `${name}-${save === "mapSvg" ? "map" : "view"}${shown().length > 1 ? `-${body.index + 1}` : ""}.svg`, "image/svg+xml");
  if (save === "glb") download(files.glb(), `${name}.glb`, "model/gltf-binary");
  if (save === "vtu") for (const { body } of shown()) download(files.vtu(body.index), `${name}${shown().length > 1 ? `-${body.index + 1}` : ""}.vtu`, "application/xml");
  if (save === "video") {
    const words = button.textContent;
    button.textContent = "Recording …";
    button.disabled = true;
    const film = await files.video();
    download(film, `${name}.${film.type.startsWith("video/mp4") ? "mp4" : "webm"}`);
    button.textContent = words;
    button.disabled = false;
  }
  const menu = button.closest("details");
  if (menu) menu.open = false;
});
for (const button of all("[data-save=video]")) if (!canRecord) { button.disabled = true; button.title = "This browser cannot record; Result.film() of Thalweg in Python can."; }
if (sorted[0] <= 0) for (const button of all("[data-scale=log]")) { button.disabled = true; button.title = "A log scale needs positive losses."; }
