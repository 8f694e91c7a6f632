"""The page of surfaces in a real browser: what it draws, says, and writes."""

import base64
import dataclasses
import io
import json
import math
import xml.etree.ElementTree as ElementTree

import meshio
import numpy as np
import pytest
import trimesh
from browsing import THEMES, WIDTHS, Visit
from PIL import Image
from surfaces import hostile, marked, quadratic, surface

from thalweg.landscape.bending import bending
from thalweg.report import write_landscape

HOOK = "window.thalweg.surface"
DRAWN = "document.getElementById('stage').dataset.drawn"


class Surfaces(Visit):
    """A visit that waits until the surface is drawn."""

    def __init__(self, *words, **named):
        super().__init__(*words, **named)
        self.page.wait_for_selector("#stage[data-drawn]", state="attached")

    @property
    def complaints(self):
        """Return what the page said, but not what WebGL in software says of its own slowness."""
        return [said for said in self.said if "GPU stall due to ReadPixels" not in said]

    def settle(self):
        """Wait until all that was asked for is drawn."""
        self.page.evaluate("() => new Promise(r => requestAnimationFrame(() => setTimeout(r)))")

    def set(self, **changes):
        self.page.evaluate(f"changes => {HOOK}.set(changes)", changes)
        self.settle()

    def content(self, call):
        """Return the bytes of a file that the page makes."""
        text = self.page.evaluate(
            f"""async () => {{
              const made = new Blob([await {HOOK}.files.{call}]);
              const bytes = new Uint8Array(await made.arrayBuffer());
              let text = "";
              for (const one of bytes) text += String.fromCharCode(one);
              return btoa(text);
            }}"""
        )
        return base64.b64decode(text)

    def pixels(self, selector):
        """Return a canvas of the page as numbers."""
        text = self.page.evaluate(
            "s => document.querySelector(s).toDataURL().split(',')[1]", selector
        )
        return np.asarray(Image.open(io.BytesIO(base64.b64decode(text))).convert("RGB"))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("pages")


@pytest.fixture(scope="module")
def file(folder):
    return write_landscape(marked(), folder / "one.html", title="<script>alert(1)</script>")


@pytest.fixture(scope="module")
def visit(browser, file):
    visit = Surfaces(browser, file)
    yield visit
    visit.close()


@pytest.fixture(scope="module")
def rough(browser, folder):
    """A page with gaps, an infinity, a clip, and a second surface."""
    both = {"rough": marked(hostile), "smooth": surface(quadratic)}
    visit = Surfaces(browser, write_landscape(both, folder / "rough.html", clip=2.0))
    yield visit
    visit.close()


@pytest.mark.parametrize(("width", "theme"), [("desktop", "light"), ("phone", "dark")])
def test_the_page_opens_without_a_word_and_asks_for_nothing(browser, file, width, theme):
    visit = Surfaces(browser, file, width, theme)
    assert visit.complaints == []
    assert visit.dialogs == []
    assert visit.asked == [file.as_uri()]
    assert visit.value("document.documentElement.scrollWidth") == WIDTHS[width][0]
    colour = visit.value("getComputedStyle(document.body).backgroundColor")
    assert colour == THEMES[theme]
    assert visit.value("document.getElementById('stage').dataset.flat") is None
    for canvas in (".view", ".map", "#bar"):
        assert len(np.unique(visit.pixels(canvas).reshape(-1, 3), axis=0)) > 100
    visit.close()


def test_heights_are_the_losses_and_nothing_is_added_between(visit):
    visit.set(log=False)
    shares, fine, size, parts, low, high = visit.value(
        f"""(() => {{
          const {{ page }} = {HOOK}, body = page.bodies[0];
          return [[...body.shares], [...body.fine.z], body.size, body.parts,
                  page.scale.low, page.scale.high];
        }})()"""
    )
    losses = np.array(marked().losses)
    assert (low, high) == (losses.min(), losses.max())
    np.testing.assert_allclose(
        np.array(shares).reshape(losses.shape), (losses - low) / (high - low), rtol=1e-12
    )
    fine = np.array(fine).reshape(size[1], size[0])
    assert fine[::parts, ::parts].ravel().tolist() == shares
    assert fine.min() >= 0
    assert fine.max() <= 1
    # Between four corners it stays within their range.
    cells = [fine[i : i + parts + 1, : parts + 1] for i in range(0, size[1] - 1, parts)]
    for cell in cells:
        corners = cell[[0, 0, -1, -1], [0, -1, 0, -1]]
        assert cell.min() >= corners.min() - 0.02
        assert cell.max() <= corners.max() + 1e-12


def test_level_lines_lie_on_their_level(visit):
    visit.set(log=False)
    drawn = visit.value(
        f"""(() => {{
          const {{ page }} = {HOOK}, body = page.bodies[0];
          return body.levels().map(one =>
            [one.share, one.lines.flat().map(([x, y]) => body.at(x, y))]);
        }})()"""
    )
    assert len(drawn) > 5
    for share, heights in drawn:
        assert len(heights) > 10
        np.testing.assert_allclose(heights, share, atol=0.004)


def test_curvatures_in_the_page_are_those_of_the_library(visit):
    one = marked()
    for i, j in ((4, 4), (2, 6), (0, 3)):
        found = visit.value(
            f"""(() => {{
              const body = {HOOK}.page.bodies[0];
              return {HOOK}.field.curvature(body.x, body.y, body.losses, {i}, {j}, body.metric);
            }})()"""
        )
        expected = bending(one, one.x[i], one.y[j])
        if expected is None:
            assert found is None
            continue
        np.testing.assert_allclose([f["value"] for f in found], expected.values, rtol=1e-9)
        for way, other in zip((f["direction"] for f in found), expected.directions, strict=True):
            assert abs(np.linalg.det([way, other])) < 1e-9
            np.testing.assert_allclose(np.linalg.norm(way), np.linalg.norm(other), rtol=1e-9)


def test_hovering_on_one_marks_the_point_on_the_other(visit):
    before = visit.pixels(".view")
    box = visit.page.locator(".map").bounding_box()
    place = visit.value(
        f"""(() => {{
          const {{ page }} = {HOOK}, map = document.querySelector(".map"), body = page.bodies[0];
          return {HOOK}.mapPlace(body, map.clientWidth, map.clientHeight)
            .at(body.across(0.5), body.up(-0.25));
        }})()"""
    )
    visit.page.mouse.move(box["x"] + place[0], box["y"] + place[1])
    visit.settle()
    assert visit.value(f"{HOOK}.page.point") == {"x": 0.5, "y": -0.25}
    text = visit.page.locator("#readout").text_content()
    assert "first direction 0.5" in text
    assert f"loss {0.5 + 3 / 4 - 2 / 8 + 4 / 16:.4g}" in text
    # |0.5 d1 - 0.25 d2| with lengths 2 and 4 and a cosine of 0.5
    assert "from the origin 1" in text
    assert visit.page.locator(".slice svg").count() == 2
    assert (visit.pixels(".view") != before).any()
    # And from the view: the pixel where a grid point is drawn picks that grid point.
    view = visit.page.locator(".view").bounding_box()
    at = visit.value(
        f"""(() => {{
          const {{ page, Camera }} = {HOOK}, view = document.querySelector(".view");
          const body = page.bodies[0];
          const camera = new Camera(body, page.state, view.clientWidth, view.clientHeight,
            page.tall);
          const x = body.across(-0.25), y = body.up(0.5);
          return camera.project(x, y, body.at(x, y) * page.tall);
        }})()"""
    )
    visit.page.mouse.move(view["x"] + at[0], view["y"] + at[1])
    visit.settle()
    assert visit.value(f"{HOOK}.page.point") == {"x": -0.25, "y": 0.5}
    visit.page.mouse.move(5, 5)
    visit.settle()
    assert visit.value(f"{HOOK}.page.point") is None


def test_dragging_turns_and_the_wheel_zooms_once_it_is_selected(visit):
    view = visit.page.locator(".view")
    box = view.bounding_box()
    x, y = box["x"] + 60, box["y"] + 60
    state = f"(({{azimuth, elevation, zoom}}) => [azimuth, elevation, zoom])({HOOK}.page.state)"
    start = visit.value(state)
    before = visit.pixels(".view")
    visit.page.mouse.move(x, y)
    visit.page.mouse.down()
    visit.page.mouse.move(x + 80, y + 30, steps=4)
    visit.page.mouse.up()
    visit.settle()
    after = visit.value(state)
    assert after[0] < start[0]
    assert after[1] > start[1]
    assert (visit.pixels(".view") != before).mean() > 0.02
    visit.page.mouse.wheel(0, -200)
    visit.until(state, lambda found: found[2] > start[2])
    view.dblclick(position={"x": 60, "y": 60})
    visit.settle()
    assert visit.value(state) == pytest.approx([-0.62, 0.56, 1])


def test_everything_works_by_keyboard_and_is_read_out(visit):
    visit.page.locator(".map").focus()
    visit.page.keyboard.press("ArrowRight")
    visit.page.keyboard.press("ArrowUp")
    live = "document.getElementById('live').textContent"
    visit.until(live, lambda text: f"loss {0.5 + 3 / 16 + 2 / 16 + 4 / 16:.5g}" in text)
    assert "first direction 0.25" in visit.value(live)
    visit.page.keyboard.press("Escape")
    visit.settle()
    assert visit.value(f"{HOOK}.page.point") is None
    visit.page.locator(".view").focus()
    state = f"{HOOK}.page.state"
    before = visit.value(f"{state}.azimuth")
    visit.page.keyboard.press("ArrowRight")
    visit.page.keyboard.press("+")
    assert visit.value(f"{state}.azimuth") < before
    assert visit.value(f"{state}.zoom") > 1
    visit.page.keyboard.press("0")
    visit.page.keyboard.press(" ")
    visit.until(f"{state}.azimuth", lambda found: found > -0.62)
    assert visit.page.locator("[data-toggle=turning]").get_attribute("aria-pressed") == "true"
    visit.page.keyboard.press(" ")
    visit.page.keyboard.press("0")
    visit.settle()


def test_nothing_turns_for_who_asked_for_less_motion(visit):
    assert visit.value(f"{HOOK}.page.state.turning") is False
    visit.page.emulate_media(reduced_motion="no-preference")
    visit.until(f"{HOOK}.page.state.turning", bool)
    visit.page.emulate_media(reduced_motion="reduce")
    visit.until(f"{HOOK}.page.state.turning", lambda turning: not turning)


def test_looks_scale_and_curvature_change_the_picture(visit):
    seen = [visit.pixels(".view").tobytes()]
    for change in ({"look": "paper"}, {"look": "night"}, {"arrows": True}, {"height": 1.5}):
        visit.set(**change)
        seen.append(visit.pixels(".view").tobytes())
    assert len(set(seen)) == len(seen)
    visit.page.get_by_role("button", name="Log").click()
    visit.settle()
    assert visit.value(f"{HOOK}.page.scale.log") is True
    assert visit.page.get_by_role("button", name="Log").get_attribute("aria-pressed") == "true"
    visit.set(look="studio", arrows=False, height=1, log=False)
    assert visit.complaints == []


def test_what_is_clipped_or_missing_is_said_and_hatched(rough):
    note = rough.page.locator(".drawn").first.text_content()
    # Twelve of 81 points lie above 1.8, one of them infinite; the clip is 2.
    losses = np.array(marked(hostile).losses)
    assert f"{(losses > 2).sum()} of 81 grid points lie above 2" in note
    assert f"{np.isnan(losses).sum()} of 81 are NaN" in note
    rough.page.locator("#clip").evaluate(
        "(slider) => { slider.value = 1000; slider.dispatchEvent(new Event('input')); }"
    )
    rough.settle()
    assert rough.value(f"{HOOK}.page.state.clip") is None
    assert rough.page.locator("#clip-value").text_content() == "off"
    rough.set(clip=2.0, log=False)
    assert rough.complaints == []


def test_all_surfaces_share_one_scale_and_can_be_hidden(rough):
    low, high = rough.value(f"[{HOOK}.page.scale.low, {HOOK}.page.scale.high]")
    assert (low, high) == (0.1, 2.0)
    rough.page.get_by_role("button", name="smooth").click()
    rough.settle()
    assert rough.page.locator(".ground:visible").count() == 1
    rough.page.get_by_role("button", name="rough").click()  # the last one stays
    rough.settle()
    assert rough.page.locator(".ground:visible").count() == 1
    rough.page.get_by_role("button", name="smooth").click()
    rough.settle()
    assert rough.page.locator(".ground:visible").count() == 2


def test_a_metric_has_a_scale_of_its_own_and_is_shown_when_asked_for(browser, folder, tmp_path):
    accuracy = surface(lambda across, up: 1 - 0.4 * (across**2 + up**2)).losses
    grid = dataclasses.replace(marked(), also={"accuracy": accuracy})
    page = Surfaces(browser, write_landscape(grid, folder / "metric.html", scale="log"))
    assert page.page.locator(".ground:visible").count() == 1
    page.page.get_by_role("button", name="accuracy").click()
    page.settle()
    assert page.page.locator(".ground:visible").count() == 2
    assert page.page.locator(".slice svg").count() == 4
    scales = page.value(f"{HOOK}.page.bodies.map(b => [b.scale.log, b.scale.low, b.scale.high])")
    assert scales[0] == [True, *(float(end(grid.losses)) for end in (np.min, np.max))]
    assert scales[1] == [False, *(float(end(accuracy)) for end in (np.min, np.max))]
    page.set(clip=2.0)
    assert page.value(f"{HOOK}.page.bodies.map(b => b.clippedPoints > 0)") == [True, False]
    scene = trimesh.load(io.BytesIO(page.content("glb()")), file_type="glb")
    grid.export(tmp_path / "x.glb", clip=2.0, scale="log")
    own = trimesh.load(tmp_path / "x.glb")
    for name in ("loss", "accuracy"):
        np.testing.assert_allclose(
            scene.geometry[name].vertices, own.geometry[name].vertices, atol=1e-6
        )
    assert page.complaints == []
    page.close()


def test_gltf_is_that_of_the_library(rough, tmp_path):
    scene = trimesh.load(io.BytesIO(rough.content("glb()")), file_type="glb")
    assert sorted(scene.geometry) == ["rough", "smooth"]
    marked(hostile).export(tmp_path / "x.glb", clip=2.0, scale="linear")
    other = trimesh.load(tmp_path / "x.glb").geometry["loss"]
    one = scene.geometry["rough"]
    np.testing.assert_array_equal(one.vertices, other.vertices)
    np.testing.assert_array_equal(one.faces, other.faces)
    heights = one.vertices[:, 1]
    assert heights.max() == 2
    np.testing.assert_allclose(scene.bounds[1] - scene.bounds[0], [2.2, 0.82, 2], rtol=1e-6)


def test_vtk_is_that_of_the_library(rough, tmp_path):
    (tmp_path / "x.vtu").write_bytes(rough.content("vtu(0)"))
    one = meshio.read(tmp_path / "x.vtu")
    marked(hostile).export(tmp_path / "y.vtu", clip=2.0, scale="linear")
    other = meshio.read(tmp_path / "y.vtu")
    np.testing.assert_array_equal(one.points, other.points)
    np.testing.assert_array_equal(one.point_data["loss"], other.point_data["loss"])
    for name in ("quad", "line", "vertex"):
        np.testing.assert_array_equal(one.cells_dict[name], other.cells_dict[name])


def test_drawings_and_pictures_are_whole(rough):
    for call in ("mapSvg(0)", "viewSvg(0)"):
        drawing = rough.content(call).decode()
        root = ElementTree.fromstring(drawing)
        assert root.tag.endswith("svg")
        assert "<b>" not in drawing
        assert "http" not in drawing.replace("http://www.w3.org/2000/svg", "")
        assert len(root.findall(".//{*}path")) > 30
    assert "url(#above)" in rough.content("mapSvg(0)").decode()
    picture = Image.open(io.BytesIO(rough.content("png()")))
    assert picture.width > 800
    assert len(np.unique(np.asarray(picture.convert("RGB")).reshape(-1, 3), axis=0)) > 1000


def test_a_turn_is_recorded(visit):
    content = visit.content("video(0.5)")
    assert content[4:8] == b"ftyp" or content[:4] == b"\x1a\x45\xdf\xa3"
    assert len(content) > 2000
    assert visit.complaints == []


def test_without_webgl_the_surface_is_drawn_all_the_same(browser, folder):
    file = write_landscape(marked(hostile), folder / "flat.html", clip=2.0)
    context = browser.new_context(reduced_motion="reduce")
    context.add_init_script(
        """const get = HTMLCanvasElement.prototype.getContext;
        HTMLCanvasElement.prototype.getContext = function (kind, ...rest) {
          return kind === "webgl2" ? null : get.call(this, kind, ...rest);
        };"""
    )
    page = context.new_page()
    said = []
    page.on("pageerror", lambda error: said.append(str(error)))
    page.goto(file.as_uri())
    page.wait_for_selector("#stage[data-drawn][data-flat]", state="attached")
    for look in ("studio", "relief"):
        page.evaluate(f"{HOOK}.set({json.dumps({'look': look})})")
        page.wait_for_timeout(100)
        data = page.evaluate("document.querySelector('.view').toDataURL().split(',')[1]")
        colours = np.asarray(Image.open(io.BytesIO(base64.b64decode(data))).convert("RGB"))
        assert len(np.unique(colours.reshape(-1, 3), axis=0)) > 1000
    assert said == []
    context.close()


def test_a_link_says_how_the_page_looks(browser, file):
    visit = Surfaces.__new__(Surfaces)
    Visit.__init__(visit, browser, file)
    visit.page.goto("about:blank")
    visit.page.goto(file.as_uri() + "#look=night&azimuth=45&log=1&clip=3&point=0.3,-0.2&arrows=1")
    visit.page.wait_for_selector("#stage[data-drawn]", state="attached")
    state = visit.value(f"{HOOK}.page.state")
    assert (state["look"], state["map"], state["log"], state["clip"]) == ("night", "ember", True, 3)
    assert math.isclose(state["azimuth"], math.pi / 4)
    assert visit.value(f"{HOOK}.page.point") == {"x": 0.25, "y": -0.25}
    visit.close()
