// Numbers by step as an SVG that is drawn anew when its place changes its width.

const SPACE = "http://www.w3.org/2000/svg";
const LEFT = 56, BELOW = 26, ABOVE = 8;

function svg(tag, given, text) {
  const made = document.createElementNS(SPACE, tag);
  for (const [name, value] of Object.entries(given)) made.setAttribute(name, value);
  if (text !== undefined) made.textContent = text;
  return made;
}

/** Draw curves into a place: `{name, css, points: [[step, value], …], dots}`; `label` says in words what they show. */
export function chart(place, curves, label, height = 240) {
  const points = curves.flatMap((c) => c.points).filter(([, v]) => Number.isFinite(v));
  const width = Math.max(260, place.clientWidth);
  const whole = svg("svg", { role: "img", "aria-label": label, width, height: height + BELOW, viewBox: `0 0 ${width} ${height + BELOW}` });
  whole.append(svg("title", {}, label));
  const marks = ticks(Math.min(...points.map(([, v]) => v)), Math.max(...points.map(([, v]) => v)));
  const [low, high] = [marks[0], marks.at(-1)];
  const steps = points.map(([s]) => s), first = Math.min(1, ...steps), last = Math.max(...steps);
  const x = (step) => LEFT + (width - LEFT - 6) * (step - first) / Math.max(1, last - first);
  const y = (value) => ABOVE + (height - ABOVE) * (1 - (value - low) / (high - low));
  for (const mark of marks) {
    whole.append(svg("line", { class: "grid", x1: LEFT, x2: width, y1: y(mark), y2: y(mark) }),
      svg("text", { x: LEFT - 8, y: y(mark) + 4, "text-anchor": "end" }, short(mark)));
  }
  whole.append(svg("text", { x: LEFT, y: height + 22 }, `step ${first}`),
    svg("text", { x: width, y: height + 22, "text-anchor": "end" }, last));
  for (const curve of curves) {
    const known = curve.points.filter(([, v]) => Number.isFinite(v));
    whole.append(svg("polyline", { class: curve.css, points: known.map(([s, v]) => `${x(s).toFixed(1)},${y(v).toFixed(1)}`).join(" ") }));
    if (curve.dots || known.length === 1) {
      for (const [s, v] of known) whole.append(svg("circle", { class: curve.css, cx: x(s), cy: y(v), r: 4 }));
    }
  }
  place.replaceChildren(whole);
}

/** Return round numbers from at most `low` to at least `high`, about `most` of them. */
export function ticks(low, high, most = 5) {
  if (high - low < 1e-12 * Math.max(Math.abs(high), 1e-9)) {
    const room = Math.abs(low) / 10 || 1;
    [low, high] = [low - room, high + room];
  }
  const raw = (high - low) / (most - 1), unit = 10 ** Math.floor(Math.log10(raw));
  const size = [1, 2, 2.5, 5, 10].map((m) => m * unit).find((s) => s >= raw * (1 - 1e-9));
  const first = Math.floor(low / size + 1e-9), found = [];
  for (let i = 0; found.length < 2 || found.at(-1) < high - size * 1e-9; i += 1) found.push(Number(((first + i) * size).toPrecision(12)));
  return found;
}

const short = (value) => (value !== 0 && Math.abs(value) < 0.01 ? value.toExponential(1).replace(".0e", "e") : String(value));

/** Return exponentially weighted means, corrected for their start. */
export function smoothed(points, share = 0.9) {
  let mean = 0, weight = 0;
  return points.map(([step, value]) => {
    mean = share * mean + (1 - share) * value;
    weight = share * weight + 1 - share;
    return [step, mean / weight];
  });
}
