// Draws the report from the JSON in the page. Whatever comes from the data goes through textContent, never innerHTML.
(function () {
  'use strict';

  const data = JSON.parse(document.getElementById('report-data').textContent);
  const runs = data.runs;
  const darkScheme = window.matchMedia('(prefers-color-scheme: dark)');
  let printing = false;

  // ---------------------------------------------------------------- elements

  /** An element; `properties` as of the DOM, but `attributes` and `style` as dictionaries; children: nodes or text. */
  function element(tag, properties, ...children) {
    const { attributes = {}, style = {}, ...rest } = properties || {};
    const node = Object.assign(document.createElement(tag), rest);
    for (const [name, value] of Object.entries(attributes)) node.setAttribute(name, value);
    for (const [name, value] of Object.entries(style)) node.style.setProperty(name, value);
    node.append(...children.filter((child) => child !== null && child !== undefined));
    return node;
  }

  const unique = (() => {
    let count = 0;
    return (stem) => `${stem}-${++count}`;
  })();

  const taskLabel = (key) => {
    const task = data.tasks.find((one) => one.key === key);
    return task ? task.label : key;
  };

  const fixed = (value, digits) => (value === null || value === undefined ? '–' : value.toFixed(digits));
  const percent = (share) => `${(100 * share).toFixed(share > 0 && share < 0.1 ? 1 : 0)} %`;

  /** "0.600 ± 0.141" of {mean, std, values}. */
  function shown(metric, digits = 3) {
    if (!metric) return '–';
    const spread = metric.values.length > 1 && metric.std > 0 ? ` ± ${metric.std.toFixed(digits)}` : '';
    return metric.mean.toFixed(digits) + spread;
  }

  function duration(seconds) {
    if (seconds < 100) return `${seconds.toFixed(seconds < 10 ? 1 : 0)} s`;
    if (seconds < 6000) return `${(seconds / 60).toFixed(1)} min`;
    return `${(seconds / 3600).toFixed(1)} h`;
  }

  // ---------------------------------------------------------------- tables

  /** Text that may be broken behind `_`, `.` and `/`. */
  function breakable(text) {
    const pieces = String(text).split(/(?<=[_./])/);
    return element('span', null, ...pieces.flatMap((piece, i) => (i === 0 ? [piece] : [document.createElement('wbr'), piece])));
  }

  /** A cell is text, or {text, node, className, style}; the first of a row is its header. */
  function cellNode(cell, tag, numeric) {
    const described = cell !== null && typeof cell === 'object' ? cell : { text: cell };
    const node = element(tag, {
      className: [numeric ? 'number' : '', described.className || ''].join(' ').trim(),
      attributes: tag === 'th' ? { scope: 'row' } : {},
      style: described.style || {},
    });
    node.append(described.node || (tag === 'th' ? breakable(described.text ?? '–') : String(described.text ?? '–')));
    return node;
  }

  /** Rows whose headers are the same text share one. */
  function shareHeaders(body) {
    let first = null;
    for (const row of [...body.rows]) {
      if (first && row.cells[0].textContent === first.textContent) {
        row.cells[0].remove();
        first.rowSpan += 1;
        first.scope = 'rowgroup';
      } else {
        first = row.cells[0];
      }
    }
  }

  /** columns: [{label, numeric}]; rows: [[cell]]. */
  function table({ caption, columns, rows, className }) {
    const head = element('tr', null, ...columns.map((column) =>
      element('th', { className: column.numeric ? 'number' : '', attributes: { scope: 'col' } }, column.label)));
    const body = rows.map((row) =>
      element('tr', null, ...row.map((cell, i) => cellNode(cell, i === 0 ? 'th' : 'td', columns[i].numeric))));
    const node = element('table', { className: className || '' }, element('caption', null, element('span', null, caption)),
      element('thead', null, head), element('tbody', null, ...body));
    if (!className) shareHeaders(node.tBodies[0]);
    return scrolling(node, caption);
  }

  function scrolling(node, label) {
    const box = element('div', { className: 'scroll' }, node);
    box.dataset.label = label;
    return box;
  }

  /** Boxes that do scroll can be reached, and scrolled, by keyboard; the others are no stops. */
  function markScrolling() {
    for (const box of document.querySelectorAll('.scroll')) {
      if (box.scrollWidth > box.clientWidth + 1) {
        box.tabIndex = 0;
        box.setAttribute('role', 'region');
        box.setAttribute('aria-label', `${box.dataset.label || 'Summary of the runs'} (scrolls sideways)`);
      } else {
        for (const name of ['tabindex', 'role', 'aria-label']) box.removeAttribute(name);
      }
    }
  }

  // ---------------------------------------------------------------- controls

  /** A labelled select; options: [{value, text}]. Calls `changed` with the chosen value. */
  function select(label, options, changed) {
    const id = unique('select');
    const box = element('select', { id });
    const fill = (list, keep) => {
      box.replaceChildren(...list.map((option) => element('option', { value: option.value }, option.text)));
      if (list.some((option) => option.value === keep)) box.value = keep;
    };
    fill(options);
    box.addEventListener('change', () => changed(box.value));
    return {
      node: element('label', { htmlFor: id }, label, box),
      fill: (list) => fill(list, box.value),
      choose: (value) => { box.value = value; },
      get value() { return box.value; },
    };
  }

  const controls = (...nodes) => element('div', { className: 'controls' }, ...nodes);

  // ---------------------------------------------------------------- look of the series

  // Kept apart in colour-blind vision, and by marker and dash as well.
  const COLOURS = {
    light: ['#0072b2', '#c74e00', '#007f5f', '#b3488b', '#8f6b00', '#5b4db0', '#4d555c'],
    dark: ['#56b4e9', '#f0904d', '#2fc79a', '#e39bc8', '#e6c04a', '#a99bf0', '#c9ced6'],
  };
  const THEMES = {
    light: { ink: '#1c2126', quiet: '#565f68', grid: '#e4e7e9', paper: '#ffffff' },
    dark: { ink: '#e7eaed', quiet: '#a6afb8', grid: '#30363c', paper: '#1c2024' },
  };
  const MARKERS = ['circle', 'rect', 'triangle', 'rectRot', 'cross', 'star', 'crossRot'];
  const DASHES = [[], [7, 3], [2, 3], [9, 3, 2, 3]];

  const scheme = () => (darkScheme.matches && !printing ? 'dark' : 'light');
  const theme = () => THEMES[scheme()];

  function look(run) {
    const colours = COLOURS[scheme()];
    return {
      colour: colours[run % colours.length],
      marker: MARKERS[(run + Math.floor(run / MARKERS.length)) % MARKERS.length],
      dash: DASHES[(run + Math.floor(run / DASHES.length)) % DASHES.length],
    };
  }

  /** A line with the run's colour, dash and marker, for its legend. */
  function swatch(run) {
    const canvas = element('canvas', { width: 68, height: 28, className: 'swatch', attributes: { 'aria-hidden': 'true' }, style: { width: '34px', height: '14px' } });
    const draw = () => {
      const { colour, marker, dash } = look(run);
      const context = canvas.getContext('2d');
      context.setTransform(2, 0, 0, 2, 0, 0);
      context.clearRect(0, 0, 34, 14);
      Object.assign(context, { strokeStyle: colour, fillStyle: colour, lineWidth: 2 });
      context.setLineDash(dash);
      context.beginPath();
      context.moveTo(0, 7);
      context.lineTo(34, 7);
      context.stroke();
      context.setLineDash([]);
      Chart.helpers.drawPoint(context, { pointStyle: marker, radius: 4, borderWidth: 2 }, 17, 7);
    };
    draw();
    redraws.push(draw);
    return canvas;
  }

  // ---------------------------------------------------------------- charts

  const redraws = [];
  const PRINTED_SIZE = [720, 260];  // pixels, scaled to the width of the paper

  /** A figure with a canvas, what it says in words, and its numbers as a table. `config()` is asked at every drawing. */
  function chart({ title, words, config, numbers }) {
    const canvas = element('canvas', { attributes: { role: 'img' } });
    const caption = element('figcaption', null, title);
    const holder = element('div');
    let drawn = null;
    const draw = () => {
      if (drawn) drawn.destroy();
      canvas.setAttribute('aria-label', `${title}. ${words()} The numbers are in the table below.`);
      drawn = new Chart(canvas, config());
      if (printing) drawn.resize(...PRINTED_SIZE);
      holder.replaceChildren(table({ caption: title, ...numbers() }));
    };
    redraws.push(draw);
    const details = element('details', null, element('summary', null, 'Numbers of this chart'), holder);
    details.addEventListener('toggle', markScrolling);
    return { node: element('figure', null, caption, element('div', { className: 'plot' }, canvas), details), draw };
  }

  function axis(title, more) {
    const { ink, quiet, grid } = theme();
    return {
      title: { display: true, text: title, color: ink },
      ticks: { color: quiet },
      grid: { color: grid, borderColor: quiet },
      ...more,
    };
  }

  function options(x, y, label) {
    const { ink, paper, quiet } = theme();
    return {
      animation: false,
      maintainAspectRatio: false,
      responsive: true,
      interaction: { mode: 'nearest', intersect: false },
      scales: { x, y },
      plugins: {
        legend: { display: false },
        tooltip: { backgroundColor: ink, titleColor: paper, bodyColor: paper, borderColor: quiet, displayColors: false, callbacks: label },
      },
    };
  }

  function redrawAll() {
    for (const draw of redraws) draw();
  }

  // ---------------------------------------------------------------- sections

  function section(id, title, lead, ...children) {
    const heading = element('h2', { id: `${id}-title` }, title);
    return element('section', { id, attributes: { 'aria-labelledby': `${id}-title` } }, heading,
      lead ? element('p', { className: 'lead' }, lead) : null, ...children);
  }

  const SPLITS = { dev: 'Dev', test: 'Test' };
  const splitsOf = (run) => ['test', 'dev'].filter((split) => run.scores && run.scores[split]);
  const anySplit = runs.some((run) => run.scores && run.scores.test) ? 'test' : 'dev';
  const score = (run, split, task) => run.scores?.[split]?.[task];
  const withMain = (run) => (run.main === 'teacher' ? `${run.name} (teacher)` : run.name);
  const byDev = runs.map((run, i) => i).filter((i) => score(runs[i], 'dev', 'mean'))
    .sort((a, b) => runs[b].scores.dev.mean.mean - runs[a].scores.dev.mean.mean);
  const hasSeeds = runs.some((run) => run.seeds.length > 1);

  // ---- summary: highlights and sorting

  function highlights() {
    const best = runs[byDev[0]];
    const tiles = [];
    if (best && runs.length > 1) tiles.push([shown(score(best, anySplit, 'mean')), `mean ${anySplit} F1 of ${best.name}, the best run on dev`]);
    const teacher = best?.teacher;
    if (best && teacher?.scores?.[anySplit] && score(best, anySplit, 'mean'))
      tiles.push([shown(teacher.scores[anySplit].mean), `mean ${anySplit} F1 of its teacher`]);
    if (best?.parameters_m && teacher?.parameters_m)
      tiles.push([`${(teacher.parameters_m.mean / best.parameters_m.mean).toFixed(1)} ×`, `fewer parameters than its teacher: ${shown(best.parameters_m, 2)} instead of ${shown(teacher.parameters_m, 2)} million`]);
    if (data.saved.stages > 0) tiles.push([duration(data.saved.seconds), `saved by sharing ${data.saved.stages === 1 ? 'a stage' : `${data.saved.stages} stages`} between runs`]);
    if (tiles.length === 0) return;
    document.getElementById('highlights').append(element('ul', { className: 'tiles' },
      ...tiles.map(([figure, words]) => element('li', null, element('b', null, figure), element('span', null, words)))));
  }

  function sortSummary(column, header) {
    const body = document.querySelector('#summary-table tbody');
    const numeric = header.classList.contains('number');
    const before = header.getAttribute('aria-sort');
    // Numbers begin with the highest, names with the first.
    const order = before ? (before === 'ascending' ? 'descending' : 'ascending') : numeric ? 'descending' : 'ascending';
    const sign = order === 'ascending' ? 1 : -1;
    const keyed = [...body.rows].map((row) => ({ row, cell: row.cells[column] }));
    keyed.sort((a, b) => {
      if (!numeric) return sign * a.cell.textContent.localeCompare(b.cell.textContent, 'en', { numeric: true });
      const [x, y] = [a.cell.dataset.value, b.cell.dataset.value];
      if (x === undefined || y === undefined) return (x === undefined) - (y === undefined);  // what is missing comes last
      return sign * (Number(x) - Number(y));
    });
    body.append(...keyed.map((one) => one.row));
    for (const other of header.parentNode.cells) other.removeAttribute('aria-sort');
    header.setAttribute('aria-sort', order);
    document.getElementById('sorted').textContent = `Sorted by ${header.textContent}, ${order}.`;
  }

  function makeSortable() {
    [...document.querySelectorAll('#summary-table thead th')].forEach((header, column) => {
      const button = element('button', { type: 'button' }, element('span', null, header.textContent));
      button.addEventListener('click', () => sortSummary(column, header));
      header.replaceChildren(button);
    });
  }

  // ---- learning curves

  /** Mean, lowest and highest over the seeds, by epoch; `column`: of a row of `epochs`. */
  function curve(run, column) {
    const byEpoch = new Map();
    for (const seed of run.epochs) {
      for (const row of seed.rows) {
        if (row[column] === null) continue;
        if (!byEpoch.has(row[0])) byEpoch.set(row[0], []);
        byEpoch.get(row[0]).push(row[column]);
      }
    }
    return [...byEpoch].sort((a, b) => a[0] - b[0]).map(([epoch, values]) => ({
      epoch, low: Math.min(...values), high: Math.max(...values), mean: values.reduce((a, b) => a + b, 0) / values.length,
    }));
  }

  function curveDatasets(chosen, column) {
    return chosen.flatMap((i) => {
      const { colour, marker, dash } = look(i);
      const points = curve(runs[i], column);
      const line = {
        label: runs[i].name, data: points.map((p) => ({ x: p.epoch, y: p.mean })), borderColor: colour, backgroundColor: colour,
        borderWidth: 2, borderDash: dash, pointStyle: marker, pointRadius: 4, fill: false,
      };
      if (runs[i].epochs.length < 2) return [line];
      const edge = (key, fill) => ({
        label: '', data: points.map((p) => ({ x: p.epoch, y: p[key] })), borderWidth: 0, pointRadius: 0, pointHitRadius: 0,
        backgroundColor: `${colour}26`, fill,
      });
      return [line, edge('low', false), edge('high', '-1')];
    });
  }

  function curvesChart(title, column, what, chosen) {
    const epochs = () => [...new Set(chosen().flatMap((i) => curve(runs[i], column).map((p) => p.epoch)))].sort((a, b) => a - b);
    return chart({
      title,
      words: () => `${what} by epoch of ${chosen().length} runs.`,
      config: () => {
        const label = { title: (items) => (items.length ? `Epoch ${items[0].parsed.x}` : ''), label: (item) => `${item.dataset.label}: ${item.parsed.y.toFixed(3)}` };
        const all = options(axis('Epoch', { type: 'linear', ticks: { color: theme().quiet, precision: 0 } }), axis(what, {}), label);
        all.plugins.tooltip.filter = (item) => item.dataset.label !== '';
        return { type: 'line', data: { datasets: curveDatasets(chosen(), column) }, options: all };
      },
      numbers: () => ({
        columns: [{ label: 'Run' }, ...epochs().map((epoch) => ({ label: `Epoch ${epoch}`, numeric: true }))],
        rows: chosen().map((i) => {
          const points = curve(runs[i], column);
          return [runs[i].name, ...epochs().map((epoch) => fixed(points.find((p) => p.epoch === epoch)?.mean, 3))];
        }),
      }),
    });
  }

  /** Check boxes of the runs that have curves; at first the best six by dev F1 are ticked. */
  function runChoices(candidates, changed) {
    const first = new Set([...byDev.filter((i) => candidates.includes(i)), ...candidates].slice(0, 6));
    const boxes = candidates.map((i) => {
      const box = element('input', { type: 'checkbox', checked: first.has(i), value: String(i) });
      box.addEventListener('change', changed);
      return box;
    });
    const labels = boxes.map((box) => element('label', null, box, swatch(Number(box.value)), runs[box.value].name));
    const node = element('fieldset', null, element('legend', null, 'Runs'), element('div', { className: 'choices' }, ...labels));
    return { node, chosen: () => boxes.filter((box) => box.checked).map((box) => Number(box.value)) };
  }

  function curvesSection() {
    const candidates = runs.map((run, i) => i).filter((i) => runs[i].epochs);
    if (candidates.length === 0) return null;
    let plots = [];
    const choices = runChoices(candidates, () => plots.forEach((plot) => plot.draw()));
    plots = [curvesChart('Dev F1', 2, 'Mean macro F1 on dev', choices.chosen), curvesChart('Training loss', 1, 'Training loss', choices.chosen)];
    const lead = [
      runs.length > 1 ? 'Losses of runs with other loss terms are on other scales.' : '',
      hasSeeds ? 'Lines are means over the seeds, bands reach from the lowest to the highest seed.' : '',
    ].filter(Boolean).join(' ');
    return section('curves', 'Learning curves', lead, choices.node, element('div', { className: 'charts' }, ...plots.map((plot) => plot.node)));
  }

  // ---- scores by run, with the seeds

  /** Draws mean and deviation of each row of the chart behind its points. */
  const errorBars = {
    id: 'errorBars',
    beforeDatasetsDraw(chart, _, { bars, colour }) {
      const { ctx, scales: { x, y } } = chart;
      ctx.save();
      Object.assign(ctx, { strokeStyle: colour, lineWidth: 2 });
      for (const { row, mean, std } of bars || []) {
        const at = y.getPixelForValue(row);
        const [left, middle, right] = [mean - std, mean, mean + std].map((value) => x.getPixelForValue(value));
        ctx.beginPath();
        ctx.moveTo(left, at);
        ctx.lineTo(right, at);
        for (const [end, half] of [[left, 5], [right, 5], [middle, 9]]) {
          ctx.moveTo(end, at - half);
          ctx.lineTo(end, at + half);
        }
        ctx.stroke();
      }
      ctx.restore();
    },
  };

  const shortName = (name) => (name.length > 28 ? `…${name.slice(-27)}` : name);

  function seedsChart(state) {
    const rows = () => runs.map((run, i) => ({ i, metric: score(run, state.split, state.task) })).filter((row) => row.metric);
    const plot = chart({
      title: 'Score of each run',
      words: () => `${SPLITS[state.split]} F1 of ${rows().length} runs, a point for each seed, a bar for mean and standard deviation.`,
      config: () => {
        const names = rows().map((row) => runs[row.i].name);
        const datasets = rows().map(({ i, metric }, row) => ({
          label: runs[i].name, data: metric.values.map((value) => ({ x: value, y: names[row] })), pointStyle: look(i).marker,
          borderColor: look(i).colour, backgroundColor: `${look(i).colour}99`, pointRadius: 5, pointBorderWidth: 2,
        }));
        const label = { label: (item) => `${item.dataset.label}, seed ${runs[rows()[item.datasetIndex].i].seeds[item.dataIndex] ?? ''}: ${item.parsed.x.toFixed(3)}` };
        const y = { type: 'category', labels: names, offset: true, ticks: { color: theme().ink, callback: (_, k) => shortName(names[k]) }, grid: { color: theme().grid } };
        const spread = rows().map(({ metric }) => metric);
        const ends = { suggestedMin: Math.min(...spread.map((m) => m.mean - m.std)), suggestedMax: Math.max(...spread.map((m) => m.mean + m.std)) };
        const all = options(axis(`${SPLITS[state.split]} macro F1`, { type: 'linear', grace: '8%', ...ends }), y, label);
        all.plugins.errorBars = { colour: theme().quiet, bars: rows().flatMap(({ metric }, row) => (metric.values.length > 1 ? [{ row, ...metric }] : [])) };
        return { type: 'scatter', data: { datasets }, options: all, plugins: [errorBars] };
      },
      numbers: () => ({
        columns: [{ label: 'Run' }, { label: 'Mean', numeric: true }, { label: 'Standard deviation', numeric: true }, { label: 'Seeds', numeric: true }, { label: 'Values', numeric: true }],
        rows: rows().map(({ i, metric }) => [runs[i].name, fixed(metric.mean, 3), metric.values.length > 1 ? fixed(metric.std, 3) : '–', metric.values.length, metric.values.map((v) => v.toFixed(3)).join(', ')]),
      }),
    });
    plot.node.querySelector('.plot').style.height = `${Math.max(14, 5 + 2.4 * rows().length)}rem`;
    return plot;
  }

  function seedsSection() {
    if (!hasSeeds) return null;
    const state = { split: anySplit, task: 'mean' };
    const plot = seedsChart(state);
    const splits = ['test', 'dev'].filter((split) => runs.some((run) => run.scores?.[split]));
    const choose = controls(
      select('Split', splits.map((split) => ({ value: split, text: SPLITS[split] })), (value) => { state.split = value; plot.draw(); }).node,
      select('Task', [{ value: 'mean', text: 'Mean of the tasks' }, ...data.tasks.map((task) => ({ value: task.key, text: task.label }))], (value) => { state.task = value; plot.draw(); }).node);
    return section('seeds', 'Seeds', 'Each point is a seed; the bar is the mean with one sample standard deviation to both sides. A run of one seed has no bar: how far it would move with another seed is not known.', choose, plot.node);
  }

  // ---- size and latency against F1

  const COSTS = {
    mb: { text: 'Size (MB, fp32)', digits: 1 },
    latency_ms: { text: 'Latency (ms, median of single samples)', digits: 2 },
    parameters_m: { text: 'Parameters (million)', digits: 2 },
    mflops: { text: 'Operations for a sample (MFLOP)', digits: 1 },
  };

  /** Students (and runs of a teacher alone) and, once each, the teachers. */
  function tradePoints(cost) {
    const points = [];
    runs.forEach((run, i) => {
      const f1 = score(run, anySplit, 'mean');
      if (f1 && run[cost]) points.push({ run: i, name: withMain(run), teacher: run.main === 'teacher', x: run[cost].mean, y: f1.mean, f1 });
    });
    const seen = new Set();
    for (const [i, run] of runs.entries()) {
      const f1 = run.teacher?.scores?.[anySplit]?.mean;
      if (!f1 || !run.teacher[cost] || seen.has(run.teacher.key)) continue;
      seen.add(run.teacher.key);
      points.push({ run: i, name: `teacher of ${run.name}`, teacher: true, x: run.teacher[cost].mean, y: f1.mean, f1 });
    }
    return points;
  }

  /** Points that none beats in both, from the cheapest on. */
  function paretoFront(points) {
    const front = [];
    for (const point of [...points].sort((a, b) => a.x - b.x || b.y - a.y)) {
      if (front.length === 0 || point.y > front[front.length - 1].y) front.push(point);
    }
    return front;
  }

  /** Names beside the points of the front. */
  const frontNames = {
    id: 'frontNames',
    afterDatasetsDraw(chart, _, { names, colour }) {
      const { ctx, chartArea, scales: { x, y } } = chart;
      ctx.save();
      ctx.font = '12px system-ui, sans-serif';
      ctx.fillStyle = colour;
      for (const { name, at } of names || []) {
        const [left, top] = [x.getPixelForValue(at.x), y.getPixelForValue(at.y)];
        const text = shortName(name);
        const width = ctx.measureText(text).width;
        const fits = left + 10 + width < chartArea.right;
        ctx.textAlign = fits ? 'left' : 'right';
        ctx.fillText(text, left + (fits ? 10 : -10), Math.max(top - 9, chartArea.top + 12));
      }
      ctx.restore();
    },
  };

  function tradeDatasets(points, front) {
    const { ink, quiet, paper } = theme();
    const group = (label, list, more) => ({ label, data: list, borderWidth: 2, pointRadius: 7, pointHoverRadius: 9, showLine: false, ...more });
    const students = points.filter((p) => !p.teacher);
    return [
      group('On the Pareto front', front, { backgroundColor: COLOURS[scheme()][0], borderColor: COLOURS[scheme()][0], showLine: true, stepped: 'before', borderWidth: 2, pointStyle: 'circle' }),
      group('Beaten by another run', students.filter((p) => !front.includes(p)), { backgroundColor: paper, borderColor: quiet, pointStyle: 'circle' }),
      group('Teacher', points.filter((p) => p.teacher), { backgroundColor: paper, borderColor: ink, pointStyle: 'triangle' }),
    ].filter((dataset) => dataset.data.length > 0);
  }

  function tradeSection() {
    const available = Object.keys(COSTS).filter((cost) => tradePoints(cost).length > 1);
    if (available.length === 0) return null;
    const state = { cost: available[0] };
    const front = (points) => paretoFront(points.filter((p) => !p.teacher));
    const plot = chart({
      title: `${SPLITS[anySplit]} F1 against cost`,
      words: () => `Mean ${anySplit} F1 against ${COSTS[state.cost].text} of ${tradePoints(state.cost).length} models. On the Pareto front: ${front(tradePoints(state.cost)).map((p) => p.name).join(', ')}.`,
      config: () => {
        const points = tradePoints(state.cost);
        const label = { label: (item) => `${item.raw.name}: F1 ${item.parsed.y.toFixed(3)}, ${item.parsed.x.toFixed(COSTS[state.cost].digits)}` };
        const all = options(axis(COSTS[state.cost].text, { type: 'linear', grace: '12%' }), axis(`Mean macro F1 on ${anySplit}`, { grace: '12%' }), label);
        all.plugins.legend = { display: true, position: 'bottom', labels: { color: theme().ink, usePointStyle: true, boxHeight: 8, boxWidth: 12, padding: 18 } };
        all.plugins.frontNames = { colour: theme().ink, names: front(points).map((p) => ({ name: p.name, at: p })) };
        return { type: 'scatter', data: { datasets: tradeDatasets(points, front(points)) }, options: all, plugins: [frontNames] };
      },
      numbers: () => {
        const points = tradePoints(state.cost);
        return {
          columns: [{ label: 'Model' }, { label: COSTS[state.cost].text, numeric: true }, { label: `Mean ${anySplit} F1`, numeric: true }, { label: 'Pareto front' }],
          rows: points.map((p) => [p.name, fixed(p.x, COSTS[state.cost].digits), shown(p.f1), p.teacher ? 'teacher' : front(points).includes(p) ? 'yes' : 'no']),
        };
      },
    });
    const choose = controls(select('Cost', available.map((cost) => ({ value: cost, text: COSTS[cost].text })), (value) => { state.cost = value; plot.draw(); }).node);
    return section('cost', 'Size and latency', 'Up and to the left is better. The line joins the runs that no other run beats in both; teachers stand beside for comparison. Latencies are comparable only between runs that were measured on the same machine.', choose, plot.node);
  }

  // ---- confusion matrices

  function confusionTable(matrix, seeds) {
    const { classes, counts } = matrix;
    const total = (list) => list.reduce((a, b) => a + b, 0);
    const sums = counts.map(total);
    const columnSums = classes.map((_, k) => total(counts.map((row) => row[k])));
    const share = (part, whole) => (whole > 0 ? part / whole : 0);
    const rows = counts.map((row, i) => [classes[i], ...row.map((count, k) => ({
      node: element('span', null, String(count), element('small', null, percent(share(count, sums[i])))),
      className: i === k ? 'diagonal' : '', style: { '--share': share(count, sums[i]).toFixed(3) },
    })), { text: sums[i], className: 'sum' }]);
    rows.push(['Precision', ...classes.map((_, k) => ({ text: columnSums[k] ? percent(counts[k][k] / columnSums[k]) : '–', className: 'sum' })), { text: '', className: 'sum' }]);
    const caption = `Rows are true classes, columns predicted ones. Counts${seeds > 1 ? ` summed over ${seeds} seeds` : ''} with their share of the row, which on the diagonal (framed) is the recall.`;
    return table({ caption, className: 'matrix', columns: [{ label: 'True \\ predicted' }, ...classes.map((label) => ({ label, numeric: true })), { label: 'Samples', numeric: true }], rows });
  }

  function confusionSection() {
    const candidates = runs.map((run, i) => i).filter((i) => runs[i].confusion);
    if (candidates.length === 0) return null;
    const holder = element('div', { attributes: { 'aria-live': 'polite' } });
    const parts = {};
    const distinct = (key, list) => [...new Set(list.map((matrix) => matrix[key]))];
    const update = () => {
      const run = runs[Number(parts.run.value)];
      let list = run.confusion;
      for (const key of ['model', 'split', 'task']) {
        parts[key].fill(distinct(key, list).map((value) => ({ value, text: key === 'task' ? taskLabel(value) : key === 'split' ? SPLITS[value] : value })));
        list = list.filter((matrix) => matrix[key] === parts[key].value);
      }
      holder.replaceChildren(confusionTable(list[0], run.seeds.length));
      markScrolling();
    };
    parts.run = select('Run', candidates.map((i) => ({ value: String(i), text: runs[i].name })), update);
    for (const [key, label] of [['model', 'Model'], ['split', 'Split'], ['task', 'Task']]) parts[key] = select(label, [], update);
    if (candidates.includes(byDev[0])) parts.run.choose(String(byDev[0]));
    update();
    return section('confusion', 'Confusion matrices', null, controls(...Object.values(parts).map((part) => part.node)), holder);
  }

  // ---- sample predictions

  function verdict(right) {
    return element('span', { className: `verdict ${right ? 'right' : 'wrong'}` }, right ? '✓ right' : '✗ wrong');
  }

  function predictionList(said) {
    return element('dl', null, ...said.flatMap((one) => {
      const right = one.truth === one.predicted;
      const words = right ? `${one.predicted}, probability ${one.p.toFixed(2)}` : `predicted ${one.predicted}, probability ${one.p.toFixed(2)}; true: ${one.truth}`;
      return [element('dt', null, taskLabel(one.task)), element('dd', null, verdict(right), ' ', words)];
    }));
  }

  function sampleCard(card, said) {
    const picture = card.picture
      ? element('img', { src: card.picture, alt: `Picture of sample ${card.id}` })
      : element('div', { className: 'no-picture' }, 'no picture');
    const wrong = said && said.some((one) => one.truth !== one.predicted);
    return element('li', { className: wrong ? 'wrong' : '' }, picture, element('div', { className: 'card' },
      element('h3', null, card.id), card.text ? element('p', null, card.text) : null,
      said ? predictionList(said) : element('p', null, 'This run says nothing about this sample.')));
  }

  function samplesSection() {
    const samples = data.samples;
    if (!samples) return null;
    const notes = samples.notes.length === 0 ? null : element('div', { className: 'note' }, ...samples.notes.map((note) => element('p', null, note)));
    if (samples.cards.length === 0) return section('samples', 'Sample predictions', null, notes);
    const list = element('ul', { className: 'cards' });
    const show = (speaker) => list.replaceChildren(...samples.cards.map((card, i) => sampleCard(card, samples.speakers[speaker].said[i])));
    const chosen = samples.speakers.findIndex((speaker) => speaker.run === samples.chosen_by);
    const names = samples.speakers.map((speaker, i) => ({ value: String(i), text: `${runs[speaker.run].name} (${speaker.model}${runs[speaker.run].seeds.length > 1 ? `, seed ${runs[speaker.run].seeds[0]}` : ''})` }));
    names.unshift(...names.splice(chosen, 1));
    const by = runs[samples.chosen_by];
    const lead = `Chosen by ${by.name}, which is the best run on dev and has ${samples.wrong} of ${samples.rows} ${samples.split} samples wrong in at least one task: errors of which it was most certain, and right ones spread over the split. Their proportion here says nothing about its quality.`;
    show(chosen);
    return section('samples', 'Sample predictions', lead, notes, controls(select('Predictions of', names, (value) => show(Number(value))).node), list);
  }

  // ---- teacher and student

  const rowsOf = (key, make) => runs.flatMap((run) => (run[key] || []).map((row) => make(run, row)));

  function teacherSection() {
    const parts = [];
    if (runs.some((run) => run.agreement)) {
      parts.push(element('h3', null, 'Agreement'), table({
        caption: `Share of the ${anySplit} samples on which teacher and student predict the same class.`,
        columns: [{ label: 'Run' }, ...data.tasks.map((task) => ({ label: task.label, numeric: true }))],
        rows: runs.filter((run) => run.agreement).map((run) => [run.name, ...data.tasks.map((task) => shown(run.agreement.find((row) => row.task === task.key)?.share))]),
      }));
    }
    if (runs.some((run) => run.mcnemar)) {
      const p = (value) => (value === undefined || value === null ? '–' : value < 0.0001 ? '< 0.0001' : value.toFixed(4));
      parts.push(element('h3', null, 'McNemar’s test'), table({
        caption: `Teacher against student on ${anySplit}. p is that of the exact test, two-sided, and of the continuity corrected one; neither is corrected for the number of tests in this table.`,
        columns: ['Run', 'Seed', 'Task'].map((label) => ({ label })).concat(['Only teacher right', 'Only student right', 'p (exact)', 'p (χ², corrected)'].map((label) => ({ label, numeric: true }))),
        rows: rowsOf('mcnemar', (run, row) => [run.name, row.seed, taskLabel(row.task), row.only_teacher_right, row.only_student_right, p(row.p_exact), p(row.p_chi2_corrected)]),
      }));
    }
    return parts.length ? section('teacher', 'Teacher and student', null, ...parts) : null;
  }

  // ---- calibration, routing, robustness

  function calibrationSection() {
    if (!runs.some((run) => run.calibration)) return null;
    const numbers = ['Temperature', 'ECE before', 'ECE after', 'NLL before', 'NLL after'].map((label) => ({ label, numeric: true }));
    return section('calibration', 'Calibration', `Expected calibration error (15 bins) and negative log-likelihood on ${anySplit}, before and after dividing the logits by the temperature that was fitted on dev. Lower is better.`, table({
      caption: 'Calibration by run, model and task.',
      columns: [{ label: 'Run' }, { label: 'Model' }, { label: 'Task' }, ...numbers],
      rows: rowsOf('calibration', (run, row) => [run.name, row.model, taskLabel(row.task), shown(row.temperature, 2), shown(row.ece_before), shown(row.ece_after), shown(row.nll_before), shown(row.nll_after)]),
    }));
  }

  function routingSection() {
    if (!runs.some((run) => run.routing)) return null;
    const routes = [...new Set(rowsOf('routing', (_, row) => Object.keys(row.shares)).flat())];
    const bar = (metric) => (metric ? { node: element('span', null, element('span', { className: 'bar', style: { '--share': metric.mean.toFixed(3) }, attributes: { 'aria-hidden': 'true' } }), percent(metric.mean)) } : '–');
    const energy = rowsOf('routing', (_, row) => row.expected_energy).some(Boolean);
    return section('routing', 'Routing', 'Share of the samples that took each branch of a fusion that routes.', table({
      caption: 'Shares of the routes; means over the seeds.',
      columns: [{ label: 'Run' }, { label: 'Model' }, { label: 'Split' }, ...routes.map((label) => ({ label, numeric: true })), ...(energy ? [{ label: 'Expected energy', numeric: true }] : [])],
      rows: rowsOf('routing', (run, row) => [run.name, row.model, row.split, ...routes.map((route) => bar(row.shares[route])), ...(energy ? [shown(row.expected_energy)] : [])]),
    }));
  }

  const PERTURBATIONS = { mismatched_text: 'Texts of other samples', 'noise_0.1': 'Noise 0.1', 'noise_0.2': 'Noise 0.2', 'missing_0.3': '30 % missing', no_image: 'No images', no_text: 'No texts' };

  function robustnessSection() {
    if (!runs.some((run) => run.robustness)) return null;
    const names = [...new Set(rowsOf('robustness', (_, row) => Object.keys(row.f1)).flat())];
    const clean = (run, model) => (model === run.main ? run.scores : run.teacher?.scores)?.[anySplit]?.mean;
    const cell = (metric, base) => {
      if (!metric) return '–';
      const change = base ? metric.mean - base.mean : null;
      const node = element('span', null, shown(metric), change === null ? null : element('small', { className: 'quiet', style: { display: 'block' } }, `${change < 0 ? '−' : '+'}${Math.abs(change).toFixed(3)}`));
      return { node };
    };
    return section('robustness', 'Robustness', `Mean ${anySplit} F1 under perturbations of the input, and the change from the clean samples.`, table({
      caption: 'Robustness by run and model.',
      columns: [{ label: 'Run' }, { label: 'Model' }, { label: 'Clean', numeric: true }, ...names.map((name) => ({ label: PERTURBATIONS[name] || name, numeric: true }))],
      rows: rowsOf('robustness', (run, row) => [run.name, row.model, shown(clean(run, row.model)), ...names.map((name) => cell(row.f1[name], clean(run, row.model)))]),
    }));
  }

  // ---- configurations and timings

  function configSection() {
    if (!data.config) return null;
    return section('config', 'Configuration differences', 'Only keys in which the runs differ, without their log folders. – stands for a key that is not set.', table({
      caption: 'Keys of the configuration by run.',
      columns: [{ label: 'Key' }, ...runs.map((run) => ({ label: run.name }))],
      rows: data.config.map((row) => [{ node: element('code', null, breakable(row.key)) }, ...row.values]),
    }));
  }

  function savedWords() {
    const { seconds, stages, unknown } = data.saved;
    const times = (n, one, several) => `${n} ${n === 1 ? one : several}`;
    const known = stages > 0 ? `${duration(seconds)} saved: ${times(stages, 'stage was', 'stages were')} taken from another run with the same inputs, counting what each took where it was built.` : '';
    const rest = unknown > 0 ? `What ${times(unknown, 'reused stage', 'reused stages')} saved cannot be told: nothing here says what ${unknown === 1 ? 'it' : 'they'} took.` : '';
    return [known, rest].filter(Boolean).join(' ') || (runs.length > 1 || hasSeeds ? 'No two of these runs share a stage.' : '');
  }

  function stageCell(stage) {
    if (!stage) return '–';
    if (!stage.reused) return duration(stage.seconds);
    const built = stage.built === undefined ? null : element('small', { className: 'quiet', style: { display: 'block' } }, `built in ${duration(stage.built)}`);
    return { node: element('span', null, 'reused', built) };
  }

  function timingsSection() {
    if (!runs.some((run) => run.stages)) return null;
    const names = [...new Set(runs.flatMap((run) => (run.stages || []).flatMap((seed) => seed.stages.map((stage) => stage.stage))))];
    const total = (seed) => duration(seed.stages.reduce((sum, stage) => sum + stage.seconds, 0));
    return section('timings', 'Timings', savedWords(), table({
      caption: 'Time of each stage as the run saw it, and of a reused one what it took where it was built, if that is known. The total is what the run itself took.',
      columns: [{ label: 'Run' }, { label: 'Seed', numeric: true }, ...names.map((label) => ({ label, numeric: true })), { label: 'Total', numeric: true }],
      rows: rowsOf('stages', (run, seed) => [run.name, seed.seed, ...names.map((name) => stageCell(seed.stages.find((stage) => stage.stage === name))), total(seed)]),
    }));
  }

  // ---------------------------------------------------------------- page

  function contents(sections) {
    const nav = document.getElementById('contents');
    const short = { confusion: 'Confusion', samples: 'Samples', teacher: 'Teacher', config: 'Configuration', cost: 'Cost' };
    const links = [['summary', 'Summary'], ...sections.map((one) => [one.id, short[one.id] || one.querySelector('h2').textContent])];
    nav.append(element('ul', null, ...links.map(([id, text]) => element('li', null, element('a', { href: `#${id}` }, text)))));
    nav.hidden = false;
  }

  function print(on) {
    printing = on;
    redrawAll();
  }

  function start() {
    highlights();
    makeSortable();
    const sections = [curvesSection(), seedsSection(), tradeSection(), confusionSection(), samplesSection(), teacherSection(),
      calibrationSection(), routingSection(), robustnessSection(), configSection(), timingsSection()].filter(Boolean);
    document.getElementById('sections').append(...sections);
    contents(sections);
    redrawAll();
    markScrolling();
    window.addEventListener('resize', markScrolling);
    darkScheme.addEventListener('change', redrawAll);
    window.addEventListener('beforeprint', () => print(true));
    window.addEventListener('afterprint', () => print(false));
    document.documentElement.dataset.ready = 'true';
  }

  start();
})();
