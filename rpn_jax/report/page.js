"use strict";
(() => {
  const read = (id) => JSON.parse(document.getElementById(id).textContent);
  const byId = (id) => document.getElementById(id);
  const SVG = "http://www.w3.org/2000/svg";

  // ---- Charts ----
  const isDark = window.matchMedia("(prefers-color-scheme: dark)");
  const COLORS = {
    light: ["#0072b2", "#b35900", "#007a5a", "#9c3f83", "#5b5b5b", "#7a6200"],
    dark: ["#6cc1f5", "#f0a830", "#2fc79b", "#e39cc4", "#c4c4c4", "#f0e442"],
  };
  const DASHES = ["solid", "dash", "dot", "dashdot", "longdash", "longdashdot"];

  function drawChart({ name, data, layout }) {
    const style = getComputedStyle(document.documentElement);
    const value = (variable) => style.getPropertyValue(variable).trim();
    const colors = COLORS[isDark.matches ? "dark" : "light"];
    const traces = data.map((trace) => {
      const { color, faint } = trace.meta;
      const line = {
        color: colors[color % colors.length],
        dash: faint ? "solid" : DASHES[color % DASHES.length],
        width: faint ? 1 : 2.25,
      };
      return { ...trace, line, marker: { color: line.color }, opacity: faint ? 0.3 : 1 };
    });
    const axis = { exponentformat: "power", gridcolor: value("--grid"), zerolinecolor: value("--line"), automargin: true };
    const themed = {
      ...layout,
      xaxis: { ...axis, ...layout.xaxis },
      yaxis: { ...axis, ...layout.yaxis },
      paper_bgcolor: "rgba(0,0,0,0)",
      plot_bgcolor: "rgba(0,0,0,0)",
      font: { color: value("--text"), family: "system-ui, sans-serif", size: 13 },
      hoverlabel: { bgcolor: value("--raised"), font: { color: value("--text") } },
      modebar: { bgcolor: "rgba(0,0,0,0)", color: value("--soft"), activecolor: value("--link") },
      legend: { orientation: "h", x: 0, yref: "container", y: 0, yanchor: "bottom" },
      margin: { l: 60, r: 12, t: 32, b: 48 },
      hovermode: "x unified",
    };
    // The buttons are always shown, because the keyboard reaches them.
    const buttons = ["zoomIn2d", "zoomOut2d", "resetScale2d", "toImage"];
    const options = { responsive: true, displaylogo: false, displayModeBar: true, modeBarButtons: [buttons] };
    Plotly.react(byId(`chart-${name}`), traces, themed, options);
  }

  const figures = read("figure-data");
  const drawCharts = () => figures.forEach(drawChart);
  drawCharts();
  isDark.addEventListener("change", drawCharts);

  // ---- Gallery ----
  const gallery = read("gallery-data");
  if (!gallery) return;
  const controls = { limit: byId("limit"), score: byId("score"), size: byId("size"), boxes: byId("boxes") };

  function element(name, properties = {}, ...children) {
    const made = Object.assign(document.createElement(name), properties);
    made.append(...children);
    return made;
  }

  function shape(name, parent, attributes) {
    const made = document.createElementNS(SVG, name);
    for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
    parent.append(made);
    return made;
  }

  const rectangle = ([x0, y0, x1, y1]) => ({ x: x0, y: y0, width: Math.max(x1 - x0, 0), height: Math.max(y1 - y0, 0) });
  const outline = ([x0, y0, x1, y1]) => `M${x0} ${y0}H${x1}V${y1}H${x0}Z`;

  function makeView(image, view, run) {
    const svg = document.createElementNS(SVG, "svg");
    svg.setAttribute("viewBox", `0 0 ${image.width} ${image.height}`);
    svg.setAttribute("preserveAspectRatio", "none");
    svg.setAttribute("aria-hidden", "true");
    const proposals = shape("path", svg, { class: "proposals" });
    image.ignored.forEach((box) => shape("rect", svg, { ...rectangle(box), class: "other" }));
    const objects = image.objects.map((box) => {
      const edge = shape("rect", svg, { ...rectangle(box), class: "case" });
      return { edge, box: shape("rect", svg, rectangle(box)) };
    });
    const picture = element("img", {
      src: image.picture,
      alt: `${image.name}, ${image.objects.length} objects`,
      width: image.width,
      height: image.height,
    });
    const caption = element("figcaption");
    const figure = element("figure", {}, element("div", { className: "frame" }, picture, svg), caption);
    return { figure, caption, proposals, objects, view, run };
  }

  const items = gallery.images.map((image) => {
    const views = image.views.map((view, i) => makeView(image, view, gallery.runs[i].name));
    const row = element("div", { className: "views" }, ...views.map((view) => view.figure));
    return { image, views, node: element("li", {}, element("h3", { textContent: image.name }), row) };
  });

  function settings() {
    const position = Number(controls.limit.value);
    return { position, limit: gallery.limits[position], level: Number(controls.score.value), size: Number(controls.size.value) };
  }

  const isFound = (view, size, i, { limit, level }) => view.rank[size][i] < limit && view.level[size][i] >= level;
  const inSize = (image, size) => image.objects.map((_, i) => i).filter((i) => image.inSize[size][i]);
  const numFound = ({ image }, view, now) => inSize(image, now.size).filter((i) => isFound(view, now.size, i, now)).length;

  function updateView(item, shown, now) {
    const { image } = item;
    const { view } = shown;
    shown.objects.forEach(({ edge, box }, i) => {
      const counts = Boolean(image.inSize[now.size][i]);
      const state = isFound(view, now.size, i, now) ? "object found" : "object missed";
      box.setAttribute("class", counts ? state : "other");
      edge.setAttribute("class", counts ? "case" : "");
    });
    // Scores fall with the rank, so the kept proposals are the first ones.
    const kept = controls.boxes.checked
      ? view.boxes.filter((_, i) => i < now.limit && view.levels[i] >= now.level)
      : [];
    shown.proposals.setAttribute("d", kept.map(outline).join(""));
    const total = inSize(image, now.size).length;
    const label = image.views.length > 1 ? `${shown.run}: ` : "";
    shown.caption.textContent = `${label}${numFound(item, view, now)} of ${total} found`;
  }

  function updateCounts(now) {
    const size = gallery.sizes[now.size];
    const kind = now.size ? `${size} objects` : "objects";
    const lines = gallery.runs.map((run) => {
      const [found, total] = [run.found[now.size][now.position][now.level], run.total[now.size]];
      const label = gallery.runs.length > 1 ? `${run.name}: ` : "";
      const share = total ? ` (recall ${(found / total).toFixed(3)})` : "";
      const line = element("div", { className: "count" });
      line.textContent = `${label}${found.toLocaleString("en")} of ${total.toLocaleString("en")} ${kind} found${share}`;
      line.dataset.found = found;
      line.dataset.total = total;
      return line;
    });
    const number = gallery.numImages.toLocaleString("en");
    const where = `over all evaluated images (${number}), at an IoU of at least ${gallery.iou}`;
    byId("counts").replaceChildren(
      ...lines,
      element("div", { className: "hint", textContent: where }),
    );
  }

  function update() {
    const now = settings();
    const text = { limit: now.limit.toLocaleString("en"), score: (now.level / gallery.levels).toFixed(2) };
    byId("limit-value").textContent = text.limit;
    byId("score-value").textContent = text.score;
    controls.limit.setAttribute("aria-valuetext", `${text.limit} proposals`);
    controls.score.setAttribute("aria-valuetext", text.score);
    updateCounts(now);
    for (const item of items) {
      item.node.hidden = inSize(item.image, now.size).length === 0;
      if (!item.node.hidden) item.views.forEach((shown) => updateView(item, shown, now));
    }
  }

  // Lower numbers come first: low recall, or of several runs a large difference.
  function badness(item, now) {
    const found = item.image.views.map((view) => numFound(item, view, now));
    if (found.length > 1) return [Math.min(...found) - Math.max(...found), 0];
    const total = inSize(item.image, now.size).length;
    return [total ? found[0] / total : 2, found[0] - total];
  }

  // Images change places only after a slider is released, because moving images distract.
  function sort() {
    const now = settings();
    const keys = new Map(items.map((item) => [item, badness(item, now)]));
    const order = [...items].sort((a, b) => {
      const [first, second] = [keys.get(a), keys.get(b)];
      return first[0] - second[0] || first[1] - second[1];
    });
    byId("gallery").append(...order.map((item) => item.node));
  }

  gallery.sizes.forEach((size, i) => controls.size.append(element("option", { value: i, textContent: size })));
  controls.limit.max = gallery.limits.length - 1;
  controls.limit.value = gallery.limit;
  controls.score.max = gallery.levels;
  document.querySelector(".controls").addEventListener("submit", (event) => event.preventDefault());
  for (const control of Object.values(controls)) {
    control.addEventListener("input", update);
    control.addEventListener("change", sort);
  }
  update();
  sort();
})();
