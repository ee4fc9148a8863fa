// Draws the charts of a report with Chart.js (inlined before this script), follows the theme and the printer, sorts
// tables. Each chart is described by a JSON element beside its canvas (core/report/chart.h says what it means).
(() => {
  "use strict";
  const root = document.documentElement;
  const css = (name) => getComputedStyle(root).getPropertyValue(name).trim();
  const dashes = [[], [7, 4], [2, 3], [9, 3, 2, 3], [12, 4], [4, 2], [1, 2], [9, 3, 2, 3, 2, 3]];
  const markers = ["circle", "rect", "triangle", "rectRot", "star", "crossRot", "rectRounded", "cross"];

  // ---- colours ----
  const rgb = (hex) => [1, 3, 5].map((i) => parseInt(hex.slice(i, i + 2), 16));
  const alpha = (hex, a) => `rgba(${rgb(hex).join(",")},${a})`;
  const blend = (stops, t) => {
    const u = Math.min(Math.max(t, 0), 1) * (stops.length - 1);
    const i = Math.min(Math.floor(u), stops.length - 2);
    const [a, b] = [rgb(stops[i]), rgb(stops[i + 1])];
    return `#${a.map((v, k) => Math.round(v + (b[k] - v) * (u - i)).toString(16).padStart(2, "0")).join("")}`;
  };
  let theme = {};
  const readTheme = () => {
    theme = { ink: css("--ink"), muted: css("--muted"), grid: css("--grid"), surface: css("--surface"), line: css("--line"),
      warn: css("--warn"), quiet: css("--quiet"), slots: [0, 1, 2, 3, 4, 5, 6, 7].map((i) => css(`--s${i}`)),
      ramp: ["--ramp0", "--ramp1", "--ramp2"].map(css), heat: ["--heat0", "--heat1", "--heat2"].map(css) };
    Chart.defaults.font.family = getComputedStyle(document.body).fontFamily;
    Chart.defaults.font.size = 12.5;
    Chart.defaults.color = theme.muted;
    Chart.defaults.borderColor = theme.grid;
  };
  const colourOf = (s) => s.quiet ? theme.quiet : s.ramp >= 0 ? blend(theme.ramp, s.ramp) : theme.slots[s.slot % 8];

  // ---- numbers, as core/report/numbers.cpp shows them ----
  const trimmed = (v, digits) => String(Number(v.toPrecision(digits)));
  const number = (v) => v === 0 ? "0" : Math.abs(v) >= 1e7 || Math.abs(v) < 1e-4 ? v.toExponential(2)
    : Number.isInteger(v) ? v.toLocaleString("en") : trimmed(v, 4);
  const bytes = (v) => {
    const units = ["B", "kB", "MB", "GB", "TB", "PB"];
    let u = 0;
    while (Math.abs(v) >= 999.5 && u < 5) { v /= 1000; u += 1; }
    return `${trimmed(v, 3)} ${units[u]}`;
  };
  const show = (v, style) => v === null || v === undefined || !Number.isFinite(v) ? "–"
    : (style === "share" ? `${trimmed(v * 100, 4)} %` : style === "bytes" ? bytes(v) : number(v)).replace("-", "−");

  // ---- ticks: round numbers inside of the axis, also where its ends are not round ----
  const roundTicks = (min, max, most, whole) => {
    const rough = (max - min) / most;
    const power = 10 ** Math.floor(Math.log10(rough));
    let step = [1, 2, 5, 10].map((k) => k * power).find((s) => s >= rough * (1 - 1e-9));
    if (whole) step = Math.max(1, Math.round(step));
    const ticks = [];
    for (let k = Math.ceil(min / step - 1e-9); k * step <= max + step * 1e-9; k += 1) ticks.push({ value: Number((k * step).toPrecision(12)) });
    return ticks;
  };
  const logTicks = (min, max) => {
    if (max / min < 8) return roundTicks(min, max, 7, false);
    const ticks = [];
    const decades = Math.log10(max / min);
    for (let e = Math.floor(Math.log10(min)); e <= Math.ceil(Math.log10(max)); e += 1) {
      for (const k of decades < 3.2 ? [1, 2, 5] : [1]) {
        const value = k * 10 ** e;
        if (value >= min * (1 - 1e-9) && value <= max * (1 + 1e-9)) ticks.push({ value });
      }
    }
    return ticks;
  };

  // ---- what Chart.js lacks ----
  class HeatCell extends Chart.Element {
    draw(ctx) {
      ctx.fillStyle = this.options.backgroundColor;
      ctx.fillRect(this.x - this.width / 2, this.y - this.height / 2, this.width, this.height);
    }
    inXRange(x) { return Math.abs(x - this.x) <= this.width / 2; }
    inYRange(y) { return Math.abs(y - this.y) <= this.height / 2; }
    inRange(x, y) { return this.inXRange(x) && this.inYRange(y); }
    getCenterPoint() { return { x: this.x, y: this.y }; }
    tooltipPosition() { return this.getCenterPoint(); }
  }
  HeatCell.id = "heatCell";
  HeatCell.defaults = { backgroundColor: "#888" };
  class HeatController extends Chart.DatasetController {
    update(mode) { this.updateElements(this._cachedMeta.data, 0, this._cachedMeta.data.length, mode); }
    updateElements(cells, start, count, mode) {
      const { xScale, yScale } = this._cachedMeta;
      // A hair wider than the cell: no seams where pixels do not divide evenly.
      const width = Math.abs(xScale.getPixelForValue(1) - xScale.getPixelForValue(0)) + 0.6;
      const height = Math.abs(yScale.getPixelForValue(1) - yScale.getPixelForValue(0)) + 0.6;
      for (let i = start; i < start + count; i += 1) {
        const { x, y, colour } = this.getDataset().data[i];
        this.updateElement(cells[i], i, { x: xScale.getPixelForValue(x), y: yScale.getPixelForValue(y), width, height,
          options: { backgroundColor: colour } }, mode);
      }
    }
    draw() { for (const cell of this._cachedMeta.data) cell.draw(this.chart.ctx); }
  }
  HeatController.id = "heat";
  HeatController.defaults = { dataElementType: "heatCell", animation: false };
  HeatController.overrides = { scales: { x: { type: "linear" }, y: { type: "linear" } } };
  Chart.register(HeatCell, HeatController);

  // Budget lines, names of chosen points, whiskers of bars.
  const annotations = {
    id: "annotations",
    afterDatasetsDraw(chart, _, options) {
      const { ctx, chartArea: area } = chart;
      ctx.save();
      ctx.font = `600 12px ${Chart.defaults.font.family}`;
      for (const line of options.references || []) {
        const at = chart.scales[line.axis].getPixelForValue(line.at);
        const upright = line.axis === "x";
        if (upright ? at < area.left - 1 || at > area.right + 1 : at < area.top - 1 || at > area.bottom + 1) continue;
        ctx.strokeStyle = theme.warn;
        ctx.lineWidth = 1.5;
        ctx.setLineDash([6, 4]);
        ctx.beginPath();
        if (upright) { ctx.moveTo(at, area.top); ctx.lineTo(at, area.bottom); } else { ctx.moveTo(area.left, at); ctx.lineTo(area.right, at); }
        ctx.stroke();
        ctx.setLineDash([]);
        ctx.fillStyle = theme.warn;
        ctx.textAlign = "left";
        if (upright) ctx.fillText(line.label, at + 5, area.top + 12); else ctx.fillText(line.label, area.left + 6, at - 6);
      }
      chart.data.datasets.forEach((set, d) => {
        if (!chart.isDatasetVisible(d)) return;
        const elements = chart.getDatasetMeta(d).data;
        if (set.low && set.bars) {
          const y = chart.scales.y;
          ctx.strokeStyle = theme.ink;
          ctx.lineWidth = 1.2;
          elements.forEach((bar, i) => {
            if (set.low[i] === null || set.high[i] === null) return;
            const [a, b] = [y.getPixelForValue(set.low[i]), y.getPixelForValue(set.high[i])];
            const cap = Math.min(4, bar.width / 3);
            ctx.beginPath();
            ctx.moveTo(bar.x, a); ctx.lineTo(bar.x, b);
            ctx.moveTo(bar.x - cap, a); ctx.lineTo(bar.x + cap, a); ctx.moveTo(bar.x - cap, b); ctx.lineTo(bar.x + cap, b);
            ctx.stroke();
          });
        }
        for (const [i, text] of Object.entries(set.labels || {})) {
          const point = elements[Number(i)];
          if (!point || point.skip || point.x < area.left - 1 || point.x > area.right + 1 || point.y < area.top - 1 || point.y > area.bottom + 1) continue;
          const width = ctx.measureText(text).width;
          const right = point.x + 14 + width > area.right;
          const x = right ? point.x - 12 - width : point.x + 12;
          const y = point.y - 12 < area.top + 14 ? point.y + 20 : point.y - 10;
          ctx.fillStyle = alpha(theme.surface, 0.85);
          ctx.fillRect(x - 3, y - 12, width + 6, 16);
          ctx.fillStyle = theme.ink;
          ctx.textAlign = "left";
          ctx.fillText(text, x, y);
        }
      });
      ctx.restore();
    },
  };
  Chart.register(annotations);

  // ---- from description to Chart.js ----
  const scale = (axis, extra) => ({
    type: axis.log ? "logarithmic" : "linear",
    min: axis.min, max: axis.max,
    title: { display: Boolean(axis.title), text: axis.title, color: theme.ink, font: { size: 12.5 } },
    grid: { color: theme.grid, borderColor: theme.line, tickLength: 5 },
    afterBuildTicks(built) {
      const room = built.isHorizontal() ? Math.max(3, Math.floor(built.chart.width / 70)) : 8;
      built.ticks = axis.log ? logTicks(built.min, built.max) : roundTicks(built.min, built.max, Math.min(room, 12), axis.whole);
    },
    ticks: { color: theme.muted, maxRotation: 0, autoSkipPadding: 14, callback: (value) => show(value, axis.style) },
    ...extra,
  });
  // Whole numbers (a layer's index) need no ticks between them.
  const wholeNumbers = (series) => series.every((s) => s.points.every((p) => Number.isInteger(p[0])));
  // A logarithmic axis of Chart.js ends at powers of ten; this one ends a little beyond what is shown.
  const fitLog = (axis, values) => {
    const positive = values.filter((v) => v > 0);
    if (!axis.log || !positive.length) return;
    const [low, high] = [Math.min(...positive), Math.max(...positive)];
    const beyond = Math.max(high / low, 1.02) ** 0.05;
    axis.min = axis.min ?? low / beyond;
    axis.max = axis.max ?? high * beyond;
  };

  const base = (spec, extra) => ({
    responsive: true, maintainAspectRatio: false, animation: false, normalized: true,
    layout: { padding: { top: 6, right: 10 } },
    plugins: {
      annotations: { references: spec.references },
      legend: { display: false },
      tooltip: { backgroundColor: theme.ink, titleColor: theme.surface, bodyColor: theme.surface, padding: 10, cornerRadius: 6,
        usePointStyle: true, boxPadding: 4, filter: (item) => !item.dataset.band, ...extra.tooltip },
    },
    interaction: extra.interaction,
    scales: extra.scales,
  });
  // ---- legend: buttons, so that a keyboard can hide and show a series ----
  const shapes = { circle: '<circle cx="16" cy="7" r="3.6"/>', rect: '<rect x="12.6" y="3.6" width="6.8" height="6.8"/>',
    triangle: '<path d="M16 2.6 20.2 10H11.8Z"/>', rectRot: '<path d="M16 2.4 20.6 7 16 11.6 11.4 7Z"/>',
    star: '<path d="M16 3v8M12.5 5l7 4M19.5 5l-7 4"/>', crossRot: '<path d="m13 4 6 6m0-6-6 6"/>',
    rectRounded: '<rect x="12.6" y="3.6" width="6.8" height="6.8" rx="2"/>', cross: '<path d="M16 3v8M12 7h8"/>' };
  const drawLegend = (entry) => {
    const { figure, chart } = entry;
    figure.querySelector(".legend")?.remove();
    const named = chart.data.datasets.filter((set) => !set.band);
    if (entry.spec.kind === "heat" || named.length < 2) return;
    const legend = document.createElement("div");
    legend.className = "legend";
    legend.setAttribute("role", "group");
    legend.setAttribute("aria-label", "Series: press to hide or show");
    for (const set of named) {
      const button = document.createElement("button");
      button.type = "button";
      button.setAttribute("aria-pressed", String(!entry.hidden.has(set.label)));
      button.innerHTML = set.bars || entry.spec.kind === "histogram"
        ? `<svg viewBox="0 0 14 14" width="14" height="14" aria-hidden="true"><rect x="1" y="1" width="12" height="12" rx="2" fill="${set.backgroundColor}" stroke="${set.borderColor}"/></svg>`
        : `<svg viewBox="0 0 32 14" width="32" height="14" aria-hidden="true" fill="${set.borderColor}" stroke="${set.borderColor}" stroke-width="1.6">${
          set.showLine ? `<path d="M1 7h30" stroke-width="2.2" stroke-dasharray="${(set.borderDash || []).join(" ")}"/>` : ""}${shapes[set.pointStyle] || ""}</svg>`;
      button.append(document.createTextNode(set.label));
      button.addEventListener("click", () => {
        const show = entry.hidden.delete(set.label);
        if (!show) entry.hidden.add(set.label);
        button.setAttribute("aria-pressed", String(show));
        hideSeries(entry);
        chart.update();
      });
      legend.append(button);
    }
    entry.canvas.parentElement.before(legend);
  };
  // A series and its band are shown and hidden together.
  const hideSeries = (entry) => entry.chart.data.datasets.forEach((set, i) => entry.chart.setDatasetVisibility(i, !entry.hidden.has(set.bandOf ?? set.label)));

  const builders = {
    line(spec) {
      const datasets = [];
      const bands = [];
      // Where a dashed line means something (by chance), dashes do not also tell series apart; the markers do.
      const dashed = spec.series.some((s) => s.dashed);
      spec.series.forEach((s, i) => {
        const colour = colourOf(s);
        const many = s.points.length > 60;
        const labelled = (context) => s.labels && s.labels[context.dataIndex] !== undefined;
        datasets.push({ label: s.name, data: s.points.map(([x, y]) => ({ x, y })), labels: s.labels, order: i,
          interval: s.points.map((p) => p.length > 2 ? [p[2], p[3]] : null),
          showLine: s.joined, borderColor: colour, backgroundColor: colour, borderWidth: s.quiet ? 1.5 : 2.2,
          borderDash: s.dashed ? [6, 4] : dashed || s.ramp >= 0 || s.quiet ? [] : dashes[s.slot % 8], tension: 0, spanGaps: false,
          pointStyle: s.joined && s.ramp >= 0 ? "circle" : markers[s.slot % 8],
          pointRadius: (c) => labelled(c) ? 7 : many ? 0 : s.joined ? 3 : 4.5, pointHoverRadius: 6,
          pointBorderWidth: (c) => labelled(c) ? 2 : 1.2,
          pointBorderColor: (c) => labelled(c) ? theme.ink : colour });
        if (!s.points.some((p) => p.length > 2)) return;
        const edge = (k) => s.points.map((p) => ({ x: p[0], y: p.length > 2 ? p[k] : null }));
        const plain = { band: true, bandOf: s.name, pointRadius: 0, pointHitRadius: 0, pointHoverRadius: 0, borderWidth: 0, order: 1000 };
        bands.push({ ...plain, label: "", data: edge(2), showLine: true, fill: false });
        bands.push({ ...plain, label: "", data: edge(3), showLine: true, fill: "-1", backgroundColor: alpha(colour, 0.16) });
      });
      // The bands fill towards the dataset before them, hence pairs, and after the series.
      const every = spec.series.flatMap((s) => s.points);
      if (every.length && wholeNumbers(spec.series) && !spec.x.log) {
        const xs = every.map((p) => p[0]);
        spec.x.whole = true;
        spec.x.min = Math.min(...xs) - 0.4;
        spec.x.max = Math.max(...xs) + 0.4;
      }
      fitLog(spec.x, every.map((p) => p[0]));
      fitLog(spec.y, every.flatMap((p) => p.slice(1)).concat((spec.references || []).filter((l) => l.axis === "y").map((l) => l.at)));
      const options = base(spec, {
        interaction: { mode: "nearest", intersect: false, axis: "xy" },
        tooltip: { callbacks: {
          title: (items) => items.length ? `${spec.x.title}: ${show(items[0].parsed.x, spec.x.style)}` : "",
          label: (item) => {
            const at = item.dataset.interval[item.dataIndex];
            return ` ${item.dataset.label}: ${show(item.parsed.y, spec.y.style)}${at ? ` (${show(at[0], spec.y.style)} to ${show(at[1], spec.y.style)})` : ""}`;
          } } },
        scales: { x: scale(spec.x), y: scale(spec.y) } });
      return { type: "line", data: { datasets: datasets.concat(bands) }, options };
    },
    bar(spec) {
      const datasets = spec.series.map((s) => ({ label: s.name, data: s.values, low: s.low, high: s.high, bars: true,
        backgroundColor: s.quiet ? alpha(theme.quiet, 0.35) : colourOf(s), borderColor: s.quiet ? theme.quiet : colourOf(s),
        borderWidth: s.quiet ? 1 : 0, maxBarThickness: spec.stacked ? 64 : 40, pointStyle: "rect",
        categoryPercentage: spec.categories.length > 40 ? 1 : 0.84, barPercentage: spec.stacked ? (spec.categories.length > 40 ? 0.9 : 1) : 0.92 }));
      const options = base(spec, {
        interaction: { mode: "index", intersect: false },
        tooltip: { callbacks: {
          title: (items) => items.length ? `${spec.x.title} ${items[0].label}` : "",
          label: (item) => ` ${item.dataset.label || spec.y.title}: ${show(item.raw, spec.y.style)}` } },
        scales: {
          x: { ...scale(spec.x), afterBuildTicks: undefined, type: "category", stacked: spec.stacked, grid: { display: false, borderColor: theme.line },
            ticks: { color: theme.muted, maxRotation: 0, autoSkipPadding: 10 } },
          y: { ...scale(spec.y), stacked: spec.stacked, beginAtZero: !spec.y.log } } });
      return { type: "bar", data: { labels: spec.categories, datasets }, options };
    },
    histogram(spec) {
      const bins = spec.edges.length - 1;
      const datasets = spec.series.map((s) => ({ label: s.name, data: s.values.map((y, i) => ({ x: i + 0.5, y })),
        backgroundColor: alpha(colourOf(s), 0.85), borderColor: theme.surface, borderWidth: bins > 60 ? 0 : 1, pointStyle: "rect",
        categoryPercentage: 1, barPercentage: 1, grouped: false }));
      const edgeTick = (value) => Number.isInteger(value) && value >= 0 && value <= bins ? show(spec.edges[value], spec.x.style) : "";
      const options = base(spec, {
        interaction: { mode: "nearest", intersect: false, axis: "x" },
        tooltip: { callbacks: {
          title: (items) => { const i = Math.floor(items[0].parsed.x); return `${show(spec.edges[i], spec.x.style)} to ${show(spec.edges[i + 1], spec.x.style)}`; },
          label: (item) => ` ${item.dataset.label || spec.y.title}: ${show(item.parsed.y, spec.y.style)}` } },
        scales: {
          x: { ...scale(spec.x), afterBuildTicks: (axis) => { axis.ticks = spec.edges.map((_, i) => ({ value: i })); }, type: "linear", min: 0, max: bins, offset: false, grid: { display: false, borderColor: theme.line },
            ticks: { color: theme.muted, maxRotation: 0, autoSkipPadding: 14, callback: edgeTick } },
          y: { ...scale(spec.y), beginAtZero: !spec.y.log } } });
      return { type: "bar", data: { datasets }, options };
    },
    heat(spec) {
      const columns = spec.columns ? spec.columns.length : spec.edges.length - 1;
      const rows = spec.rows.length;
      const known = spec.cells.flat().filter((v) => v !== null);
      const logarithmic = spec.value.log;
      const positive = known.filter((v) => v > 0);
      const high = spec.value.max ?? (known.length ? Math.max(...known) : 1);
      const low = spec.value.min ?? (logarithmic ? Math.max(Math.min(...positive, high), high / 1e4) : 0);
      const place = (v) => high <= low ? 0 : logarithmic ? (v <= low ? 0 : Math.log(v / low) / Math.log(high / low)) : (v - low) / (high - low);
      const data = [];
      spec.cells.forEach((row, r) => row.forEach((v, c) => {
        data.push({ x: c + 0.5, y: r + 0.5, v, colour: v === null ? theme.surface : blend(theme.heat, place(v)) });
      }));
      const columnName = (c) => spec.columns ? spec.columns[c] : `${show(spec.edges[c], spec.x.style)} to ${show(spec.edges[c + 1], spec.x.style)}`;
      const options = base(spec, {
        interaction: { mode: "point" },
        tooltip: { callbacks: {
          title: (items) => items.length ? `${spec.y.title} ${spec.rows[Math.floor(items[0].raw.y)]}` : "",
          label: (item) => ` ${columnName(Math.floor(item.raw.x))}: ${show(item.raw.v, spec.value.style)}`,
          labelColor: (item) => ({ backgroundColor: item.raw.colour, borderColor: theme.line }) } },
        scales: {
          x: { ...scale(spec.x), type: "linear", min: 0, max: columns, grid: { display: false, borderColor: theme.line },
            afterBuildTicks: (axis) => { axis.ticks = spec.columns ? spec.columns.map((_, i) => ({ value: i + 0.5 })) : spec.edges.map((_, i) => ({ value: i })); },
            ticks: { color: theme.muted, maxRotation: 0, autoSkipPadding: 14,
              callback: (v) => spec.columns ? spec.columns[Math.floor(v)] : Number.isInteger(v) ? show(spec.edges[v], spec.x.style) : "" } },
          y: { ...scale(spec.y), type: "linear", min: 0, max: rows, reverse: true, grid: { display: false, borderColor: theme.line },
            afterBuildTicks: (axis) => { axis.ticks = spec.rows.map((_, i) => ({ value: i + 0.5 })); },
            ticks: { color: theme.muted, autoSkip: true, autoSkipPadding: 4, callback: (v) => spec.rows[Math.floor(v)] } } } });
      return { type: "heat", data: { datasets: [{ label: spec.value.title, data }] }, options, range: [low, high] };
    },
  };

  // ---- drawing, once visible ----
  const figures = [...document.querySelectorAll("figure.chart")].map((figure) => ({
    figure, canvas: figure.querySelector("canvas"), spec: JSON.parse(figure.querySelector("script").textContent), chart: null, hidden: new Set() }));
  let printing = false;
  const draw = (entry) => {
    if (entry.chart) entry.chart.destroy();
    const config = builders[entry.spec.kind](entry.spec);
    const box = entry.canvas.parentElement;
    if (entry.spec.kind === "heat") {
      const rows = entry.spec.rows.length;
      box.style.height = `${Math.min(Math.max(rows * 16, 60) + 90, printing ? 620 : 700)}px`;
      const range = entry.figure.querySelector(".scale");
      range.querySelector(".low").textContent = show(Number(config.range[0].toPrecision(2)), entry.spec.value.style);
      range.querySelector(".high").textContent = show(Number(config.range[1].toPrecision(2)), entry.spec.value.style);
    }
    if (printing) {
      // The page on paper is 180 mm wide; a fixed size and twice the pixels, since a printed canvas is an image.
      config.options.responsive = false;
      config.options.devicePixelRatio = 2;
      entry.canvas.width = 648;
      entry.canvas.height = box.style.height ? parseInt(box.style.height, 10) : 300;
      entry.canvas.style.width = "648px";
      entry.canvas.style.height = `${entry.canvas.height}px`;
    } else {
      entry.canvas.removeAttribute("style");
    }
    entry.chart = new Chart(entry.canvas, config);
    drawLegend(entry);
    if (entry.hidden.size) { hideSeries(entry); entry.chart.update(); }
  };
  const drawVisible = () => {
    readTheme();
    for (const entry of figures) {
      if (entry.figure.hidden) { if (entry.chart) { entry.chart.destroy(); entry.chart = null; } } else draw(entry);
    }
  };

  for (const choice of document.querySelectorAll(".choice")) {
    const select = choice.querySelector("select");
    const options = [...choice.querySelectorAll("figure.chart")];
    choice.querySelector("label").hidden = options.length < 2;
    const pick = () => options.forEach((figure, i) => { figure.hidden = i !== select.selectedIndex; });
    select.selectedIndex = 0;
    pick();
    select.addEventListener("change", () => {
      pick();
      for (const entry of figures) if (!entry.figure.hidden && options.includes(entry.figure)) draw(entry);
    });
  }

  // ---- theme ----
  const toggle = document.getElementById("theme");
  const system = matchMedia("(prefers-color-scheme: dark)");
  let chosen = null;
  try { chosen = localStorage.getItem("torpor-theme"); } catch { /* a page from a file may have no storage */ }
  const isDark = () => chosen === "dark" || (chosen !== "light" && system.matches);
  const applyTheme = () => {
    root.dataset.theme = isDark() ? "dark" : "light";
    toggle.textContent = isDark() ? "Light mode" : "Dark mode";
    drawVisible();
  };
  toggle.hidden = false;
  toggle.addEventListener("click", () => {
    chosen = isDark() ? "light" : "dark";
    try { localStorage.setItem("torpor-theme", chosen); } catch { /* then for this visit only */ }
    applyTheme();
  });
  system.addEventListener("change", applyTheme);

  // ---- print: light colours, the size of the paper ----
  const setPrinting = (on) => {
    if (printing === on) return;
    printing = on;
    root.dataset.theme = on ? "light" : isDark() ? "dark" : "light";
    drawVisible();
  };
  addEventListener("beforeprint", () => setPrinting(true));
  addEventListener("afterprint", () => setPrinting(false));
  matchMedia("print").addEventListener("change", (event) => setPrinting(event.matches));

  // ---- tables ----
  for (const button of document.querySelectorAll("th button")) {
    button.addEventListener("click", () => {
      const heading = button.closest("th");
      const table = heading.closest("table");
      const column = heading.cellIndex;
      const up = heading.getAttribute("aria-sort") !== "ascending";
      for (const other of table.querySelectorAll("thead th")) other.removeAttribute("aria-sort");
      heading.setAttribute("aria-sort", up ? "ascending" : "descending");
      const key = (row) => { const cell = row.cells[column]; return cell.dataset.v !== undefined ? Number(cell.dataset.v) : cell.textContent; };
      const rows = [...table.tBodies[0].rows].sort((a, b) => {
        const [x, y] = [key(a), key(b)];
        const order = typeof x === "number" && typeof y === "number" ? x - y : typeof x === "number" ? -1 : typeof y === "number" ? 1 : x.localeCompare(y, "en");
        return up ? order : -order;
      });
      table.tBodies[0].append(...rows);
    });
  }

  // ---- where in the page ----
  const links = new Map([...document.querySelectorAll("nav.contents a")].map((a) => [a.getAttribute("href").slice(1), a]));
  const watcher = new IntersectionObserver((entries) => {
    for (const entry of entries) {
      if (!entry.isIntersecting) continue;
      for (const a of links.values()) a.removeAttribute("aria-current");
      links.get(entry.target.id)?.setAttribute("aria-current", "true");
    }
  }, { rootMargin: "-10% 0px -80% 0px" });
  for (const section of document.querySelectorAll("main > section")) watcher.observe(section);

  applyTheme();
})();
