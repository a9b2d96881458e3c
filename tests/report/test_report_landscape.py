from __future__ import annotations

import base64
import json
import re
import shutil
import subprocess
from html.parser import HTMLParser
from importlib.resources import files

import numpy as np
import pytest

from perturbrl.errors import UserError
from perturbrl.landscape.network import Network
from perturbrl.landscape.pictures.scene import Facts, Mark, Path, Scene, View, wiring
from perturbrl.landscape.potential import quasi_potential
from perturbrl.report.landscape import build
from perturbrl.report.landscape import wiring as drawing
from perturbrl.report.landscape.page import page
from perturbrl.report.landscape.relief import Camera, Relief
from perturbrl.report.landscape.theme import DARK, LIGHT

EVIL = "</script><b>A&B"
VOID = {"meta", "img", "br", "path", "use", "wbr"}


def view(key="plane", downhill=False):
    rng = np.random.default_rng(0)
    points = np.concatenate([rng.normal([-1, 0.5], 0.15, (2000, 2)), rng.normal([1, 0.5], 0.15, (2000, 2))])
    surface = quasi_potential(points, bounds=((-2.0, 2.0), (0.0, 1.0)), n_grid=40)
    marks = (Mark(EVIL, EVIL, np.array([-1.0, 0.5]), {"basin": "50 %"}), Mark("B", "B", np.array([1.0, 0.5])))
    way = np.column_stack([np.linspace(0, -1, 12), np.linspace(0, 0.5, 12)])
    return View(key, "Plane", ("x", "y"), surface, marks, (Path(EVIL, way), Path("B", -way + [0, 1])), "cap", downhill)


@pytest.fixture(scope="module")
def scene():
    network = Network({"a": "not b", "b": "not a or b", "lone": "lone"}, frozenset(), {}, {}, {}, 0.5)
    table = Facts("Attractors", ("name", "share"), ((EVIL, "1 %"), ("B", "2 %")), (EVIL, "B"), ("a note",))
    views = (view(), view("time", downhill=True))
    return Scene("two & wells", "lead", (EVIL, "B"), views, (table,), wiring(network, {"B": ("a",)}))


@pytest.fixture(scope="module")
def written(scene, tmp_path_factory):
    folder = tmp_path_factory.mktemp("pictures") / "new"
    return build.write(scene, folder, "two", DARK)


class Reader(HTMLParser):
    """Checks that tags nest; collects links and scripts."""

    def __init__(self):
        super().__init__()
        self.open, self.links, self.scripts = [], [], []

    def handle_starttag(self, tag, attrs):
        self.links += [
            value for key, value in attrs if key in ("src", "href", "xlink:href", "action", "srcset") and value
        ]
        if tag not in VOID:
            self.open.append(tag)
        if tag == "script":
            self.scripts.append("")

    def handle_endtag(self, tag):
        if tag not in VOID:
            assert self.open.pop() == tag, self.getpos()

    def handle_data(self, data):
        if self.open and self.open[-1] == "script":
            self.scripts[-1] += data


@pytest.fixture(scope="module")
def text(written):
    return written[-1].read_text(encoding="utf-8")


def test_every_picture_is_written(written):
    assert [file.name for file in written] == ["two.png", "two-plane.png", "two-map.png", "two-network.png", "two.html"]
    assert all(file.read_bytes().startswith(b"\x89PNG") for file in written[:-1])


def test_the_page_parses_and_needs_nothing_from_outside(text):
    reader = Reader()
    reader.feed(text)
    reader.close()
    assert reader.open == []
    assert all(link.startswith(("data:image/png;base64,", "#")) for link in reader.links), reader.links
    outside = set(re.findall(r"(?:https?:)?//[\w.-]+\.\w+[^\s\"'<]*", text))
    assert outside <= {"http://www.w3.org/2000/svg", "http://www.w3.org/1999/xlink"}
    for word in ("fetch(", "XMLHttpRequest", "import(", "@import", "WebSocket"):
        assert word not in text
    assert "prefers-color-scheme: dark" in text and LIGHT.ground in text and DARK.ground in text


def test_names_cannot_leave_their_place(text):
    assert "<b>A" not in text and text.count("</script>") == 2
    assert "&lt;/script&gt;&lt;b&gt;A&amp;B" in text


def test_the_page_holds_the_surface_and_the_ways(text, scene):
    reader = Reader()
    reader.feed(text)
    data = json.loads(reader.scripts[0])
    assert [v["key"] for v in data["views"]] == ["plane", "time"] and data["groups"] == list(scene.groups)
    for shown, original in zip(data["views"], scene.views, strict=True):
        level = np.frombuffer(base64.b64decode(shown["level"]), "<u2").reshape(shown["shape"]) / 65535
        x, y = original.surface.axes
        u = original.surface.at(np.array([[x[10], y[30]], [x[20], y[5]]])) / shown["top"]
        n, m = level.shape
        rows = [round(10 / 39 * (n - 1)), round(20 / 39 * (n - 1))]
        columns = [round(share * (m - 1)) for share in (30 / 39, 5 / 39)]
        columns = [m - 1 - c for c in columns] if original.downhill else columns
        assert np.allclose(level[rows, columns], u, atol=0.08)
        way = np.frombuffer(base64.b64decode(shown["paths"][0]["points"]), "<u2").reshape(-1, 3) / 32767.5 - 0.5
        assert way[0, 0] == pytest.approx((0 - x[0]) / np.ptp(x), abs=0.01)
        assert way[-1, 0] == pytest.approx((-1 - x[0]) / np.ptp(x), abs=0.01)


@pytest.mark.skipif(shutil.which("node") is None, reason="node is not installed")
def test_the_script_is_javascript(tmp_path):
    script = tmp_path / "scene.js"
    script.write_text(files("perturbrl.report.landscape").joinpath("scene.js").read_text(encoding="utf-8"))
    done = subprocess.run(["node", "--check", script], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr


def test_a_folder_that_cannot_be_made_is_named(scene, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match=r"--out: .*file.* cannot be written"):
        build.write(scene, tmp_path / "file" / "under", "two", LIGHT)


def test_a_camera_from_above_sees_the_plane_and_hides_nothing():
    relief, above = Relief(view()), Camera(90, 0)
    points = relief.place(np.array([[-1.0, 0.5], [0.0, 0.2], [1.0, 0.5]]))
    assert np.allclose(above.screen(points), points[:, :2]) and relief.visible(points, above).all()
    assert np.allclose(above.towards, [0, 0, 1])


def test_a_low_camera_does_not_see_the_bottom_of_a_well():
    relief, low = Relief(view()), Camera(8, 0)
    points = relief.place(np.array([[-1.0, 0.5], [0.0, 0.02]]))  # a bottom, and the ridge before it
    assert relief.visible(points, low).tolist() == [False, True]


def test_time_runs_from_the_back_to_the_front_and_down():
    relief = Relief(view("time", downhill=True))
    first, last = relief.place(np.array([[0.0, 0.0], [0.0, 1.0]]))
    assert first[1] > last[1] and first[2] > last[2] + 0.2


def test_a_layout_puts_neighbours_near_and_is_always_the_same():
    chain = Network({"a": "a", **{b: a for a, b in zip("abcde", "bcdef", strict=True)}}, frozenset(), {}, {}, {}, 0.5)
    at = drawing.layout(wiring(chain, {}))
    steps = np.linalg.norm(np.diff(at, axis=0), axis=1)
    assert np.allclose(steps, 1, atol=0.15) and np.linalg.norm(at[0] - at[-1]) > 4
    assert np.array_equal(at, drawing.layout(wiring(chain, {})))


def test_a_scene_without_a_network_has_no_drawing(scene):
    alone = Scene(scene.title, scene.lead, scene.groups, scene.views[:1], scene.tables)
    assert drawing.draw(alone, LIGHT) is None
    assert "The network" not in page(alone, b"", "")


BROWSER = shutil.which("chromium") or shutil.which("google-chrome")
CLICKS = """<script>
const log = []; addEventListener("error", (e) => log.push("error " + e.message));
const press = (button) => { button.click(); return button.getAttribute("aria-pressed"); };
log.push(document.body.className ? "no webgl" : "webgl");
log.push("views " + [...document.querySelectorAll("#views button")].map((b) => press(b)).join(" "));
log.push("chip " + press(document.querySelector("#groups button")));
const canvas = document.getElementById("canvas"), pin = document.querySelector(".pin"), before = pin.style.left;
for (let k = 0; k < 20; k++) canvas.dispatchEvent(new KeyboardEvent("keydown", { key: "ArrowRight" }));
pin.dispatchEvent(new MouseEvent("mouseenter"));
setTimeout(() => {
  log.push("moved " + (pin.style.left !== before), "tip " + document.getElementById("tip").textContent);
  const out = document.createElement("pre");
  out.id = "log"; out.textContent = log.join("\\n"); document.body.append(out);
}, 1500);
</script></body>"""


@pytest.mark.slow
@pytest.mark.skipif(BROWSER is None, reason="no Chromium")
def test_the_page_answers_clicks_keys_and_hovering(text, tmp_path):
    (tmp_path / "page.html").write_text(text.replace("</body>", CLICKS), encoding="utf-8")
    command = [
        BROWSER, "--headless=new", "--no-sandbox", "--use-angle=swiftshader", "--enable-unsafe-swiftshader",
        f"--user-data-dir={tmp_path / 'profile'}", "--virtual-time-budget=8000", "--dump-dom",
        (tmp_path / "page.html").as_uri(),
    ]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    log = re.search(r'<pre id="log">(.*?)</pre>', done.stdout, re.DOTALL)
    assert log is not None, done.stderr[-500:]
    lines = log[1].split("\n")
    assert not [line for line in lines if line.startswith("error")]
    if "no webgl" in lines:
        pytest.skip("this Chromium has no WebGL 2")
    assert lines[1:4] == ["views true true", "chip false", "moved true"]
    assert "basin50 %" in lines[4]
