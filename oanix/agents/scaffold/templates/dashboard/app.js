'use strict';

const $ = (id) => document.getElementById(id);
const number = new Intl.NumberFormat();
const SVG = 'http://www.w3.org/2000/svg';
const HEIGHT = 320, LEFT = 56, RIGHT = 12, TOP = 12, BOTTOM = 32;

const state = { series: [], days: [], hidden: new Set(), period: 30, filter: '', sort: 'date', down: true, at: -1, width: 960 };

// Data ---------------------------------------------------------------------------------------

function check(data) {
  if (!Array.isArray(data.series) || !Array.isArray(data.days)) {
    throw new Error('data.json has "series" and "days"');
  }
  for (const day of data.days) {
    if (!/^\d{4}-\d\d-\d\d$/.test(day.date)) throw new Error(`"${day.date}" is no date`);
    for (const { key } of data.series) {
      if (!Number.isFinite(day[key])) throw new Error(`${day.date} has no number "${key}"`);
    }
  }
  return data;
}

async function load() {
  const answer = await fetch('data.json', { cache: 'no-cache' });
  if (!answer.ok) throw new Error(`data.json: ${answer.status} ${answer.statusText}`);
  return answer.json();
}

function use(data) {
  check(data);
  state.series = data.series.map((one, index) => ({ ...one, colour: `var(--series-${index % 4})` }));
  state.days = [...data.days].sort((a, b) => (a.date < b.date ? -1 : 1));
  $('notice').hidden = true;
  drawAll();
}

function notice(error) {
  const box = $('notice');
  box.hidden = false;
  box.className = 'notice';
  if (location.protocol !== 'file:') {
    box.textContent = `The data cannot be shown: ${error.message}`;
    return;
  }
  // A page that is opened from a file may not read the file beside it by itself.
  const picker = document.createElement('input');
  picker.type = 'file';
  picker.accept = '.json';
  picker.setAttribute('aria-label', 'data.json');
  picker.addEventListener('change', async () => {
    try {
      use(JSON.parse(await picker.files[0].text()));
    } catch (wrong) {
      notice(wrong);
    }
  });
  box.replaceChildren('A browser reads no file beside a page that was opened as a file. Serve the folder ',
    '(python3 -m http.server --bind 127.0.0.1 8000), or choose data.json: ', picker);
}

const shown = () => (state.period ? state.days.slice(-state.period) : state.days);

// Figures ------------------------------------------------------------------------------------

function drawFigures() {
  const days = shown();
  const before = state.period ? state.days.slice(-2 * state.period, -state.period) : [];
  $('figures').replaceChildren(...state.series.map(({ key, name }) => {
    const sum = (of) => of.reduce((total, day) => total + day[key], 0);
    const now = sum(days);
    const then = before.length === days.length ? sum(before) : 0;
    const box = document.createElement('div');
    box.className = 'figure';
    const label = document.createElement('span');
    label.className = 'muted';
    label.textContent = name;
    const value = document.createElement('strong');
    value.textContent = number.format(now);
    const change = document.createElement('span');
    change.className = 'muted';
    const percent = then ? Math.round((100 * (now - then)) / then) : null;
    change.textContent = percent === null ? 'no earlier period'
      : `${percent > 0 ? '▲' : percent < 0 ? '▼' : '='} ${Math.abs(percent)} % on the period before`;
    box.append(label, value, change);
    return box;
  }));
}

// Chart --------------------------------------------------------------------------------------

function svg(name, attributes, ...children) {
  const made = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  made.append(...children);
  return made;
}

function ticks(most) {
  const rough = Math.max(most, 1) / 4;
  const unit = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 2.5, 5, 10].map((one) => one * unit).find((one) => one >= rough);
  const found = [];
  for (let value = 0; value < most + step; value += step) found.push(value);
  return found;
}

function scales(days, series) {
  const most = Math.max(1, ...series.flatMap(({ key }) => days.map((day) => day[key])));
  const marks = ticks(most);
  const top = marks[marks.length - 1];
  return {
    marks,
    x: (index) => LEFT + ((state.width - LEFT - RIGHT) * index) / Math.max(days.length - 1, 1),
    y: (value) => HEIGHT - BOTTOM - ((HEIGHT - TOP - BOTTOM) * value) / top,
  };
}

function drawChart() {
  // One unit of the drawing is one pixel, so that its text is as large as any other.
  state.width = Math.max($('chart').clientWidth, 240);
  const width = state.width;
  const days = shown();
  const series = state.series.filter(({ key }) => !state.hidden.has(key));
  const { x, y, marks } = scales(days, series);
  const names = series.map(({ name }) => name).join(', ') || 'nothing';
  const chart = svg('svg', {
    viewBox: `0 0 ${width} ${HEIGHT}`, role: 'img', tabindex: '0',
    'aria-label': `${names} by day, ${days.length} days; the table below has the numbers`,
  });
  for (const mark of marks) {
    chart.append(
      svg('line', { class: 'grid', x1: LEFT, x2: width - RIGHT, y1: y(mark), y2: y(mark) }),
      svg('text', { x: LEFT - 8, y: y(mark) + 4, 'text-anchor': 'end' }, number.format(mark)),
    );
  }
  const every = Math.max(1, Math.ceil(days.length / Math.max(2, Math.floor(width / 100))));
  days.forEach((day, index) => {
    if (index % every) return;
    const anchor = index === days.length - 1 ? 'end' : 'middle';
    chart.append(svg('text', { x: x(index), y: HEIGHT - 8, 'text-anchor': anchor }, day.date.slice(5)));
  });
  for (const { key, colour } of series) {
    const points = days.map((day, index) => `${x(index).toFixed(1)},${y(day[key]).toFixed(1)}`);
    if (!points.length) continue;
    const style = `--colour: ${colour}`;
    const floor = y(0);
    chart.append(
      svg('polygon', { class: 'area', style, points: `${x(0)},${floor} ${points.join(' ')} ${x(days.length - 1)},${floor}` }),
      svg('polyline', { class: 'line', style, points: points.join(' ') }),
    );
  }
  const cursor = svg('g', {});
  chart.append(cursor);
  const point = (index) => {
    state.at = Math.min(Math.max(index, 0), days.length - 1);
    drawCursor(cursor, days[state.at], series, x(state.at), y);
  };
  chart.addEventListener('pointermove', (event) => {
    const box = chart.getBoundingClientRect();
    const place = ((event.clientX - box.left) * width) / box.width;
    point(Math.round(((place - LEFT) / (width - LEFT - RIGHT)) * (days.length - 1)));
  });
  chart.addEventListener('keydown', (event) => {
    const steps = { ArrowLeft: state.at - 1, ArrowRight: state.at + 1, Home: 0, End: days.length - 1 };
    if (!(event.key in steps)) return;
    event.preventDefault();
    point(steps[event.key]);
  });
  $('chart').replaceChildren(chart);
}

function drawCursor(cursor, day, series, at, y) {
  if (!day) return;
  cursor.replaceChildren(
    svg('line', { class: 'cursor', x1: at, x2: at, y1: TOP, y2: HEIGHT - BOTTOM }),
    ...series.map(({ key, colour }) => svg('circle', { class: 'dot', style: `--colour: ${colour}`, cx: at, cy: y(day[key]), r: 5 })),
  );
  $('reading').textContent = `${day.date}: ${series.map(({ key, name }) => `${name} ${number.format(day[key])}`).join(', ')}`;
}

function drawSeries() {
  $('series').replaceChildren(...state.series.map(({ key, name, colour }) => {
    const button = document.createElement('button');
    button.type = 'button';
    button.textContent = name;
    button.style.setProperty('--colour', colour);
    button.setAttribute('aria-pressed', String(!state.hidden.has(key)));
    button.addEventListener('click', () => {
      if (!state.hidden.delete(key)) state.hidden.add(key);
      button.setAttribute('aria-pressed', String(!state.hidden.has(key)));
      drawChart();
    });
    return button;
  }));
}

// Table --------------------------------------------------------------------------------------

function drawTable() {
  const columns = [{ key: 'date', name: 'Date' }, ...state.series];
  const row = document.createElement('tr');
  for (const { key, name } of columns) {
    const cell = document.createElement('th');
    cell.scope = 'col';
    const sorted = state.sort === key;
    if (sorted) cell.setAttribute('aria-sort', state.down ? 'descending' : 'ascending');
    const button = document.createElement('button');
    button.type = 'button';
    button.textContent = name + (sorted ? (state.down ? ' ▾' : ' ▴') : '');
    button.addEventListener('click', () => {
      state.down = sorted ? !state.down : true;
      state.sort = key;
      drawTable();
      $('head').querySelectorAll('button')[columns.findIndex((one) => one.key === key)].focus();
    });
    cell.append(button);
    row.append(cell);
  }
  $('head').replaceChildren(row);
  const days = shown().filter((day) => day.date.includes(state.filter));
  const sign = state.down ? -1 : 1;
  days.sort((a, b) => (a[state.sort] < b[state.sort] ? -sign : a[state.sort] > b[state.sort] ? sign : 0));
  $('rows').replaceChildren(...days.map((day) => {
    const line = document.createElement('tr');
    line.append(...columns.map(({ key }) => {
      const cell = document.createElement('td');
      cell.textContent = key === 'date' ? day.date : number.format(day[key]);
      return cell;
    }));
    return line;
  }));
  $('count').textContent = days.length === 1 ? '1 day' : `${days.length} days`;
}

function drawAll() {
  drawFigures();
  drawSeries();
  drawChart();
  drawTable();
}

// Controls -----------------------------------------------------------------------------------

function showTheme() {
  $('theme').setAttribute('aria-pressed', String(document.documentElement.dataset.theme === 'dark'));
}

$('theme').addEventListener('click', () => {
  const root = document.documentElement;
  root.dataset.theme = root.dataset.theme === 'dark' ? 'light' : 'dark';
  try {
    localStorage.setItem('theme', root.dataset.theme);
  } catch {
    // It holds until the page is left.
  }
  showTheme();
});
$('period').addEventListener('change', (event) => {
  state.period = Number(event.target.value);
  drawAll();
});
$('filter').addEventListener('input', (event) => {
  state.filter = event.target.value.trim();
  drawTable();
});

new ResizeObserver(() => {
  if ($('chart').clientWidth !== state.width && state.days.length) drawChart();
}).observe($('chart'));

showTheme();
load().then(use).catch(notice);
