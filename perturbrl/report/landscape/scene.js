"use strict";
// One surface, the ways of cells on it, names over it. Data: the JSON of `page.py`, positions on a block of width 1.
(() => {
const data = JSON.parse(document.getElementById("data").textContent);
const stage = document.getElementById("stage"), canvas = document.getElementById("canvas");
const overlay = document.getElementById("names"), tip = document.getElementById("tip");
const gl = canvas.getContext("webgl2", { antialias: true, preserveDrawingBuffer: true });
if (!gl) { document.body.classList.add("flat"); return; }

const dark = matchMedia("(prefers-color-scheme: dark)"), calm = matchMedia("(prefers-reduced-motion: reduce)");
const hidden = new Set();
const state = { view: 0, turn: 0, up: 0, zoom: 1, panX: 0, panY: 0, slope: 1, time: 2 };
const theme = () => data.themes[dark.matches ? "dark" : "light"];
const rgb = (hex) => [1, 3, 5].map((k) => parseInt(hex.slice(k, k + 2), 16) / 255);
const colorOf = (group) => { const k = data.groups.indexOf(group); return k < 0 ? theme().muted : theme().groups[k % theme().groups.length]; };
const bytes = (text) => Uint8Array.from(atob(text), (c) => c.charCodeAt(0)).buffer;

// ---- programs
function program(vertex, fragment) {
  const made = gl.createProgram();
  for (const [kind, text] of [[gl.VERTEX_SHADER, vertex], [gl.FRAGMENT_SHADER, fragment]]) {
    const shader = gl.createShader(kind);
    gl.shaderSource(shader, "#version 300 es\nprecision highp float;\n" + text);
    gl.compileShader(shader);
    if (!gl.getShaderParameter(shader, gl.COMPILE_STATUS)) throw new Error(gl.getShaderInfoLog(shader));
    gl.attachShader(made, shader);
  }
  gl.linkProgram(made);
  const cache = {};
  return { made, at: (name) => (cache[name] ??= gl.getUniformLocation(made, name)), input: (name) => gl.getAttribLocation(made, name) };
}
const CAMERA = `uniform vec4 angles; uniform vec4 frame; uniform vec3 middle; uniform float fall;
vec3 onscreen(vec3 p) { p.z += fall * p.y; p -= middle;
  float r = p.x * angles.x - p.y * angles.y, b = p.x * angles.y + p.y * angles.x;
  return vec3((r * frame.x + frame.z), (b * angles.w + p.z * angles.z) * frame.y + frame.w, (b * angles.z - p.z * angles.w) * 0.4); }`;
const ground = program(`in vec3 place; in vec2 rise; ${CAMERA} uniform float height; out vec3 normal; out float level;
void main() { level = place.z; normal = vec3(-rise * height - vec2(0.0, fall), 1.0);
  gl_Position = vec4(onscreen(vec3(place.xy, place.z * height)), 1.0); }`,
`in vec3 normal; in float level; uniform vec3 ramp[7]; uniform vec3 shadow; uniform vec3 ink; uniform float top; uniform float fall; out vec4 color;
void main() { vec3 lamp = normalize(vec3(-0.55, 0.35, 0.75)); float t = clamp(level, 0.0, 1.0) * 6.0; int k = int(min(t, 5.0));
  vec3 c = mix(ramp[k], ramp[k + 1], t - float(k));
  float lit = max(dot(normalize(normal), lamp), 0.0), even = dot(normalize(vec3(0.0, -fall, 1.0)), lamp);
  float dim = clamp(0.75 * (even - lit), 0.0, 0.5), bright = clamp(0.5 * (lit - even), 0.0, 0.2);
  c = c * (1.0 - dim - bright) + shadow * dim + bright;
  float u = level * top, near = abs(fract(u - 0.5) - 0.5) / max(fwidth(u), 1e-5);
  c = mix(c, ink, 0.22 * (1.0 - smoothstep(0.4, 1.3, near)) * step(0.5, u) * step(u, top - 0.25));
  color = vec4(c, 1.0); }`);
const wall = program(`in vec3 place; ${CAMERA} void main() { gl_Position = vec4(onscreen(place), 1.0); }`,
  `uniform vec3 tone; out vec4 color; void main() { color = vec4(tone, 1.0); }`);
const line = program(`in vec3 a; in vec3 b; in vec2 corner; ${CAMERA} uniform vec2 size; uniform float wide;
void main() { vec3 p = onscreen(a), q = onscreen(b); vec2 way = (q.xy - p.xy) * size; way /= max(length(way), 1e-4);
  vec2 off = (way * corner.x + vec2(-way.y, way.x) * corner.y) * wide / size; vec3 here = corner.x < 0.0 ? p : q;
  gl_Position = vec4(here.xy + off, here.z - 0.0015, 1.0); }`,
  `uniform vec4 tone; out vec4 color; void main() { color = vec4(tone.rgb * tone.a, tone.a); }`);
const ball = program(`in vec3 place; ${CAMERA} uniform float wide; void main() { vec3 p = onscreen(place);
  gl_Position = vec4(p.xy, p.z - 0.01, 1.0); gl_PointSize = wide; }`,
`uniform vec3 tone; uniform vec3 rim; out vec4 color; void main() { vec2 p = gl_PointCoord * 2.0 - 1.0; float r = length(p); if (r > 1.0) discard;
  float shine = clamp(1.15 - length(p - vec2(-0.35, -0.35)), 0.0, 1.0); color = vec4(mix(mix(tone, vec3(1.0), 0.55 * shine * shine), rim, smoothstep(0.72, 0.86, r)), 1.0); }`);

function buffer(values) { const b = gl.createBuffer(); gl.bindBuffer(gl.ARRAY_BUFFER, b); gl.bufferData(gl.ARRAY_BUFFER, values, gl.STATIC_DRAW); return b; }
function feed(p, b, parts, stride) {
  gl.bindBuffer(gl.ARRAY_BUFFER, b);
  for (const [name, size, offset] of parts) {
    const k = p.input(name); if (k < 0) continue;
    gl.enableVertexAttribArray(k); gl.vertexAttribPointer(k, size, gl.FLOAT, false, stride * 4, offset * 4);
  }
}

// ---- geometry of each view, made once
for (const view of data.views) {
  const [n, m] = view.shape, raw = new Uint16Array(bytes(view.level)), level = Float32Array.from(raw, (v) => v / 65535);
  view.grid = level;
  const at = (i, j) => level[Math.min(n - 1, Math.max(0, i)) * m + Math.min(m - 1, Math.max(0, j))];
  const vertices = new Float32Array(n * m * 5), index = new Uint32Array((n - 1) * (m - 1) * 6);
  for (let i = 0, k = 0; i < n; i++) for (let j = 0; j < m; j++) {
    const dx = (at(i + 1, j) - at(i - 1, j)) / ((Math.min(n - 1, i + 1) - Math.max(0, i - 1)) / (n - 1));
    const dy = (at(i, j + 1) - at(i, j - 1)) / ((Math.min(m - 1, j + 1) - Math.max(0, j - 1)) * view.length / (m - 1));
    vertices.set([i / (n - 1), j / (m - 1) * view.length, at(i, j), dx, dy], 5 * k++);
  }
  for (let i = 0, k = 0; i < n - 1; i++) for (let j = 0; j < m - 1; j++, k += 6) {
    const a = i * m + j; index.set([a, a + m, a + 1, a + 1, a + m, a + m + 1], k);
  }
  view.vertices = buffer(vertices); view.count = index.length; view.index = gl.createBuffer();
  gl.bindBuffer(gl.ELEMENT_ARRAY_BUFFER, view.index); gl.bufferData(gl.ELEMENT_ARRAY_BUFFER, index, gl.STATIC_DRAW);
  const strip = (points) => { const out = []; for (const [x, y, z] of points) out.push(x, y, z * view.height, x, y, data.base); return buffer(new Float32Array(out)); };
  const range = (c) => [...Array(c).keys()];
  view.walls = [
    [strip(range(n).map((i) => [i / (n - 1), 0, at(i, 0)])), n, 1], [strip(range(n).map((i) => [i / (n - 1), view.length, at(i, m - 1)])), n, 1],
    [strip(range(m).map((j) => [0, j / (m - 1) * view.length, at(0, j)])), m, 0], [strip(range(m).map((j) => [1, j / (m - 1) * view.length, at(n - 1, j)])), m, 0],
  ];
  view.ways = view.paths.map((path) => {
    const p = Float32Array.from(new Uint16Array(bytes(path.points)), (v) => v / 32767.5 - 0.5), steps = p.length / 3 - 1, out = [];
    for (let s = 0; s < steps; s++) for (const [c, d] of [[-1, -1], [-1, 1], [1, -1], [1, -1], [-1, 1], [1, 1]])
      out.push(...p.subarray(3 * s, 3 * s + 6), c, d);
    return { group: path.group, points: p, lines: buffer(new Float32Array(out)), count: steps * 6 };
  });
}

// ---- camera
const HOME = { plane: [-20, 56], time: [-12, 38] };
const homeOf = (v) => HOME[v.key] ?? HOME.plane;
function home() { [state.turn, state.up] = homeOf(data.views[state.view]); Object.assign(state, { zoom: 1, panX: 0, panY: 0 }); }
const fallOf = (v) => v.fall * state.slope / v.length;
function camera() {
  const v = data.views[state.view], t = state.turn * Math.PI / 180, e = state.up * Math.PI / 180;
  const aspect = canvas.width / canvas.height, middle = [0.5, v.length / 2, v.height * 0.55 + fallOf(v) * v.length / 2];
  const angles = (turn, up) => [Math.cos(turn), Math.sin(turn), Math.cos(up), Math.sin(up)];
  // the block as it stands at home fills the stage, whatever its shape
  const still = { angles: angles(...homeOf(v).map((d) => d * Math.PI / 180)), frame: [1, 1, 0, 0], middle, fall: v.fall / v.length };
  const corners = []; for (const x of [0, 1]) for (const y of [0, v.length]) for (const z of [data.base, v.height]) corners.push(project(still, [x, y, z]));
  const [rs, us] = [0, 1].map((k) => corners.map((p) => p[k])), wide = Math.max(...rs) - Math.min(...rs), high = Math.max(...us) - Math.min(...us);
  const sx = state.zoom * Math.min(1.86 / wide, 1.84 / (high * aspect)), sy = sx * aspect;
  const low = -(Math.max(...us) + Math.min(...us)) / 2 * sy, left = -(Math.max(...rs) + Math.min(...rs)) / 2 * sx;
  return { v, angles: angles(t, e), frame: [sx, sy, state.panX + left, state.panY + low], middle, fall: fallOf(v) };
}
function project(c, p) {
  const x = p[0] - c.middle[0], y = p[1] - c.middle[1], z = p[2] + c.fall * p[1] - c.middle[2], [ct, st, ce, se] = c.angles;
  const right = x * ct - y * st, back = x * st + y * ct;
  return [right * c.frame[0] + c.frame[2], (back * se + z * ce) * c.frame[1] + c.frame[3]];
}
function covered(c, p) {  // does the surface lie between a point and the eye?
  const v = c.v, [n, m] = v.shape, [ct, st, ce, se] = c.angles;
  for (let s = 0.02; s < 0.6; s += 0.012) {
    const x = p[0] - st * ce * s, y = p[1] - ct * ce * s, z = p[2] + c.fall * p[1] + se * s;
    if (x < 0 || x > 1 || y < 0 || y > v.length) return false;
    const h = v.grid[Math.round(x * (n - 1)) * m + Math.round(y / v.length * (m - 1))] * v.height + c.fall * y;
    if (h > z + 0.008) return true;
  }
  return false;
}

// ---- drawing
function use(p, c) { gl.useProgram(p.made); gl.uniform4fv(p.at("angles"), c.angles); gl.uniform4fv(p.at("frame"), c.frame); gl.uniform3fv(p.at("middle"), c.middle); gl.uniform1f(p.at("fall"), c.fall); }
function draw() {
  const scale = Math.min(2, devicePixelRatio || 1), w = Math.round(canvas.clientWidth * scale), h = Math.round(canvas.clientHeight * scale);
  if (canvas.width !== w || canvas.height !== h) { canvas.width = w; canvas.height = h; }
  const c = camera(), v = c.v, look = theme();
  gl.viewport(0, 0, w, h); gl.clearColor(...rgb(look.ground), 1); gl.clear(gl.COLOR_BUFFER_BIT | gl.DEPTH_BUFFER_BIT);
  gl.enable(gl.DEPTH_TEST); gl.depthFunc(gl.LESS); gl.depthMask(true); gl.disable(gl.BLEND);
  use(ground, c); gl.uniform1f(ground.at("height"), v.height); gl.uniform1f(ground.at("top"), v.top);
  gl.uniform3fv(ground.at("ramp"), look.ramp.flatMap(rgb)); gl.uniform3fv(ground.at("shadow"), rgb(look.shadow)); gl.uniform3fv(ground.at("ink"), rgb(look.ink));
  feed(ground, v.vertices, [["place", 3, 0], ["rise", 2, 3]], 5);
  gl.bindBuffer(gl.ELEMENT_ARRAY_BUFFER, v.index); gl.drawElements(gl.TRIANGLES, v.count, gl.UNSIGNED_INT, 0);
  use(wall, c);
  for (const [b, n, tone] of v.walls) { gl.uniform3fv(wall.at("tone"), rgb(look.sides[tone])); feed(wall, b, [["place", 3, 0]], 3); gl.drawArrays(gl.TRIANGLE_STRIP, 0, 2 * n); }
  gl.enable(gl.BLEND); gl.blendFunc(gl.ONE, gl.ONE_MINUS_SRC_ALPHA); gl.depthMask(false);
  use(line, c); gl.uniform2f(line.at("size"), w / 2, h / 2);
  const shown = v.ways.filter((way) => !hidden.has(way.group));
  for (const [wide, alpha, halo, behind] of [[0.8, 0.16, false, true], [2.1, 0.3, true, false], [1.15, 0.95, false, false]]) {
    gl.depthFunc(behind ? gl.GREATER : gl.LESS); gl.uniform1f(line.at("wide"), wide * scale);
    for (const way of shown) {
      gl.uniform4f(line.at("tone"), ...rgb(halo ? look.halo : colorOf(way.group)), alpha);
      feed(line, way.lines, [["a", 3, 0], ["b", 3, 3], ["corner", 2, 6]], 8); gl.drawArrays(gl.TRIANGLES, 0, way.count);
    }
  }
  gl.depthFunc(gl.LESS); gl.depthMask(true);
  if (state.time <= 1) {
    use(ball, c); gl.uniform1f(ball.at("wide"), 13 * scale); gl.uniform3fv(ball.at("rim"), rgb(look.halo));
    for (const way of shown) {
      const last = way.points.length / 3 - 1, s = state.time * last, k = Math.min(last - 1, Math.floor(s)), f = s - k;
      const p = [0, 1, 2].map((d) => way.points[3 * k + d] * (1 - f) + way.points[3 * k + 3 + d] * f);
      gl.uniform3fv(ball.at("tone"), rgb(colorOf(way.group)));
      way.spot ??= gl.createBuffer(); gl.bindBuffer(gl.ARRAY_BUFFER, way.spot); gl.bufferData(gl.ARRAY_BUFFER, new Float32Array(p), gl.DYNAMIC_DRAW);
      feed(ball, way.spot, [["place", 3, 0]], 3); gl.drawArrays(gl.POINTS, 0, 1);
    }
  }
  names(c);
}

// ---- names over the picture
let pins = [];
function makeNames() {
  overlay.replaceChildren(); tip.hidden = true;
  pins = data.views[state.view].marks.map((mark) => {
    const pin = document.createElement("button"), dot = document.createElement("i"), word = document.createElement("span");
    pin.type = "button"; pin.className = "pin"; word.textContent = mark.name; pin.append(dot, word);
    const show = () => tell(mark, pin), hide = () => { tip.hidden = true; pin.classList.remove("on"); };
    pin.addEventListener("mouseenter", show); pin.addEventListener("focus", show); pin.addEventListener("mouseleave", hide); pin.addEventListener("blur", hide);
    overlay.append(pin);
    return { mark, pin, dot, word };
  });
}
function tell(mark, pin) {
  tip.replaceChildren();
  const head = document.createElement("b"); head.textContent = mark.name; tip.append(head);
  const list = document.createElement("dl");
  for (const [key, value] of Object.entries(mark.facts)) {
    const dt = document.createElement("dt"), dd = document.createElement("dd"); dt.textContent = key; dd.textContent = value; list.append(dt, dd);
  }
  if (list.childElementCount) tip.append(list);
  tip.hidden = false; pin.classList.add("on");
  const room = stage.clientWidth - tip.offsetWidth - 8, y = parseFloat(pin.style.top);
  tip.style.left = `${Math.max(8, Math.min(room, parseFloat(pin.style.left) + 16))}px`;
  tip.style.top = `${Math.max(8, Math.min(stage.clientHeight - tip.offsetHeight - 8, y + 14))}px`;
}
function names(c) {
  const boxes = [], w = canvas.clientWidth, h = canvas.clientHeight;
  for (const { mark, pin, dot, word } of [...pins].sort((a, b) => project(c, b.mark.at)[1] - project(c, a.mark.at)[1])) {
    const [x, y] = project(c, mark.at), left = (x + 1) / 2 * w, top = (1 - y) / 2 * h, wide = word.offsetWidth + 4, high = word.offsetHeight;
    const down = c.v.fall && mark.at[1] < 0.02 ? 1 : -1;  // at the end of time, over the front side
    let rise = 16;
    const clash = () => boxes.some(([a, b, d]) => Math.abs(a - left) < (d + wide) / 2 && Math.abs(b - (top + down * rise)) < high);
    while (clash() && rise < 120) rise += 8;
    boxes.push([left, top + down * rise, wide]);
    pin.style.left = `${left}px`; pin.style.top = `${top}px`; word.style.bottom = down < 0 ? `${rise - 8}px` : "auto"; word.style.top = down > 0 ? `${rise - 8}px` : "auto";
    pin.classList.toggle("down", down > 0);
    dot.style.background = colorOf(mark.group); pin.style.setProperty("--stem", `${rise - 8}px`);
    pin.classList.toggle("behind", covered(c, mark.at));
    pin.classList.toggle("off", hidden.has(mark.group));
  }
}

// ---- controls
let asked = false;
const redraw = () => { if (!asked) { asked = true; requestAnimationFrame(() => { asked = false; draw(); }); } };
const tabs = document.getElementById("views"), chips = document.getElementById("groups"), slope = document.getElementById("slope"), play = document.getElementById("play");
data.views.forEach((view, k) => {
  const tab = document.createElement("button"); tab.type = "button"; tab.textContent = view.title;
  tab.addEventListener("click", () => choose(k)); tabs.append(tab);
});
function choose(k) {
  state.view = k; home();
  [...tabs.children].forEach((tab, j) => tab.setAttribute("aria-pressed", String(j === k)));
  document.getElementById("caption").textContent = data.views[k].caption;
  slope.hidden = !data.views[k].fall; play.hidden = !data.views[k].paths.length; makeNames(); makeChips(); redraw();
}
function makeChips() {
  const counts = new Map(); for (const path of data.views[state.view].paths) counts.set(path.group, (counts.get(path.group) ?? 0) + 1);
  chips.replaceChildren(...[...counts].map(([group, count]) => {
    const chip = document.createElement("button"), dot = document.createElement("i"); chip.type = "button";
    dot.style.background = colorOf(group); chip.append(dot, `${group} (${count})`); chip.setAttribute("aria-pressed", String(!hidden.has(group)));
    chip.addEventListener("click", () => { hidden.has(group) ? hidden.delete(group) : hidden.add(group); chip.setAttribute("aria-pressed", String(!hidden.has(group))); redraw(); });
    return chip;
  }));
}
slope.addEventListener("click", () => { state.slope = 1 - state.slope; slope.setAttribute("aria-pressed", String(!!state.slope)); redraw(); });
document.getElementById("reset").addEventListener("click", () => { home(); redraw(); });
play.addEventListener("click", () => {
  const begin = performance.now(), last = calm.matches ? 1 : 7000;
  const frame = (now) => { state.time = (now - begin) / last; draw(); if (state.time <= 1.15) requestAnimationFrame(frame); else { state.time = 2; draw(); } };
  if (state.time > 1.15 || state.time === 2) requestAnimationFrame(frame);
});
const fingers = new Map(); let gap = 0;
canvas.addEventListener("pointerdown", (e) => { canvas.setPointerCapture(e.pointerId); fingers.set(e.pointerId, [e.clientX, e.clientY]); });
for (const kind of ["pointerup", "pointercancel"]) canvas.addEventListener(kind, (e) => { fingers.delete(e.pointerId); gap = 0; });
canvas.addEventListener("pointermove", (e) => {
  const was = fingers.get(e.pointerId); if (!was) return;
  const dx = e.clientX - was[0], dy = e.clientY - was[1]; fingers.set(e.pointerId, [e.clientX, e.clientY]);
  if (fingers.size === 2) {
    const [a, b] = [...fingers.values()], now = Math.hypot(a[0] - b[0], a[1] - b[1]);
    if (gap) zoom(now / gap); gap = now;
  } else if (e.shiftKey || e.buttons === 2) { state.panX += 2 * dx / canvas.clientWidth; state.panY -= 2 * dy / canvas.clientHeight; }
  else turn(dx * 0.4, dy * 0.3);
  redraw();
});
const turn = (dx, dy) => { state.turn -= dx; state.up = Math.max(8, Math.min(90, state.up + dy)); };
const zoom = (by) => { state.zoom = Math.max(0.5, Math.min(6, state.zoom * by)); };
canvas.addEventListener("contextmenu", (e) => e.preventDefault());
canvas.addEventListener("wheel", (e) => { e.preventDefault(); zoom(Math.exp(-e.deltaY * 0.0012)); redraw(); }, { passive: false });
canvas.addEventListener("dblclick", () => { home(); redraw(); });
canvas.addEventListener("keydown", (e) => {
  const steps = { ArrowLeft: () => turn(-6, 0), ArrowRight: () => turn(6, 0), ArrowUp: () => turn(0, 4), ArrowDown: () => turn(0, -4), "+": () => zoom(1.15), "-": () => zoom(1 / 1.15), "0": home };
  if (steps[e.key]) { e.preventDefault(); steps[e.key](); redraw(); }
});
dark.addEventListener("change", () => { makeChips(); redraw(); });
new ResizeObserver(redraw).observe(stage);
const start = new URLSearchParams(location.hash.slice(1));  // #view=0&time=0.5 opens the page in that state
choose(Math.max(0, data.views.findIndex((view, k) => String(k) === (start.get("view") ?? "") || view.key === (start.get("view") ?? data.first))));
if (start.get("time")) { state.time = Number(start.get("time")); redraw(); }
})();
