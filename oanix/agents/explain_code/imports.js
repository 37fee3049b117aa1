// Imports: what a file names of others, and which file of the tree that is.

import { uncommented, without } from './source.js';

// Each reader gives [what is named, how], and `resolve` below finds what it is.
const READERS = {
  Python: python, JavaScript: script, TypeScript: script, Vue: script, Svelte: script, Go: golang, Rust: rust,
  C: included, 'C++': included, 'Objective-C': included, CUDA: included, Java: java, Kotlin: java,
  Ruby: ruby, HTML: page, CSS: style, Shell: shell,
};

export function imports(text, language) {
  return READERS[language]?.(text, language) ?? [];
}

function python(text) {
  const found = [];
  const plain = text.replace(/"""[\s\S]*?"""|'''[\s\S]*?'''/g, '""').replace(/#[^\n]*/g, '');
  for (const [, indent, names] of plain.matchAll(/^([ \t]*)import[ \t]+([^\n;]+)/gm)) {
    for (const name of names.split(',')) {
      const module = name.trim().split(/\s/, 1)[0];
      if (/^[\w.]+$/.test(module)) found.push({ name: module, names: [], late: indent !== '' });
    }
  }
  for (const [, indent, module, list] of plain.matchAll(/^([ \t]*)from[ \t]+(\.*[\w.]*)[ \t]+import[ \t]*(\([^()]*\)|[^\n;]+)/gm)) {
    const names = list.replace(/[()\\]/g, ' ').split(',').map((one) => one.trim().split(/\s/, 1)[0]).filter(Boolean);
    // What a function imports, or a type checker, is not there when the file begins.
    found.push({ name: module, names, late: indent !== '' });
  }
  return found;
}

function script(text, language) {
  const found = [];
  const plain = uncommented(text, language);
  const pattern = /(?<=[\s}*])from\s*(["'])([^"'\n]+)\1|(?<=^|[;\s}])import\s*(["'])([^"'\n]+)\3|(?<![\w$.])(?:require|import)\s*\(\s*(["'`])([^"'`\n$]+)\5\s*[),]/g;
  for (const { index, 2: from, 4: alone, 6: called } of plain.matchAll(pattern)) {
    // `from` belongs to the last `import` or `export` before it, with names and braces between.
    const before = from === undefined ? '' : plain.slice(Math.max(0, index - 4000), index);
    const begun = Math.max(before.lastIndexOf('import'), before.lastIndexOf('export'));
    if (from !== undefined && (begun < 0 || !/^(?:import|export)[\s{*][\w$*{}\s,]*$/.test(before.slice(begun)))) continue;
    found.push({ name: from ?? alone ?? called, late: /^(?:import|export)\s+type\s/.test(before.slice(begun)) });
  }
  return found;
}

function golang(text, language) {
  const found = [];
  const plain = uncommented(text, language);
  for (const [, block, one] of plain.matchAll(/^import\s+(?:\(([^)]*)\)|(?:[\w.]+\s+)?"([^"]+)")/gm)) {
    if (one) found.push({ name: one });
    for (const [, name] of (block ?? '').matchAll(/"([^"]+)"/g)) found.push({ name });
  }
  return found;
}

function rust(text, language) {
  const found = [];
  const plain = uncommented(text, language);
  for (const [, name] of plain.matchAll(/^\s*(?:pub(?:\([^)]*\))?\s+)?mod\s+(\w+)\s*;/gm)) {
    found.push({ name, how: 'mod' });
  }
  let end = -1;
  for (const { 0: head, index } of plain.matchAll(/^[ \t]*(?:pub(?:\([^()\n]*\))?[ \t]+)?use[ \t]+(?:::)?/gm)) {
    const from = index + head.length;
    if (end < from) end = plain.indexOf(';', from);
    if (end < 0) break;
    const tree = end - from > 4000 ? '' : plain.slice(from, end).trim();
    if (!/^(?:[\w:]+(?:\s*\{[^]*\}|\*|\s+as\s+\w+)?|\{[^]*\})$/.test(tree)) continue;
    for (const name of new Set(branches(tree, 0))) found.push({ name, how: 'use' });
  }
  return found;
}

// `a::{b, c::{self, d}}` names a::b, a::c and a::c::d.
function branches(tree, level) {
  if (level > 10) return [];
  const open = tree.indexOf('{');
  if (open < 0) return [tree.replace(/\s+as\s.*$/s, '').replace(/(?:::\*|::self)$/, '').replace(/\s/g, '')].filter(Boolean);
  const head = tree.slice(0, open).replace(/\s/g, '');
  const found = [];
  let depth = 0;
  let from = open + 1;
  for (let at = open + 1; at < tree.length; at++) {
    if (tree[at] === '{') depth++;
    const closes = tree[at] === '}';
    if ((closes && depth === 0) || (tree[at] === ',' && depth === 0)) {
      const one = tree.slice(from, at).trim();
      if (one) found.push(...branches(one, level + 1).map((rest) => (rest === 'self' ? head.replace(/::$/, '') : head + rest)));
      from = at + 1;
      if (closes) break;
    } else if (closes) depth--;
  }
  return found;
}

function included(text, language) {
  const plain = uncommented(text, language);
  return [...plain.matchAll(/^[ \t]*#[ \t]*(?:include|import)[ \t]*(?:"([^"\n]+)"|<([^>\n]+)>)/gm)]
    .map(([, quoted, angled]) => ({ name: quoted ?? angled, how: quoted ? 'quoted' : 'angled' }));
}

function java(text, language) {
  const plain = uncommented(text, language);
  return [...plain.matchAll(/^\s*import\s+(?:static\s+)?([\w.]+)/gm)].map(([, name]) => ({ name }));
}

function ruby(text) {
  return [...text.matchAll(/^\s*require(_relative)?[ (]+["']([^"']+)["']/gm)]
    .filter(([, , name]) => !name.includes('#{'))
    .map(([, relative, name]) => ({ name, how: relative || name.startsWith('.') ? 'relative' : 'gem' }));
}

function page(text) {
  return [...without(text, '<!--', '-->').matchAll(/<(?:script|link|img|iframe)\b[^<>]*?\b(?:src|href)\s*=\s*["']([^"'#?]+)/gi)]
    .filter(([, name]) => !/^(?:[a-z][\w+.-]*:|\/\/)/i.test(name)).map(([, name]) => ({ name, how: 'page' }));
}

function style(text) {
  return [...without(text, '/*', '*/').matchAll(/@import\s+(?:url\()?["']([^"'?#]+)/g)]
    .filter(([, name]) => !/^(?:[a-z][\w+.-]*:|\/\/)/i.test(name)).map(([, name]) => ({ name, how: 'page' }));
}

function shell(text) {
  return [...text.matchAll(/^\s*(?:\.|source)\s+["']?(?:\$\{?\w+\}?\/)?([\w./-]+)["']?/gm)].map(([, name]) => ({ name, how: 'page' }));
}
