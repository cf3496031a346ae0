"use strict";
// The report's page: it draws the JSON of #data (made by rd/report.py) and nothing else. All text enters the page as
// text nodes, never as markup. What is shown is one `state`, kept in the address (#metric=lpips&sequence=a&hide=hevc),
// so that a view can be linked to.

document.body.dataset.errors = "";
const noteError = message => { document.body.dataset.errors += message + "\n"; };
addEventListener("error", event => noteError(event.message));
addEventListener("unhandledrejection", event => noteError(String(event.reason)));
document.addEventListener("securitypolicyviolation", event => noteError(`blocked: ${event.violatedDirective} ${event.blockedURI}`));

const MEAN = "mean";  // the choice "mean over sequences"; same word as in bd.csv
const REGIME_LABELS = {"one-intra": "one intra", "short-gop": "short GOP"};
const METHOD_LABELS = {pchip: "PCHIP", akima: "Akima", cubic: "cubic"};
const COLOURS = 10, LAYER_COLOURS = 8, MARKERS = ["circle", "square", "up", "diamond", "down", "plus", "cross"];

// -- page elements ---------------------------------------------------------------------------------------------------

const byId = id => document.getElementById(id);

function fill(node, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) {
    if (value === null || value === undefined || value === false) continue;
    if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
    else node.setAttribute(name, value === true ? "" : value);
  }
  node.append(...children.flat().filter(child => child !== null && child !== undefined));
  return node;
}
const el = (tag, attributes = {}, ...children) => fill(document.createElement(tag), attributes, children);
const svg = (tag, attributes = {}, ...children) =>
  fill(document.createElementNS("http://www.w3.org/2000/svg", tag), attributes, children);

/** A table from rows of cells; a cell is text, a node, or [text, attributes]. */
function table(caption, heads, rows, attributes = {}) {
  const cell = (tag, content) => Array.isArray(content) ? el(tag, content[1], content[0] ?? "") : el(tag, {}, content ?? "");
  return el("div", {class: "scroll"}, el("table", attributes, caption ? el("caption", {}, caption) : null,
    el("thead", {}, heads.map(row => el("tr", {}, row.map(c => cell("th", c))))),
    el("tbody", {}, rows.map(({cells, ...rest}) =>
      el("tr", rest, cells.map((c, i) => cell(i === 0 ? "th" : "td", c)))))));
}
const text = {class: "text"};

// -- numbers ---------------------------------------------------------------------------------------------------------

const known = value => value !== null && value !== undefined;
const number = (value, decimals) => known(value) ? value.toFixed(decimals).replace("-", "−") : "–";
const integer = value => known(value) ? value.toLocaleString("en-US").replace(/,/g, "\u202f") : "–";
const signed = (value, decimals) => known(value) ? (value > 0 ? "+" : "") + number(value, decimals) : "N/A";
const kbps = value => !known(value) ? "–" : value.toFixed(value < 10 ? 2 : 1);
const speed = value => !known(value) ? "–" : value < 10 ? value.toFixed(1) : integer(Math.round(value));
const regimeLabel = regime => REGIME_LABELS[regime] ?? regime;
const plural = (count, noun) => `${integer(count)} ${noun}${count === 1 ? "" : "s"}`;

// -- data ------------------------------------------------------------------------------------------------------------

/** Rows from columns; a column is a list of numbers, or {levels, codes} of repeated strings. */
function unpack(columns) {
  const names = Object.keys(columns), rows = [];
  for (const name of names) {
    const column = columns[name], values = column.levels ? column.codes.map(i => i < 0 ? null : column.levels[i]) : column;
    values.forEach((value, i) => { (rows[i] ??= {})[name] = value; });
  }
  return rows;
}

const data = JSON.parse(byId("data").textContent);
const points = unpack(data.points), bd = unpack(data.bd);
const metrics = new Map(data.metrics.map(m => [m.column, m]));
const unit = m => m.unit ? ` [${m.unit}]` : "";
const arrow = m => m.higher_is_better ? "↑" : "↓";
const groups = new Map();  // coded points of one curve, by rate
for (const p of points) {
  if (p.status !== "ok") continue;
  const key = JSON.stringify([p.sequence, p.codec, p.regime]);
  if (!groups.has(key)) groups.set(key, []);
  groups.get(key).push(p);
}
for (const group of groups.values()) group.sort((a, b) => a.kbps - b.kbps);
const pointsOf = (sequence, codec, regime) => groups.get(JSON.stringify([sequence, codec, regime])) ?? [];
const frameRates = data.frames.rates.map(String);

// -- state -----------------------------------------------------------------------------------------------------------

const bdMethods = [...new Set(bd.map(row => row.method))], anchors = [...new Set(bd.map(row => row.anchor))];
const choices = {
  metric: [...metrics.keys()],
  sequence: [...(data.sequences.length > 1 ? [MEAN] : []), ...data.sequences],
  regime: [...(data.regimes.length > 1 ? ["both"] : []), ...data.regimes],
  anchor: anchors, method: bdMethods, scale: ["log", "linear"],
  detail: data.sequences, rate: frameRates, bars: ["share", "bytes"],
};
const state = {hide: new Set()};

function readAddress() {
  const given = new URLSearchParams(location.hash.slice(1));
  for (const [key, values] of Object.entries(choices)) {
    state[key] = values.includes(given.get(key)) ? given.get(key) : defaultOf(key);
  }
  if (!given.has("detail") && state.sequence !== MEAN) state.detail = state.sequence;
  state.hide = new Set(given.getAll("hide").filter(codec => data.codecs.includes(codec)));
}
const defaultOf = key => (key in data.defaults && choices[key].includes(data.defaults[key])) ? data.defaults[key] : choices[key][0];

function change(key, value) {
  state[key] = value;
  if (key === "sequence" && value !== MEAN) state.detail = value;
  const address = new URLSearchParams();
  for (const name of Object.keys(choices)) if (state[name] !== defaultOf(name)) address.set(name, state[name]);
  for (const codec of state.hide) address.append("hide", codec);
  history.replaceState(null, "", "#" + address);
  const focused = document.activeElement?.name;  // drawing makes new controls: the keyboard's place must survive it
  draw();
  if (focused) document.querySelector(`select[name=${focused}]`)?.focus();
}

const shownCodecs = () => data.codecs.filter(codec => !state.hide.has(codec));
const shownRegimes = () => state.regime === "both" ? data.regimes : [state.regime];

function select(key, label, names = value => value) {
  if (choices[key].length < 2) return null;
  const options = choices[key].map(value => el("option", {value, selected: value === state[key]}, names(value)));
  return el("label", {}, label, el("select", {name: key, onchange: event => change(key, event.target.value)}, ...options));
}

// -- plots -----------------------------------------------------------------------------------------------------------

function markerPath(codec, x, y, r = 3.4) {
  switch (MARKERS[data.codecs.indexOf(codec) % MARKERS.length]) {
    case "circle": return `M${x - r},${y}a${r},${r} 0 1 0 ${2 * r},0a${r},${r} 0 1 0 ${-2 * r},0z`;
    case "square": return `M${x - r},${y - r}h${2 * r}v${2 * r}h${-2 * r}z`;
    case "up": return `M${x},${y - r * 1.25}L${x + r * 1.2},${y + r}H${x - r * 1.2}z`;
    case "down": return `M${x},${y + r * 1.25}L${x + r * 1.2},${y - r}H${x - r * 1.2}z`;
    case "diamond": return `M${x},${y - r * 1.35}l${r * 1.35},${r * 1.35}l${-r * 1.35},${r * 1.35}l${-r * 1.35},${-r * 1.35}z`;
    case "plus": return `M${x - r},${y}h${2 * r}M${x},${y - r}v${2 * r}`;
    default: return `M${x - r},${y - r}l${2 * r},${2 * r}M${x - r},${y + r}l${2 * r},${-2 * r}`;
  }
}
const colourOf = codec => `c${data.codecs.indexOf(codec) % COLOURS}`;
const dashOf = codec => [null, "6 3", "2 2.5"][Math.floor(data.codecs.indexOf(codec) / COLOURS) % 3];

/** Round positions inside [low, high], about `count` of them. */
function ticks(low, high, log, count) {
  if (log) {
    const steps = [[1], [1, 2, 5], [1, 1.5, 2, 3, 4, 5, 6, 8]];
    for (const step of steps) {
      const found = [];
      for (let e = Math.floor(Math.log10(low)); e <= Math.log10(high); e++) found.push(...step.map(s => s * 10 ** e));
      const inside = found.filter(t => t >= low * 0.999 && t <= high * 1.001);
      if (inside.length >= Math.min(4, count)) return inside;
    }
  }
  const rough = (high - low) / count, power = 10 ** Math.floor(Math.log10(rough));
  const step = power * [1, 2, 5, 10].find(s => s * power >= rough);
  const first = Math.ceil(low / step - 1e-9);
  return Array.from({length: Math.floor(high / step + 1e-9) - first + 1}, (_, i) => (first + i) * step);
}
/** [position, label] of ticks; the labels of a linear axis have equally many decimals. */
function labelled(positions, log) {
  const labels = positions.map(t => String(Number(t.toPrecision(4))));
  const decimals = Math.max(0, ...labels.map(label => (label.split(".")[1] ?? "").length));
  return positions.map((t, i) => [t, (log ? labels[i] : t.toFixed(decimals)).replace("-", "−")]);
}

/** The range of all values with a little air; logarithmic axes get theirs in the logarithm. */
function extent(values, log) {
  let low = Math.min(...values), high = Math.max(...values);
  if (log) return [low / 1.08, high * 1.08];
  const air = (high - low) * 0.05 || Math.abs(high) * 0.05 || 1;
  return [low - air, high + air];
}

/**
 * One plot. curves: [{codec, points: [{x, y, lines}], joined, marked}]: points that can be read, those that the line
 * joins (all, if not given), those with a marker (none, if not given); `lines` is the text of a point's tip.
 * With the keyboard: the plot takes focus, left and right step along a curve, up and down change the curve.
 */
function plot({title, curves, xLabel, yLabel, xLog = false, yLog = false, xRange, yRange, height = 0.5, thin = false}) {
  const width = 640, tall = Math.round(width * height), left = 56, right = 10, top = 8, bottom = 40;
  const figure = el("figure", {class: thin ? "plot thin" : "plot"}, el("figcaption", {}, title));
  if (!curves.some(curve => curve.points.length)) {
    figure.append(el("p", {class: "note"}, "Nothing to plot here."));
    return figure;
  }
  const scale = (value, [low, high], log) => log ? Math.log(value / low) / Math.log(high / low) : (value - low) / (high - low);
  const px = x => Math.round((left + scale(x, xRange, xLog) * (width - left - right)) * 10) / 10;
  const py = y => Math.round((tall - bottom - scale(y, yRange, yLog) * (tall - top - bottom)) * 10) / 10;
  const axes = svg("g", {"aria-hidden": "true"});
  for (const [t, label] of labelled(ticks(...xRange, xLog, 7), xLog)) {
    axes.append(svg("line", {class: "grid", x1: px(t), x2: px(t), y1: top, y2: tall - bottom}),
      svg("text", {x: px(t), y: tall - bottom + 16, "text-anchor": "middle"}, label));
  }
  for (const [t, label] of labelled(ticks(...yRange, yLog, 6), yLog)) {
    axes.append(svg("line", {class: "grid", x1: left, x2: width - right, y1: py(t), y2: py(t)}),
      svg("text", {x: left - 7, y: py(t) + 4, "text-anchor": "end"}, label));
  }
  axes.append(svg("text", {x: (left + width - right) / 2, y: tall - 4, "text-anchor": "middle"}, xLabel),
    svg("text", {transform: `translate(13 ${(top + tall - bottom) / 2}) rotate(-90)`, "text-anchor": "middle"}, yLabel));
  const lines = curves.map(({codec, points, joined, marked}) => svg("g", {class: colourOf(codec)},
    svg("path", {class: "curve", "data-codec": codec, "stroke-dasharray": dashOf(codec),
      d: (joined ?? points).map((p, i) => `${i ? "L" : "M"}${px(p.x)},${py(p.y)}`).join("")}),
    (marked ?? []).map(p => svg("path", {class: "marker", d: markerPath(codec, px(p.x), py(p.y))}))));
  const cursor = svg("circle", {class: "cursor", r: 6.5, visibility: "hidden"});
  const picture = svg("svg", {viewBox: `0 0 ${width} ${tall}`, tabindex: 0, role: "group",
    "aria-label": `${title}: ${yLabel} over ${xLabel}; arrow keys read the points`}, axes, lines, cursor);
  const tip = el("div", {class: "tip", role: "status"});
  figure.append(picture, tip);

  const at = {curve: 0, point: 0};
  function show() {
    const {codec, points} = curves[at.curve], p = points[at.point];
    cursor.setAttribute("cx", px(p.x));
    cursor.setAttribute("cy", py(p.y));
    cursor.setAttribute("visibility", "visible");
    tip.replaceChildren(el("strong", {class: colourOf(codec)}, codec), ...p.lines.map(line => el("div", {}, line)));
    const shown = picture.getBoundingClientRect(), outer = figure.getBoundingClientRect(), zoom = shown.width / width;
    const x = px(p.x) * zoom, y = shown.top - outer.top + py(p.y) * zoom;
    tip.style.left = `${Math.max(0, x < shown.width / 2 ? x + 14 : x - 14 - tip.offsetWidth)}px`;
    tip.style.top = `${Math.max(0, y - tip.offsetHeight - 8)}px`;
  }
  function clear() {
    cursor.setAttribute("visibility", "hidden");
    tip.replaceChildren();
  }
  picture.addEventListener("pointermove", event => {
    const box = picture.getBoundingClientRect(), zoom = width / box.width;
    const x = (event.clientX - box.left) * zoom, y = (event.clientY - box.top) * zoom;
    let nearest = 40;
    curves.forEach((curve, c) => curve.points.forEach((p, i) => {
      const distance = Math.hypot(px(p.x) - x, py(p.y) - y);
      if (distance < nearest) { nearest = distance; at.curve = c; at.point = i; }
    }));
    if (nearest < 40) show(); else clear();
  });
  picture.addEventListener("pointerleave", clear);
  picture.addEventListener("blur", clear);
  picture.addEventListener("keydown", event => {
    const step = {ArrowLeft: [0, -1], ArrowRight: [0, 1], ArrowUp: [-1, 0], ArrowDown: [1, 0]}[event.key];
    if (event.key === "Escape") clear();
    if (!step) return;
    event.preventDefault();
    const wasHidden = cursor.getAttribute("visibility") === "hidden";
    if (!wasHidden) {
      if (step[0]) do { at.curve = (at.curve + step[0] + curves.length) % curves.length; } while (!curves[at.curve].points.length);
      at.point = Math.max(0, Math.min(curves[at.curve].points.length - 1, at.point + step[1]));
    } else if (!curves[at.curve].points.length) at.curve = curves.findIndex(curve => curve.points.length);
    show();
  });
  return figure;
}

/** Several plots on one pair of axes. */
function alignedPlots(list, {xLog, yLog = false, ...rest}) {
  const all = list.flatMap(p => p.curves.flatMap(curve => curve.points));
  const ranges = all.length ? {xRange: extent(all.map(p => p.x), xLog), yRange: extent(all.map(p => p.y), yLog)} : {};
  return list.map(p => plot({...p, ...rest, ...ranges, xLog, yLog}));
}

// -- sections --------------------------------------------------------------------------------------------------------

function drawLead() {
  const {run} = data, coded = points.filter(p => p.status === "ok"), rates = coded.map(p => p.kbps).filter(known);
  const failed = points.length - coded.length;
  const parts = [plural(data.codecs.length, "codec"), " on ", plural(data.sequences.length, "sequence")];
  if (data.formats) parts.push(` (${data.formats})`);
  parts.push(`, ${data.regimes.map(regimeLabel).join(" and ") || "no regime"}: ${plural(coded.length, "rate point")}`);
  if (rates.length) parts.push(` from ${kbps(Math.min(...rates))} to ${kbps(Math.max(...rates))} kbps`);
  parts.push(". Every rate is the length of a bitstream that was decoded again before it was measured.");
  const made = [run.finished ?? run.started, run.commit && `commit ${run.commit.slice(0, 10)}`].filter(Boolean).join(", ");
  if (made) parts.push(` ${made}.`);
  byId("lead").append(...parts);
  if (failed) {
    byId("lead").append(" ", el("strong", {class: "warning"}, `${plural(failed, "point")} failed: see `, el("a", {href: "#failures"}, "Failures"), "."));
  }
  byId("nav").append(...[...document.querySelectorAll("section")].map(section => el("a", {href: `#${section.id}`}, section.dataset.nav)));
  document.addEventListener("click", event => {  // the address holds the state, so a jump must not change it
    const target = event.target.closest?.('a[href^="#"]');
    if (!target) return;
    event.preventDefault();
    byId(target.getAttribute("href").slice(1)).scrollIntoView();
  });
}

function drawControls() {
  const metricName = column => `${metrics.get(column).label} ${arrow(metrics.get(column))}`;
  byId("controls").replaceChildren(...[
    select("metric", "Metric", metricName),
    select("sequence", "Sequence", value => value === MEAN ? `mean over ${data.sequences.length} sequences` : value),
    select("regime", "Regime", value => value === "both" ? "both, side by side" : regimeLabel(value)),
    select("scale", "Rate axis", value => value === "log" ? "logarithmic" : value),
    select("anchor", "BD anchor"),
    select("method", "BD interpolation", value => METHOD_LABELS[value] ?? value),
  ].filter(Boolean));
  byId("detail-controls").replaceChildren(...[
    select("detail", "Sequence"),
    select("rate", "Frames of the points near", value => `${value} kbps`),
    select("bars", "Bars", value => value === "share" ? "share of the file" : "bytes, one scale"),
  ].filter(Boolean));
  byId("legend").replaceChildren(...data.codecs.map(codec => el("button", {
    type: "button", "aria-pressed": String(!state.hide.has(codec)),
    onclick: () => {
      if (!state.hide.delete(codec)) state.hide.add(codec);
      change("hide", state.hide);
      [...byId("legend").children][data.codecs.indexOf(codec)].focus();
    },
  }, svg("svg", {viewBox: "0 0 30 12", class: colourOf(codec), "aria-hidden": "true"},
    svg("path", {d: "M0,6H30", stroke: "currentColor", "stroke-width": 1.8, "stroke-dasharray": dashOf(codec)}),
    svg("path", {class: "marker", d: markerPath(codec, 15, 6)})), codec)));
  const shown = {
    metric: metrics.get(state.metric)?.label ?? "quality", method: METHOD_LABELS[state.method] ?? state.method ?? "",
    sequence: state.sequence === MEAN ? "mean over sequences" : state.sequence ?? "", anchor: state.anchor ?? "an anchor",
    detail: state.detail ?? "",
  };
  for (const node of document.querySelectorAll("[data-show]")) node.textContent = shown[node.dataset.show];
}

const bdRows = (regime, metric) => bd.filter(row => row.anchor === state.anchor && row.method === state.method &&
  row.regime === regime && row.metric === metric);

const rateCell = (row, attributes = {}) => {
  const tone = row && known(row.bd_rate) ? (row.bd_rate < 0 ? "better" : row.bd_rate > 0 ? "worse" : "") : "muted";
  return [row ? signed(row.bd_rate, 1) : "–", {...attributes, class: `${attributes.class ?? ""} ${tone}`.trim(), title: row?.note || null}];
};

function drawHeadline() {
  const shown = data.headline.filter(column => bd.some(row => row.metric === column));
  if (!shown.length) {
    byId("headline").replaceChildren(el("p", {class: "note"}, "No bd.csv beside the points, or it is empty: no BD-rates."));
    return;
  }
  const regimes = shownRegimes();
  const heads = [[["", {rowspan: 2, ...text}], ...regimes.map(regime => [regimeLabel(regime), {class: "group", colspan: shown.length}])],
    regimes.flatMap(() => shown.map((column, i) => [metrics.get(column)?.label ?? column, {class: i ? "" : "first"}]))];
  let fewest = null;
  const rows = data.codecs.filter(codec => codec !== state.anchor).map(codec => ({cells: [[codec, text],
    ...regimes.flatMap(regime => shown.map((column, i) => {
      const row = bdRows(regime, column).find(r => r.codec === codec && r.sequence === MEAN);
      const cell = rateCell(row, {class: i ? "" : "first"});
      if (row && row.n < row.n_total) {
        fewest = Math.min(fewest ?? Infinity, row.n);
        cell[0] = el("span", {}, cell[0], el("span", {class: "small"}, ` ${row.n}/${row.n_total}`));
      }
      return cell;
    }))]}));
  byId("headline").replaceChildren(table(null, heads, rows));
  byId("headline-note").textContent = "Mean over sequences of the BD-rate in percent: rate at equal quality, negative saves rate. " +
    (fewest === null ? "" : "3/4: only that many sequences had enough overlap. ") + "Intervals, overlaps and each sequence: BD tables below.";
}

function drawCurves() {
  const metric = metrics.get(state.metric);
  if (!metric) {
    byId("rd").replaceChildren(el("p", {class: "note"}, "No metric was computed."));
    return;
  }
  const isMean = state.sequence === MEAN, counts = new Set(), atSetting = new Set();
  const list = shownRegimes().map(regime => ({
    title: regimeLabel(regime),
    curves: shownCodecs().map(codec => {
      if (isMean) {
        const mean = data.means.find(m => m.codec === codec && m.regime === regime && m.metric === state.metric);
        const line = (mean?.kbps ?? []).map((x, i) => ({x, y: mean.value[i], lines: [
          `${kbps(x)} kbps, ${metric.label} ${number(mean.value[i], metric.decimals)}${metric.unit && " " + metric.unit}`,
          `mean of ${plural(mean.n, "sequence")}${mean.at_setting ? " at equal setting" : ""}`]}));
        if (mean) counts.add(mean.n);
        if (mean?.at_setting) atSetting.add(codec);
        return {codec, points: line, marked: mean?.at_setting ? line : line.filter((_, i) => i % 8 === 0)};
      }
      const line = pointsOf(state.sequence, codec, regime).filter(p => known(p[state.metric]) && p.kbps > 0).map(p => ({
        x: p.kbps, y: p[state.metric], lines: [
          `${kbps(p.kbps)} kbps, ${metric.label} ${number(p[state.metric], metric.decimals)}${metric.unit && " " + metric.unit}`, p.setting ?? ""]}));
      let best = -Infinity;  // the curve is the upper envelope, as for the BD-rates; a beaten point keeps its marker
      const joined = line.filter(p => {
        const quality = metric.higher_is_better ? p.y : -p.y;
        return quality > best && ((best = quality), true);
      });
      return {codec, points: line, joined, marked: line};
    }).filter(curve => curve.points.length),
  }));
  byId("rd").replaceChildren(...alignedPlots(list, {
    xLabel: "rate [kbps]", yLabel: `${metric.label}${unit(metric)} ${arrow(metric)}`, xLog: state.scale === "log"}));
  const absent = list.flatMap(({title, curves}) => shownCodecs().filter(codec => !curves.some(curve => curve.codec === codec))
    .map(codec => `${codec} (${title})`));
  const partial = [...counts].some(n => n < data.sequences.length);
  byId("rd-note").textContent = `${metric.label}: ${metric.note}; ${metric.higher_is_better ? "higher" : "lower"} is better. ` + (isMean
    ? "Each sequence's curve is interpolated over log rate, and averaged at equal rate where all of them have one; markers only tell the curves apart. " +
      (atSetting.size ? `Those of ${[...atSetting].join(", ")} share too few rates: geometric means of the rate and means of the metric at equal setting. ` : "") +
      (partial ? "A curve that lacks sequences says so at its points. " : "")
    : "Markers are coded points; the line leaves out those that another point of the codec beats. ") + (absent.length
    ? `No curve for ${absent.join(", ")}: ${isMean ? "its sequences share no range of rates" : "no such points"}.` : "");
}

function drawBd() {
  const metric = metrics.get(state.metric), parts = [];
  for (const regime of shownRegimes()) {
    const rows = bdRows(regime, state.metric), codecs = data.codecs.filter(codec => rows.some(row => row.codec === codec && codec !== state.anchor));
    if (!codecs.length) {
      parts.push(el("p", {class: "note"}, `${regimeLabel(regime)}: no BD values for this anchor, metric and interpolation.`));
      continue;
    }
    const at = new Map(rows.map(row => [JSON.stringify([row.codec, row.sequence]), row]));
    const find = (codec, sequence) => at.get(JSON.stringify([codec, sequence]));
    parts.push(table(`${regimeLabel(regime)}: summary`,
      [[["", text], "BD-rate, mean [%]", "95 % interval", "n/N", "overlap [%]", "BD-rate of mean curve [%]", `BD-${metric.label}${unit(metric)}`]],
      codecs.map(codec => {
        const mean = find(codec, MEAN), curve = find(codec, "mean-curve");
        return {cells: [[codec, text], rateCell(mean),
          known(mean?.ci_low) ? `${signed(mean.ci_low, 1)} to ${signed(mean.ci_high, 1)}` : "–",
          mean ? `${mean.n}/${mean.n_total}` : "–", number(mean?.overlap, 0), rateCell(curve),
          known(mean?.bd_quality) ? signed(mean.bd_quality, metric.decimals) : "N/A"]};
      }), {class: "bd-summary"}));
    const notes = rows.filter(row => row.note && codecs.includes(row.codec)).map(row => `${row.codec}, ${row.sequence}: ${row.note}`);
    if (notes.length) {
      parts.push(el("details", {class: "note"}, el("summary", {}, plural(notes.length, "note")), el("ul", {}, ...notes.map(note => el("li", {}, note)))));
    }
    parts.push(el("details", {open: data.sequences.length <= 12}, el("summary", {}, `${regimeLabel(regime)}: each sequence`),
      table(null, [[["", text], ...codecs]], data.sequences.map(sequence => ({cells: [[sequence, text], ...codecs.map(codec => {
        const row = find(codec, sequence), cell = rateCell(row);
        return row ? [el("span", {}, cell[0], known(row.overlap) ? el("span", {class: "small"}, ` ${number(row.overlap, 0)} %`) : ""), cell[1]] : cell;
      })]})), {class: "bd-sequences"}),
      el("p", {class: "note"}, "BD-rate in percent and, in small print, the overlap of the two quality ranges; N/A under 25 % overlap.")));
  }
  byId("bd-tables").replaceChildren(...parts);
}

function drawDumps() {
  const mine = data.dumps.filter(dump => dump.sequence === state.detail && shownRegimes().includes(dump.regime));
  byId("dumps").replaceChildren(...mine.map(dump => {
    const figure = el("figure", {class: "dump"}, el("figcaption", {},
      el("strong", {}, `${regimeLabel(dump.regime)}, about ${dump.target_kbps} kbps`), `, frames ${dump.frames.join(", ")}: `,
      dump.codecs.map(c => `${c.codec} ${kbps(c.kbps)} kbps` + (known(c.psnr_y) ? `, ${number(c.psnr_y, 2)} dB` : "") +
        (c.setting ? ` (${c.setting})` : "")).join("; "), ". ",
      dump.strip_link ? el("a", {href: dump.strip_link}, dump.reduced ? "Lossless picture" : "Picture alone") : "",
      dump.reduced ? el("span", {class: "muted"}, " (shown here reduced) ") : " ",
      dump.video && dump.video_link ? el("a", {href: dump.video_link}, "Video alone") : ""));
    if (dump.picture) {
      figure.append(el("button", {type: "button", onclick: () => figure.classList.toggle("full")}, "Fit width / pixel size"),
        el("div", {class: "scroll"}, el("img", {src: dump.picture, alt: `Source, codecs and error maps of ${dump.sequence}`})));
    }
    for (const view of dump.views) {
      figure.append(el("p", {}, "Seen from elsewhere, by the decoder's own choice. ", el("a", {href: view.link}, "Lossless picture")),
        el("div", {class: "scroll"}, el("img", {src: view.picture, alt: `${dump.sequence} turned`})));
    }
    if (dump.video) figure.append(el("video", {src: dump.video, controls: true, preload: "metadata", muted: true, loop: true}));
    if (dump.missing) figure.append(el("p", {class: "warning"}, dump.missing));
    return figure;
  }));
  if (!mine.length) {
    const others = [...new Set(data.dumps.map(dump => dump.sequence))];
    byId("dumps").append(el("p", {class: "note"}, others.length
      ? `No pictures of this sequence and regime in this page; there are of ${others.join(", ")}.` : "No pictures in this page."));
  }
}

function drawFrames() {
  const metric = metrics.get(state.metric), target = Number(state.rate);
  const near = (regime, codec) => data.frames.series
    .filter(s => s.sequence === state.detail && s.regime === regime && s.codec === codec)
    .sort((a, b) => Math.abs(Math.log(a.kbps / target)) - Math.abs(Math.log(b.kbps / target)))[0];
  const figures = [];
  const chosen = shownRegimes().map(regime => [regime, shownCodecs().map(codec => near(regime, codec)).filter(Boolean)]);
  const curves = (series, values, name) => series.map(s => ({codec: s.codec, points: (values(s) ?? [])
    .map((y, x) => ({x, y, lines: [`frame ${x}: ${name(y)}`, `${kbps(s.kbps)} kbps, ${s.setting ?? ""}`]})).filter(p => known(p.y))}));
  if (chosen.some(([, series]) => series.length)) {
    figures.push(...alignedPlots(chosen.map(([regime, series]) => ({
      title: `${regimeLabel(regime)}: bytes of each frame`,
      curves: curves(series, s => s.bytes.map(b => known(b) ? Math.max(b, 1) : b), y => plural(y, "byte"))})),
    {xLabel: "frame", yLabel: "bytes", xLog: false, yLog: true, height: 0.42, thin: true}));
    if (metric && chosen.some(([, series]) => series.some(s => s.metrics[state.metric]))) {
      figures.push(...alignedPlots(chosen.map(([regime, series]) => ({
        title: `${regimeLabel(regime)}: ${metric.label} of each frame`,
        curves: curves(series, s => s.metrics[state.metric], y => `${metric.label} ${number(y, metric.decimals)}`)})),
      {xLabel: "frame", yLabel: metric.label + unit(metric), xLog: false, height: 0.42, thin: true}));
    } else figures.push(el("p", {class: "note"}, `No ${metric?.label ?? "metric"} per frame in this page.`));
    byId("frames").replaceChildren(el("div", {class: "plots"}, ...figures));
  } else byId("frames").replaceChildren(el("p", {class: "note"}, data.frames.series.length
    ? "This page leaves out the frames of this sequence; frames.parquet has them." : "No frames.parquet beside the points."));
  if (data.frames.left_out.length) {
    byId("frames").append(el("p", {class: "note"}, `To stay small, this page leaves out the frames of ${data.frames.left_out.join(", ")}.`));
  }
}

const layerLabel = layer => layer.replace(/_/g, " ");
const layerColour = i => `l${i % LAYER_COLOURS}`;
const layerKey = (layer, i) => el("span", {class: "key"}, el("i", {class: layerColour(i)}), el("b", {}, layerLabel(layer)));

function drawLedger() {
  const metric = metrics.get(state.metric), parts = [];
  for (const regime of shownRegimes()) {
    const mine = shownCodecs().flatMap(codec => pointsOf(state.detail, codec, regime));
    const layers = data.layers.filter(layer => mine.some(p => known(p[layer])));
    if (!mine.length) continue;
    const most = Math.max(...mine.map(p => p.bytes));
    parts.push(table(regimeLabel(regime), [[["", text], ["setting", text], "kbps", metric ? `${metric.label}${unit(metric)}` : "", "bytes",
      ["", text], ...layers.map(layer => [layerKey(layer.slice(6), data.layers.indexOf(layer)), {}])]],
    mine.map((p, i) => {
      const isNew = i === 0 || mine[i - 1].codec !== p.codec;
      const bar = el("div", {class: "bar", "aria-hidden": "true"});
      for (const layer of layers) {
        if (!p[layer]) continue;
        const part = el("span", {class: layerColour(data.layers.indexOf(layer)), title: `${layerLabel(layer.slice(6))}: ${integer(p[layer])} bytes`});
        part.style.flex = `${p[layer]} 0 0`;
        bar.append(part);
      }
      if (state.bars === "bytes") bar.style.maxWidth = `${16 * p.bytes / most}rem`, bar.style.minWidth = "1px";
      return {class: isNew ? "ledger-row new-codec" : "ledger-row", cells: [[isNew ? el("span", {class: colourOf(p.codec)}, p.codec) : "", text], [p.setting, text],
        kbps(p.kbps), number(p[state.metric], metric?.decimals ?? 2), integer(p.bytes), [bar, text],
        ...layers.map(layer => known(p[layer]) ? integer(p[layer]) : "")]};
    })));
  }
  const wrong = data.ledger_gaps;
  parts.push(wrong.length
    ? el("p", {class: "warning"}, `The layers do not add up to the file at ${plural(wrong.length, "point")}: ` + wrong.slice(0, 5).map(g =>
      `${g.sequence} ${g.codec} ${regimeLabel(g.regime)} point ${g.point}: ${integer(g.layers)} of ${integer(g.bytes)} bytes`).join("; "))
    : el("p", {class: "note"}, data.layers.length ? "The layers add up to the file at every point of the sweep." : "The points carry no layers."));
  byId("ledger").replaceChildren(...parts);
}

function drawSpeed() {
  const range = s => s ? [speed(s.median), {}] : "–", span = s => [s ? `${speed(s.low)} to ${speed(s.high)}` : "", {class: "small"}];
  byId("speed").append(table(null, [[["", text], ["regime", text], "encode [frames/s]", "", "decode [frames/s]", "", "points", "encode, all [s]", "decode, all [s]"]],
    data.speed.map((row, i) => {
      const isNew = i === 0 || data.speed[i - 1].codec !== row.codec;
      return {class: isNew ? "new-codec" : null, cells: [[isNew ? row.codec : "", text], [regimeLabel(row.regime), text], range(row.encode), span(row.encode),
        range(row.decode), span(row.decode), integer(row.points), number(row.encode_total_s, 1), number(row.decode_total_s, 1)]};
    })), el("p", {class: "note"}, "Median over the points, then lowest to highest, as measured in the sweep: parallel jobs share the machine, and start-up of an external encoder counts."));
}

function drawFailures() {
  const failed = points.filter(p => p.status !== "ok");
  byId("failures").append(failed.length
    ? table(null, [[["sequence", text], ["codec", text], ["regime", text], "point", ["setting", text], ["error", text]]], failed.map(p => ({cells: [
      [p.sequence, text], [p.codec, text], [regimeLabel(p.regime), text], integer(p.point), [p.setting, text], [p.error, {class: "text wrap"}]]})))
    : el("p", {}, `None: all ${plural(points.length, "point")} were coded, decoded and measured.`));
}

function drawProvenance() {
  const {run} = data, home = byId("provenance");
  const list = pairs => el("dl", {}, ...pairs.filter(([, value]) => known(value) && value !== "").flatMap(([name, value]) =>
    [el("dt", {}, name), el("dd", {}, value instanceof Node ? value : typeof value === "object" ? JSON.stringify(value) : String(value))]));
  const command = Array.isArray(run.command) ? run.command.join(" ") : run.command;
  home.append(list([["command", command && el("pre", {}, command)], ["commit", run.commit], ["started", run.started], ["finished", run.finished],
    ...Object.entries(run.machine ?? {})]));
  if (run.versions) home.append(el("h3", {}, "Versions"), list(Object.entries(run.versions)));
  home.append(el("h3", {}, "Codecs"), ...Object.entries(run.codecs ?? {}).map(([name, codec]) => el("details", {}, el("summary", {},
    el("strong", {}, name), codec.description ? `: ${codec.description}` : "", ` (${plural(Object.keys(codec.commands ?? {}).length, "command")})`),
  ...Object.entries(codec.commands ?? {}).map(([setting, line]) => el("pre", {}, `${setting}:  ${line}`)))));
  const absent = Object.entries(run.codecs_not_installed ?? {});
  if (absent.length) home.append(el("p", {}, "Codecs not installed:"), list(absent));
  const info = run.metrics ?? {};
  home.append(el("h3", {}, "Metrics"), list(data.metrics.map(m => [m.label, `${m.note}; ${m.higher_is_better ? "higher" : "lower"} is better`])));
  const missing = Object.entries(info.not_computed ?? {});
  if (missing.length) home.append(el("p", {}, "Not computed:"), list(missing));
  if (run.sequences?.length) {
    home.append(el("h3", {}, "Sequences"), table(null, [[["name", text], "frames", "size", "fps", ["source", text], ["sha256 of the samples", text]]],
      run.sequences.map(s => ({cells: [[s.name, text], integer(s.n_frames), `${s.width}×${s.height}`, String(s.fps ?? ""), [s.source, {class: "text wrap"}],
        [el("code", {}, s.sha256 ?? ""), text]]}))));
  }
}

function draw() {
  for (const step of [drawControls, drawHeadline, drawCurves, drawBd, drawDumps, drawFrames, drawLedger]) step();
}

readAddress();
drawLead();
drawSpeed();
drawFailures();
drawProvenance();
draw();
addEventListener("hashchange", () => { readAddress(); draw(); });
