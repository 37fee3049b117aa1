// Graph: what depends on what, by folder or by file, its circles, and how it is drawn.

import { folder } from './resolve.js';

const DRAWN = 40;
const ARROWS = 80;
const FEW = 30;

export function graph(project, base, depth) {
  const inner = (path) => path.slice(base === '' ? 0 : base.length + 1).replace(/\/$/, '') || '.';
  const linked = new Set(project.edges.flat());
  const plain = [...linked].filter((path) => !project.testing(path));
  const folders = new Set(project.edges.filter(([from, to]) => !project.testing(from) && !project.testing(to))
    .map(([from, to]) => [from, to].map((path) => folder(inner(path)).split('/').slice(0, depth).join('/')))
    .filter(([from, to]) => from !== to).map((pair) => pair.join('\0')));
  // A drawing of three boxes says nothing.
  const byFile = plain.length <= FEW || (folders.size < 5 && plain.length <= 2 * FEW);
  const group = (path) => {
    if (byFile && (!project.testing(path) || linked.size <= FEW)) return inner(path);
    const inside = inner(path);
    return (path.endsWith('/') ? inside : folder(inside)).split('/').slice(0, depth).join('/') || '.';
  };
  const weights = new Map();
  const nodes = new Map();
  for (const path of linked) {
    const name = group(path);
    nodes.set(name, (nodes.get(name) ?? 0) + 1);
  }
  for (const [from, to] of project.edges) {
    const [a, b] = [group(from), group(to)];
    if (a !== b) weights.set(`${a}\0${b}`, (weights.get(`${a}\0${b}`) ?? 0) + 1);
  }
  const edges = [...weights].map(([key, weight]) => [...key.split('\0'), weight]).sort((a, b) => b[2] - a[2] || (a[0] < b[0] ? -1 : 1));
  const tests = new Set([...linked].filter((path) => project.testing(path)).map(group));
  for (const path of linked) {
    if (!project.testing(path)) tests.delete(group(path));
  }
  return { byFile, nodes, edges, tests, circles: circles([...linked].sort(), project.edges.filter(([from, to]) => !from.endsWith('.rs') && project.early.has(`${from}\0${to}`))) };
}

// Groups of nodes that depend on each other (Tarjan, without recursion).
export function circles(nodes, edges) {
  const next = new Map(nodes.map((name) => [name, []]));
  for (const [from, to] of edges) next.get(from)?.push(to);
  const index = new Map();
  const low = new Map();
  const stack = [];
  const held = new Set();
  const found = [];
  for (const start of nodes) {
    if (index.has(start)) continue;
    const work = [[start, 0]];
    while (work.length) {
      const top = work[work.length - 1];
      const [name, at] = top;
      if (at === 0) {
        index.set(name, index.size);
        low.set(name, index.get(name));
        stack.push(name);
        held.add(name);
      }
      const to = next.get(name)[at];
      if (to !== undefined) {
        top[1]++;
        if (!index.has(to)) work.push([to, 0]);
        else if (held.has(to)) low.set(name, Math.min(low.get(name), index.get(to)));
        continue;
      }
      work.pop();
      if (work.length) {
        const above = work[work.length - 1][0];
        low.set(above, Math.min(low.get(above), low.get(name)));
      }
      if (low.get(name) !== index.get(name)) continue;
      const together = [];
      let one;
      do {
        one = stack.pop();
        held.delete(one);
        together.push(one);
      } while (one !== name);
      if (together.length > 1) found.push(together.sort());
    }
  }
  return found;
}

export function text({ nodes, edges }, most) {
  const one = (name) => name.replace(/[\x00-\x1f\x7f]/g, '?').replace(/`/g, "'");
  const out = new Map([...nodes.keys()].sort().map((name) => [name, []]));
  for (const [from, to, weight] of edges) out.get(from).push(weight > 1 ? `${one(to)} (${weight})` : one(to));
  const lines = [...out].filter(([, to]) => to.length).map(([from, to]) => `${one(from)} -> ${to.slice(0, 12).join(', ')}${to.length > 12 ? `, and ${to.length - 12} more` : ''}`);
  return lines.length > most ? [...lines.slice(0, most), `… and ${lines.length - most} more`] : lines;
}

export function mermaid({ nodes, edges: all, tests }) {
  // What is tested by what says little, and has the most arrows.
  const plain = all.filter(([from, to]) => !tests.has(from) && !tests.has(to));
  const edges = plain.length ? plain : all;
  const degree = new Map();
  for (const [from, to, weight] of edges) {
    for (const one of [from, to]) degree.set(one, (degree.get(one) ?? 0) + weight);
  }
  const kept = [...degree].sort((a, b) => b[1] - a[1]).slice(0, DRAWN).map(([name]) => name).sort();
  const ids = new Map(kept.map((name, number) => [name, `n${number}`]));
  const drawn = edges.filter(([from, to]) => ids.has(from) && ids.has(to)).slice(0, ARROWS);
  const lines = ['flowchart LR'];
  for (const [name, id] of ids) lines.push(`  ${id}["${label(name)}"]`);
  for (const [from, to, weight] of drawn) lines.push(`  ${ids.get(from)} -->${weight > 1 ? `|${weight}|` : ''} ${ids.get(to)}`);
  const left = degree.size - kept.length;
  const less = edges.filter(([from, to]) => ids.has(from) && ids.has(to)).length - drawn.length;
  return { lines, left: [plain.length && plain.length < all.length && 'tests', left && `${left} that are linked the least`, less && `${less} of the lightest arrows`].filter(Boolean) };
}

const label = (name) => name.replace(/[^\x20-\x7e\u00a0-\uffff]/g, '?').replace(/`/g, "'").replace(/&/g, '#amp;').replace(/"/g, '#quot;').replace(/</g, '#lt;').replace(/>/g, '#gt;');
