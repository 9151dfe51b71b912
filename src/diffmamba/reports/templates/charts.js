// Draws the charts of a page with BokehJS, each when it comes into sight, one at a time.
//
// A chart is plain data in a <script type="application/json" class="chart"> inside a <figure>: see interactive.py. What
// the figure shows without this script is a picture or nothing; it is taken away once the chart is drawn.
"use strict";

(() => {
  const dark = matchMedia("(prefers-color-scheme: dark)");
  const MARKERS = {o: "circle", s: "square", "^": "triangle", v: "inverted_triangle", D: "diamond", P: "plus"};
  const SHAPES = { // of the same markers, in a swatch
    o: "M9.5 6a3.5 3.5 0 1 0 7 0a3.5 3.5 0 1 0 -7 0z", s: "M10 3h6v6h-6z", "^": "M13 2.5l4 7h-8z",
    v: "M13 9.5l4 -7h-8z", D: "M13 1l4 5l-4 5l-4 -5z", P: "M13 2v8M9 6h8",
  };
  const DASHES = {solid: [], dashed: [7, 4], dotted: [2, 3]};
  const LONGEST = 2000; // rows of a table of values, which a browser shows at once
  const waiting = [];
  let busy = false;

  const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
  const parts = (hex) => [1, 3, 5].map((at) => parseInt(hex.slice(at, at + 2), 16));
  const light = (hex) => {
    const [r, g, b] = parts(hex).map((one) => {
      const share = one / 255;
      return share <= 0.04045 ? share / 12.92 : ((share + 0.055) / 1.055) ** 2.4;
    });
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const contrast = (one, other) => {
    const [low, high] = [light(one), light(other)].sort((a, b) => a - b);
    return (high + 0.05) / (low + 0.05);
  };

  // The colour, moved towards the ink until it stands out from the ground as WCAG asks of graphics.
  function visible(hex) {
    const ground = colour("--ground"), ink = parts(colour("--ink"));
    let found = hex;
    for (let share = 0.1; contrast(found, ground) < 3 && share <= 1; share += 0.1) {
      const mixed = parts(hex).map((one, at) => Math.round(one + share * (ink[at] - one)));
      found = "#" + mixed.map((one) => one.toString(16).padStart(2, "0")).join("");
    }
    return found;
  }

  // The numbers of a series, by name.
  function points(chart, series) {
    const found = {};
    for (const name of ["x", "y", "low", "high", "error"]) {
      if (name in series) found[name] = chart.points[series[name]].map((one) => (one === null ? NaN : one));
    }
    return found;
  }

  function range(limits, flipped) {
    return limits && new Bokeh.Range1d({start: limits[flipped ? 1 : 0], end: limits[flipped ? 0 : 1]});
  }

  function empty(panel) {
    const box = document.createElement("p");
    box.className = "note";
    box.textContent = `${panel.title ? panel.title + ": " : ""}no run yet`;
    return box;
  }

  // The text in lines that are no wider than this, broken after a blank or within a setting, never within a number.
  const ruler = document.createElement("canvas").getContext("2d");
  function wrapped(text, font, width) {
    ruler.font = font;
    const lines = [];
    for (const line of text.split("\n")) {
      let found = "";
      for (const piece of line.split(/(?<=[ =_])/)) {
        if (found && ruler.measureText((found + piece).trimEnd()).width > width) {
          lines.push(found.trimEnd());
          found = "";
        }
        found += piece;
      }
      lines.push(found.trimEnd());
    }
    return lines.join("\n");
  }

  // Bokeh breaks no line: labels are broken anew whenever the plot gets another width.
  function keepLabel(view, plot, panel, cell) {
    const fit = () => {
      const width = Math.max(view.frame.bbox.width, 120);
      plot.xaxes[0].axis_label = wrapped(panel.x_label, "12px helvetica", width);
    };
    if (!panel.x_label) return;
    new ResizeObserver(() => requestAnimationFrame(fit)).observe(cell);
    fit();
  }

  function figureOf(panel, height) {
    const names = panel.y_names || [], below = panel.x_names || [];
    const options = {
      height, sizing_mode: "stretch_width",
      x_axis_type: panel.x_scale || "linear", y_axis_type: panel.y_scale || "linear",
      tools: "pan,box_zoom,wheel_zoom,reset,save", toolbar_location: "above", output_backend: "canvas", min_width: 120,
    };
    const y_range = names.length ? range([-0.5, names.length - 0.5], true) : range(panel.y_range);
    const x_range = below.length ? range([-0.5, below.length - 0.5]) : range(panel.x_range);
    if (x_range) options.x_range = x_range;
    if (y_range) options.y_range = y_range;
    const plot = Bokeh.Plotting.figure(options);
    plot.toolbar.autohide = true;
    plot.toolbar.logo = null;
    plot.toolbar.active_drag = null;
    plot.toolbar.active_scroll = null;
    const soft = colour("--soft"), rule = colour("--rule");
    Object.assign(plot, {background_fill_color: null, border_fill_color: null, outline_line_color: null});
    for (const axis of [...plot.xaxes, ...plot.yaxes]) {
      Object.assign(axis, {
        axis_line_color: soft, major_tick_line_color: soft, minor_tick_line_color: null,
        major_label_text_color: soft, axis_label_text_color: soft, axis_label_text_font_style: "normal",
        axis_label_text_font_size: "12px", major_label_text_font_size: "12px",
      });
    }
    for (const grid of plot.center) if (grid instanceof Bokeh.Grid) grid.grid_line_color = rule;
    plot.xaxes[0].axis_label = panel.x_label || null;
    plot.yaxes[0].axis_label = panel.y_label || null;
    const plain = new Bokeh.NumeralTickFormatter({format: "0.[0]a"});
    if (panel.x_engineering) plot.xaxes[0].formatter = plain;
    if (panel.x_ticks) {
      const ticker = new Bokeh.FixedTicker({ticks: panel.x_ticks});
      plot.xaxes[0].ticker = ticker;
      for (const grid of plot.center) if (grid instanceof Bokeh.Grid && grid.dimension === 0) grid.ticker = ticker;
      plot.xaxes[0].major_label_overrides = new Map(panel.x_ticks.map((at) => [at, String(at)]));
    }
    if (below.length) {
      plot.xaxes[0].ticker = new Bokeh.FixedTicker({ticks: below.map((_, at) => at)});
      plot.xaxes[0].major_label_overrides = new Map(below.map((name, at) => [at, name]));
      for (const grid of plot.center) if (grid instanceof Bokeh.Grid && grid.dimension === 0) grid.visible = false;
      if (innerWidth < 640) {
        plot.xaxes[0].major_label_overrides = new Map(below.map((name, at) => [at, name.replaceAll("\n", " ")]));
        plot.xaxes[0].major_label_orientation = "vertical";
      }
    }
    if (names.length) {
      plot.yaxes[0].ticker = new Bokeh.FixedTicker({ticks: names.map((_, at) => at)});
      plot.yaxes[0].major_label_overrides = new Map(names.map((name, at) => [at, name]));
      if (innerWidth < 640) plot.yaxes[0].major_label_text_font_size = "10px";
    }
    if (panel.x_at !== undefined && panel.x_at !== null) {
      plot.add_layout(new Bokeh.Span({location: panel.x_at, dimension: "height", line_color: soft, line_width: 1}));
    }
    return plot;
  }

  // The name at this place of an axis that has names.
  function nameAt(panel, x) {
    return panel.x_names[Math.round(x)].replaceAll("\n", " ");
  }

  // Draws a series; returns what a legend switches on and off.
  function draw(plot, chart, panel, series, hover) {
    const found = points(chart, series);
    if (!found.x || !found.x.length) return [];
    const hue = visible(series.colour), drawn = [];
    const label = series.label || (panel.y_names ? (series.hollow ? "published" : "here") : "");
    const data = {x: found.x, y: found.y, label: found.x.map(() => label)};
    if (found.low) Object.assign(data, {low: found.low, high: found.high});
    if (found.error) {
      data.low = found.x.map((x, at) => x - found.error[at]);
      data.high = found.x.map((x, at) => x + found.error[at]);
    }
    if (panel.x_names) data.name = found.x.map((x) => nameAt(panel, x));
    const source = new Bokeh.ColumnDataSource({data});
    const [x, y] = [{field: "x"}, {field: "y"}];
    if (series.bar) {
      const look = {line_color: hue, fill_color: series.hollow ? null : hue};
      drawn.push(plot.vbar({x, top: y, bottom: 0, width: series.bar, source, ...look}));
      hover.push([drawn[0], data]);
      if (!found.low) return drawn;
      const ends = {x0: x, x1: x, y0: {field: "low"}, y1: {field: "high"}};
      for (const [name, width] of [["--ground", 4], ["--ink", 1.5]]) {
        drawn.push(plot.segment({...ends, source, line_color: colour(name), line_width: width}));
      }
      return drawn;
    }
    if (found.low) {
      drawn.push(plot.varea({x, y1: {field: "low"}, y2: {field: "high"}, source, fill_color: hue, fill_alpha: 0.15}));
    }
    if (found.error) {
      const ends = {x0: {field: "low"}, x1: {field: "high"}, y0: y, y1: y};
      drawn.push(plot.segment({...ends, source, line_color: hue, line_width: 1.5}));
    }
    const line = "line" in series ? series.line : "solid";
    if (line) {
      const look = {line_color: hue, line_width: (series.width || 1.4) + 0.3, line_dash: DASHES[line]};
      drawn.push(plot.line({x, y, source, ...look}));
    }
    if (series.marker) {
      const face = series.hollow ? colour("--ground") : hue;
      const look = {marker: MARKERS[series.marker] || "circle", size: line ? 5 : 9, line_color: hue, fill_color: face};
      drawn.push(plot.scatter({x, y, source, ...look}));
    }
    if (label || !panel.y_names) hover.push([drawn[drawn.length - 1], data]);
    return drawn;
  }

  function addHover(plot, panel, hover) {
    const [xs, ys] = [panel.x_label || "x", panel.y_label || "y"].map((one) => one.split("\n")[0]);
    for (const [renderer, data] of hover) {
      const told = [["", "@label"], data.name ? ["at", "@name"] : [xs, "@x{0.[000000]}"]];
      if (!panel.y_names) told.push([ys, "@y{0.[0000]a}"]);
      if (!panel.y_names && Math.max(...data.y.map(Math.abs)) < 1e4) told[2][1] = "@y{0.[000000]}";
      if (data.low) told.push([panel.y_names ? "interval" : "from, to", "@low{0.[0000]}, @high{0.[0000]}"]);
      plot.add_tools(new Bokeh.HoverTool({renderers: [renderer], tooltips: told, visible: false}));
    }
  }

  function swatch(series) {
    const hue = visible(series.colour), line = "line" in series ? series.line : "solid";
    const dash = (DASHES[line] || []).join(" ");
    const stroke = line ? `<line x1="0" y1="6" x2="26" y2="6" stroke="${hue}" stroke-width="${series.width || 2}" stroke-dasharray="${dash}"/>` : "";
    const face = series.hollow ? "var(--ground)" : hue;
    if (series.bar) return `<svg width="12" height="12" aria-hidden="true"><rect x="1" y="1" width="10" height="10" stroke="${hue}" fill="${face}"/></svg>`;
    const shape = SHAPES[series.marker] || SHAPES.o;
    const dot = series.marker ? `<path d="${shape}" stroke="${hue}" fill="${face}"/>` : "";
    return `<svg width="26" height="12" aria-hidden="true">${stroke}${dot}</svg>`;
  }

  // One button for each label, which hides and shows its series; a label that only explains a look is no button.
  function legend(labelled) {
    const box = document.createElement("div");
    box.className = "legend";
    for (const [label, {series, drawn}] of labelled) {
      const button = document.createElement(drawn.length ? "button" : "span");
      button.innerHTML = swatch(series);
      button.append(label);
      box.append(button);
      if (!drawn.length) continue;
      button.type = "button";
      button.setAttribute("aria-pressed", "true");
      button.addEventListener("click", () => {
        const shown = button.getAttribute("aria-pressed") !== "true";
        button.setAttribute("aria-pressed", String(shown));
        for (const one of drawn) one.visible = shown;
      });
    }
    return box;
  }

  function rowsOf(chart) {
    const rows = [];
    for (const panel of chart.rows.flat()) {
      for (const series of panel.series) {
        const found = points(chart, series);
        if (!found.x || (panel.y_names && !series.marker)) continue;
        found.x.forEach((x, at) => {
          const name = (panel.y_names || [])[Math.round(found.y[at])];
          const label = series.label || (panel.y_names ? (series.hollow ? "published" : "here") : "");
          const value = (name) => (found[name] ? found[name][at] : "");
          const y = name === undefined ? found.y[at] : name;
          const place = panel.x_names ? nameAt(panel, x) : x;
          rows.push([(panel.title || "").replaceAll("\n", " "), label, place, y, value("low"), value("high"), value("error")]);
        });
      }
    }
    return rows;
  }

  // The points of a chart as a table and as a file, made when somebody asks for them.
  function values(chart) {
    const box = document.createElement("details");
    box.className = "values";
    const summary = document.createElement("summary");
    summary.textContent = "Values";
    box.append(summary);
    box.addEventListener("toggle", () => {
      if (!box.open || box.children.length > 1) return;
      const head = ["panel", "series", "x", "y", "low", "high", "error"], rows = rowsOf(chart);
      const quoted = (one) => (/[",\n]/.test(one) ? `"${String(one).replaceAll('"', '""')}"` : one);
      const csv = [head, ...rows].map((row) => row.map(quoted).join(",")).join("\n") + "\n";
      const link = document.createElement("a");
      link.download = `${chart.name}.csv`;
      link.href = URL.createObjectURL(new Blob([csv], {type: "text/csv"}));
      link.textContent = `${chart.name}.csv`;
      const kept = head.map((_, at) => rows.some((row) => row[at] !== ""));
      const line = (row, tag) => {
        const made = document.createElement("tr");
        row.forEach((one, at) => kept[at] && made.append(Object.assign(document.createElement(tag), {textContent: one})));
        return made;
      };
      const table = document.createElement("table");
      table.append(document.createElement("thead"), document.createElement("tbody"));
      table.tHead.append(line(head, "th"));
      table.tBodies[0].append(...rows.slice(0, LONGEST).map((row) => line(row, "td")));
      const scroll = Object.assign(document.createElement("div"), {className: "wide low", tabIndex: 0});
      scroll.setAttribute("role", "region");
      scroll.setAttribute("aria-label", `Values of ${chart.title || chart.name}`);
      scroll.append(table);
      box.append(link, scroll);
      if (rows.length > LONGEST) box.append(` The first ${LONGEST} of ${rows.length} rows; all are in the file.`);
    });
    return box;
  }

  function show(figure, chart) {
    const old = figure.querySelector(".interactive");
    const box = Object.assign(document.createElement("div"), {className: "interactive"});
    const labelled = new Map(), made = [];
    const height = Math.max(200, Math.min(700, (96 * chart.size[1]) / Math.max(1, chart.rows.length) - 30));
    for (const row of chart.rows) {
      const line = Object.assign(document.createElement("div"), {className: "panels"});
      line.style.setProperty("--columns", Math.max(...chart.rows.map((one) => one.length)));
      for (const panel of row) {
        const cell = document.createElement("div");
        line.append(cell);
        if (!panel.series.length) {
          cell.append(empty(panel));
          continue;
        }
        if (panel.title) cell.append(Object.assign(document.createElement("strong"), {textContent: panel.title}));
        const readable = 18 * (panel.y_names || []).length + 90;
        const plot = figureOf(panel, Math.max(height, readable)), hover = [];
        for (const series of panel.series) {
          const drawn = draw(plot, chart, panel, series, hover);
          if (!series.label) continue;
          if (!labelled.has(series.label)) labelled.set(series.label, {series, drawn: []});
          labelled.get(series.label).drawn.push(...drawn);
        }
        addHover(plot, panel, hover);
        made.push([plot, cell, panel]);
      }
      box.append(line);
    }
    if (labelled.size > 1) box.append(legend(labelled));
    box.setAttribute("role", "group");
    box.setAttribute("aria-label", chart.alt);
    if (old) old.replaceWith(box);
    else figure.insertBefore(box, figure.querySelector("figcaption"));
    const shown = ([plot, cell, panel]) =>
      Bokeh.Plotting.show(plot, cell).then((view) => keepLabel(view, plot, panel, cell));
    return Promise.all(made.map(shown)).then(() => {
      const picture = figure.querySelector(".picture");
      if (picture) picture.hidden = true;
      figure.querySelector(".room")?.remove();
      if (!figure.querySelector(".values")) figure.append(values(chart));
    });
  }

  // Charts wait for each other, and between two of them the browser may do something else.
  function next() {
    if (busy || !waiting.length) return;
    busy = true;
    setTimeout(() => {
      const [figure, chart] = waiting.shift();
      show(figure, chart)
        .catch((error) => console.error(error))
        .then(() => {
          busy = false;
          next();
        });
    }, 0);
  }

  function begin() {
    if (!window.Bokeh) return; // the page was taken out of its folder: its pictures stay
    Bokeh.set_log_level("warn");
    const drawn = new Map();
    const watcher = new IntersectionObserver(
      (seen) => {
        for (const {target, isIntersecting} of seen) {
          if (!isIntersecting) continue;
          watcher.unobserve(target);
          const chart = JSON.parse(target.querySelector("script.chart").textContent);
          drawn.set(target, chart);
          waiting.push([target, chart]);
        }
        next();
      },
      {rootMargin: "300px"},
    );
    for (const data of document.querySelectorAll("figure > script.chart")) watcher.observe(data.parentElement);
    dark.addEventListener("change", () => {
      for (const [figure, chart] of drawn) waiting.push([figure, chart]);
      next();
    });
  }

  document.addEventListener("DOMContentLoaded", begin);
})();
