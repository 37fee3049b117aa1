// Report: what was found, as Markdown for people and as JSON for programs.

import { mermaid, text } from './graph.js';

const number = (value) => String(value).replace(/\B(?=(\d{3})+$)/g, ',');
const size = (bytes) => (bytes < 1024 ? `${bytes} B` : bytes < 1 << 20 ? `${(bytes / 1024).toFixed(1)} KiB` : `${(bytes / (1 << 20)).toFixed(1)} MiB`);
const plural = (count, one, many = `${one}s`) => `${number(count)} ${count === 1 ? one : many}`;
const tick = (name) => `\`${shown(name).replace(/`/g, "'")}\``;
// Names may hold what moves a terminal's cursor, or turns the direction of writing.
const shown = (name) => name.replace(/[\x00-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069]/g, '?');
// Within a box of code nothing ends it.
const boxed = (name) => shown(name).replace(/`/g, "'");
const cell = (said) => String(said).replace(/[\x00-\x1f\x7f]/g, ' ').replace(/\|/g, '\\|');

export function gathered(project, tree, graph, where) {
  const code = [...project.languages.values()].sort((a, b) => order(a) - order(b) || b.bytes - a.bytes);
  const total = code.reduce((sum, one) => ({ files: sum.files + one.files, lines: sum.lines + one.lines, bytes: sum.bytes + one.bytes }), { files: 0, lines: 0, bytes: 0 });
  const programs = code.filter(({ sort }) => sort === 'code' || sort === 'markup').reduce((sum, { bytes }) => sum + bytes, 0);
  const uses = new Map();
  for (const [, to] of project.edges) uses.set(to, (uses.get(to) ?? 0) + 1);
  return {
    path: where,
    readme: project.readme,
    licences: project.licences,
    files: { all: tree.files.length, text: total.files, binary: project.binaries, unread: project.unread, generated: project.made.files, lines: total.lines, bytes: tree.files.reduce((sum, { bytes }) => sum + bytes, 0) },
    left_out: { ignored: tree.left.ignored, links: tree.left.links, unreadable: tree.left.unreadable, deep: tree.left.deep, others: Object.fromEntries(tree.left.others) },
    stopped: tree.stopped,
    languages: code.map((one) => ({ ...one, share: ['code', 'markup'].includes(one.sort) && programs ? Math.round((1000 * one.bytes) / programs) / 10 : null })),
    manifests: project.manifests.map(({ wrong, main, implied, indirect, targets, entries, ...one }) => ({ ...one, ...(wrong ? { wrong } : {}), ...(targets?.length ? { targets } : {}) })),
    entries: [...new Map(project.entries.map(({ path, what, command, module, from }) => [`${path} ${what} ${from && !path ? from : ''}`, { path, what, ...(command ? { command } : {}), ...(module ? { module } : {}), ...(from ? { from } : {}) }])).values()],
    dependencies: {
      by: graph.byFile ? 'file' : 'folder',
      files: project.edges,
      edges: graph.edges.map(([from, to, count]) => ({ from, to, count })),
      circles: graph.circles,
      most_used: [...uses].sort((a, b) => b[1] - a[1] || (a[0] < b[0] ? -1 : 1)).slice(0, 20).map(([path, count]) => ({ path: path === '/' ? '.' : path, count })),
      outside: [...project.outside.values()].sort((a, b) => b.files.size - a.files.size || (a.name < b.name ? -1 : 1)).map(({ name, standard, files }) => ({ name, standard, files: files.size })),
      not_found: project.missing.slice(0, 50),
    },
    largest_files: tree.files.filter((one) => one.lines !== undefined && !one.generated && project.sources.includes(one)).sort((a, b) => b.lines - a.lines).slice(0, 20).map(({ path, lines, bytes }) => ({ path, lines, bytes })),
    largest_functions: project.functions.sort((a, b) => b.lines - a.lines).slice(0, 20),
    tests: { files: project.tests.files.length, tests: project.tests.count, lines: project.tests.lines, paths: project.tests.files.slice(0, 500) },
    todos: { ...project.todos, files: [...project.todoFiles].sort((a, b) => b[1] - a[1]).slice(0, 20).map(([path, count]) => ({ path, count })) },
  };
}

const UNKNOWN = 'not recognised';

const order = ({ sort }) => ['code', 'markup', 'data', 'text', 'other'].indexOf(sort);

export function markdown(found, graph, layout, name) {
  const out = [];
  const add = (...lines) => out.push(...lines);
  add(`# ${found.readme?.title || found.manifests.find(({ name: one, path }) => one && path.slice(found.path === '.' ? 0 : found.path.length + 1) === path.split('/').pop())?.name || name}`, '');
  if (found.readme?.text) add(found.readme.text, '', `(from ${tick(found.readme.path)})`, '');
  summary(add, found);
  languages(add, found);
  add('## Layout', '', '```', ...layout, '```', '');
  entries(add, found);
  manifests(add, found);
  dependencies(add, found, graph);
  sizes(add, found);
  const { TODO, FIXME, XXX, HACK, files } = found.todos;
  const sum = TODO + FIXME + XXX + HACK;
  add('## To do', '');
  add(sum ? `${['TODO', 'FIXME', 'XXX', 'HACK'].filter((one) => found.todos[one]).map((one) => `${one} ${found.todos[one]}`).join(', ')}; most in ${files.slice(0, 5).map(({ path, count }) => `${tick(path)} (${count})`).join(', ')}.` : 'No comment says TODO, FIXME, XXX or HACK.', '');
  return `${out.map((line) => shown(line)).join('\n').trimEnd()}\n`;
}

function summary(add, found) {
  const { files, left_out: left, licences, tests } = found;
  const main = found.languages.filter(({ share }) => share !== null && share >= 1).slice(0, 4);
  add('## At a glance', '');
  add(`- ${plural(files.all, 'file')}, ${plural(files.lines, 'line')}, ${size(files.bytes)}${files.binary ? `; ${plural(files.binary, 'binary file')}` : ''}${files.generated ? `; ${number(files.generated)} made by tools, whose lines are not counted` : ''}`);
  if (main.length) add(`- Written in ${main.map(({ name, share }) => `${name} (${share} %)`).join(', ')}`);
  const said = found.manifests.find(({ license }) => license);
  const firsts = [...new Map([...licences].sort((a, b) => depth(b.path) - depth(a.path) || (a.path < b.path ? 1 : -1)).map((one) => [one.licence, one])).values()]
    .filter(({ licence }, _, all) => licence !== UNKNOWN || all.length === 1).sort((a, b) => depth(a.path) - depth(b.path)).slice(0, 4);
  const known = firsts.length ? firsts.map(({ path, licence }) => `${licence} (${tick(path)})`).join(', ') : 'no file of it found';
  const rest = licences.length - firsts.length;
  add(`- Licence: ${known}${rest > 0 ? `, and ${plural(rest, 'more file')}` : ''}${said ? `; ${tick(said.path)} says ${said.license}` : ''}`);
  add(tests.files || tests.tests ? `- Tests: ${plural(tests.tests, 'test')}${tests.files ? ` in ${plural(tests.files, 'file')}, ${plural(tests.lines, 'line')}` : ', beside the code'}` : '- Tests: none found');
  const others = Object.entries(left.others).map(([one, count]) => (count > 1 ? `${one} (${count})` : one));
  const gone = [left.ignored && `${plural(left.ignored, 'name')} that .gitignore leaves out`, others.length && `the code of others: ${others.join(', ')}`, left.links && plural(left.links, 'link'), left.unreadable && `${number(left.unreadable)} unreadable`, left.deep && `${plural(left.deep, 'folder')} too deep`].filter(Boolean);
  if (gone.length) add(`- Not looked at: ${gone.join('; ')}`);
  if (files.unread) add(`- Not read, as too large or too late: ${plural(files.unread, 'file')}; their lines are not counted`);
  if (found.stopped) add(`- **Not all of it**: the look ended ${found.stopped}. Give a smaller folder with --path.`);
  add('');
}

function languages(add, found) {
  const rows = found.languages.filter(({ sort }) => sort !== 'other');
  const other = found.languages.find(({ sort }) => sort === 'other');
  if (!rows.length && !other) return;
  add('## Languages', '', '| language | files | lines | bytes | share of code |', '|---|---:|---:|---:|---:|');
  for (const one of rows.slice(0, 20)) add(`| ${one.name} | ${number(one.files)} | ${number(one.lines)} | ${number(one.bytes)} | ${one.share === null ? '–' : `${one.share} %`} |`);
  if (other) add(`| other text | ${number(other.files)} | ${number(other.lines)} | ${number(other.bytes)} | – |`);
  if (rows.length > 20) add('', `And ${rows.length - 20} more.`);
  add('');
}

function entries(add, found) {
  add('## Where it begins', '');
  const pages = found.entries.filter(({ what }) => what === 'a page');
  const rest = found.entries.filter(({ what }) => what !== 'a page');
  const shown = [...rest, ...pages].sort((a, b) => rank(a) - rank(b) || depth(a.path) - depth(b.path)).slice(0, 30);
  for (const { path, what, command, module, from } of shown) {
    const target = path || module || '';
    const where = !target && from?.includes('/') ? ` (${tick(from)})` : '';
    add(`- ${target ? `${tick(target)}: ` : ''}${cell(what)}${command ? `: ${tick(command.slice(0, 200))}` : ''}${where}`);
  }
  if (!shown.length) add('Nothing that starts by itself was found: no main, no script, no page.');
  if (found.entries.length > shown.length) add(`- … and ${found.entries.length - shown.length} more`);
  add('');
}

const depth = (path) => path.split('/').length;
// What a manifest calls a command comes first, what only helps comes last.
const rank = ({ path, what, from }) => (/(^|\/)(tests?|benchmarks?|examples?|docs?|scripts?|tools?|fixtures|fuzz(?:ing)?)\//.test(path || from) ? 3
  : /^the (?:command|program|executable)|^python3 -m|^the container/.test(what) ? 0
    : what === 'a page' ? 4 : path === '' ? 2 : 1);

function manifests(add, found) {
  const those = found.manifests.filter(({ name, dependencies, development, targets, wrong }) => name || dependencies.length || development.length || targets || wrong);
  if (!those.length) return;
  add('## Manifests', '');
  for (const one of those.slice(0, 15)) {
    const title = [one.name, one.version].filter(Boolean).join(' ');
    add(`- ${tick(one.path)} (${one.sort})${title ? `: ${title}` : ''}${one.license ? `, ${one.license}` : ''}${one.wrong ? `: ${one.wrong}` : ''}`);
    if (one.description) add(`  ${cell(one.description).slice(0, 300)}`);
    for (const [key, what] of [['dependencies', 'needs'], ['development', one.sort === 'Go' ? 'needs through these' : 'to build and test']]) {
      const list = one[key];
      if (list.length) add(`  - ${what} (${list.length}): ${list.slice(0, 25).map(({ name, wanted }) => (wanted ? `${name} ${wanted}` : name)).join(', ')}${list.length > 25 ? ', …' : ''}`);
    }
    if (one.exports) add(`  - exports ${plural(one.exports, 'further path')}`);
    if (one.targets) add(`  - targets: ${one.targets.slice(0, 20).join(', ')}${one.targets.length > 20 ? ', …' : ''}`);
  }
  if (those.length > 15) add(`- … and ${those.length - 15} more`);
  add('');
}

function dependencies(add, found, graph) {
  const { edges, files, circles, most_used: used, outside } = found.dependencies;
  if (!files.length && !outside.length) return;
  add('## What depends on what', '');
  if (edges.length) {
    const drawn = mermaid(graph);
    add(`${plural(files.length, 'import')} between files, by ${found.dependencies.by}; a number says how many${drawn.left.length ? ` (the drawing leaves out ${drawn.left.join(', ')})` : ''}.`, '');
    add('```mermaid', ...drawn.lines, '```', '', '```', ...text(graph, 60), '```', '');
  } else if (files.length) add(`${plural(files.length, 'import')} between files of one folder.`, '');
  if (circles.length) add(`Files that need each other in a circle as they begin: ${circles.slice(0, 5).map((one) => one.slice(0, 12).map(tick).join(', ') + (one.length > 12 ? `, and ${one.length - 12} more` : '')).join('; ')}.`, '');
  else if (files.length) add('No files need each other in a circle as they begin.', '');
  if (used.length) add(`Used most: ${used.slice(0, 10).map(({ path, count }) => `${tick(path)} (${count})`).join(', ')}.`, '');
  const foreign = outside.filter(({ standard }) => !standard);
  const own = outside.filter(({ standard }) => standard);
  const told = (list) => list.map(({ name, files: count }) => `${tick(name)} (${count})`).join(', ');
  if (foreign.length) add(`From outside: ${told(foreign.slice(0, 25))}${foreign.length > 25 ? `, and ${foreign.length - 25} more` : ''}.`, '');
  if (own.length) add(`From the standard libraries: ${told(own.slice(0, 15))}${own.length > 15 ? `, and ${own.length - 15} more` : ''}.`, '');
}

function sizes(add, found) {
  if (found.largest_files.length) {
    add('## The largest', '', '| file | lines |', '|---|---:|');
    for (const { path, lines } of found.largest_files.slice(0, 10)) add(`| ${cell(tick(path))} | ${number(lines)} |`);
    add('');
  }
  if (found.largest_functions.length) {
    add('| function | where | lines |', '|---|---|---:|');
    for (const { name, path, line, lines } of found.largest_functions.slice(0, 10)) add(`| ${cell(tick(name))} | ${cell(tick(`${path}:${line}`))} | ${number(lines)} |`);
    add('');
  }
}

// The folders down to a depth, with how much is in each.
export function layout(files, base, depth, most = 80) {
  const root = { folders: new Map(), files: 0, lines: 0, own: [] };
  for (const { path, lines = 0 } of files) {
    const parts = path.slice(base === '' ? 0 : base.length + 1).split('/');
    let here = root;
    here.files++;
    here.lines += lines;
    for (const part of parts.slice(0, -1)) {
      if (!here.folders.has(part)) here.folders.set(part, { folders: new Map(), files: 0, lines: 0, own: [] });
      here = here.folders.get(part);
      here.files++;
      here.lines += lines;
    }
    here.own.push(parts[parts.length - 1]);
  }
  const out = [];
  const show = (node, indent, level) => {
    for (const [name, inner] of [...node.folders].sort((a, b) => (a[0] < b[0] ? -1 : 1))) {
      out.push(`${`${indent}${boxed(name)}/`.padEnd(40)} ${plural(inner.files, 'file')}, ${plural(inner.lines, 'line')}`);
      if (level < depth) show(inner, `${indent}  `, level + 1);
    }
    if (level === 1 && node.own.length) out.push(`${indent}${node.own.slice(0, 30).map(boxed).join('  ')}${node.own.length > 30 ? `  … ${node.own.length - 30} more` : ''}`);
  };
  show(root, '', 1);
  return out.length > most ? [...out.slice(0, most), `… and ${out.length - most} more folders`] : out;
}
