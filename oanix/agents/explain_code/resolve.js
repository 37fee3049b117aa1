// Resolve: which file of the tree an import means; else what it is called outside.

import { PYTHON, NODE, header } from './standard.js';

export const folder = (path) => (path.includes('/') ? path.slice(0, path.lastIndexOf('/')) : '');

export function joined(base, name) {
  const parts = base === '' ? [] : base.split('/');
  for (const part of name.split('/')) {
    if (part === '..') {
      if (!parts.length) return null;
      parts.pop();
    } else if (part !== '' && part !== '.') parts.push(part);
  }
  return parts.join('/');
}

export class Resolver {
  // facts: what manifests said: {goModules: [{path, folder}], crates: [{name, folder}], packages: [{name, folder}]}
  constructor(files, facts) {
    this.paths = new Set(files.map(({ path }) => path));
    this.facts = facts;
    this.tails = new Map();
    for (const { path } of files) {
      const name = path.slice(path.lastIndexOf('/') + 1);
      if (!this.tails.has(name)) this.tails.set(name, []);
      this.tails.get(name).push(path);
    }
    this.goFiles = new Map();
    for (const { path } of files) {
      if (path.endsWith('.go') && !path.endsWith('_test.go') && !this.goFiles.has(folder(path))) this.goFiles.set(folder(path), path);
    }
    this.modules = pythonModules(files, this.paths);
  }

  // Give {inside: [paths]} or {outside: name, standard}; null for what says nothing.
  find(file, language, one) {
    switch (language) {
      case 'Python': return this.python(file, one);
      case 'JavaScript': case 'TypeScript': case 'Vue': case 'Svelte': return this.script(file, one);
      case 'Go': return this.go(one);
      case 'Rust': return this.rust(file, one);
      case 'C': case 'C++': case 'Objective-C': case 'CUDA': return this.included(file, one);
      case 'Java': case 'Kotlin': return this.java(one);
      case 'Ruby': return this.ruby(file, one);
      default: return this.page(file, one);
    }
  }

  first(...paths) {
    const found = paths.find((path) => path !== null && this.paths.has(path));
    return found === undefined ? null : { inside: [found] };
  }

  python(file, { name, names }) {
    let base = name;
    if (name.startsWith('.')) {
      const dots = name.match(/^\.+/)[0].length;
      let here = folder(file);
      for (let up = 1; up < dots; up++) here = folder(here);
      const path = [here, ...name.slice(dots).split('.').filter(Boolean)].filter(Boolean).join('/');
      return this.pythonAt(path, names);
    }
    const found = names.map((one) => this.modules.get(`${base}.${one}`)).filter(Boolean);
    // What is no module of the package stands in the package itself.
    if (found.length && found.length < names.length && this.modules.has(base)) found.push(this.modules.get(base));
    while (!found.length && base) {
      const inside = this.modules.get(base);
      if (inside) found.push(inside);
      base = base.includes('.') ? base.slice(0, base.lastIndexOf('.')) : '';
    }
    if (found.length) return { inside: found };
    // A script finds what lies beside it.
    const beside = this.pythonAt([folder(file), ...name.split('.')].filter(Boolean).join('/'), names);
    if (beside) return beside;
    const top = name.split('.', 1)[0];
    return top ? { outside: top, standard: PYTHON.has(top) } : null;
  }

  pythonAt(path, names) {
    const found = names.flatMap((one) => this.first(`${path}/${one}.py`, `${path}/${one}/__init__.py`)?.inside ?? []);
    if (found.length) return { inside: found };
    return this.first(`${path}.py`, path ? `${path}/__init__.py` : '__init__.py');
  }

  script(file, { name }) {
    if (name.startsWith('.') || name.startsWith('/')) {
      return this.scriptAt(name.startsWith('/') ? joined('', name) : joined(folder(file), name));
    }
    if (/^[@~]\//.test(name)) {
      const rest = name.slice(2);
      for (let here = folder(file); ; here = folder(here)) {
        const found = this.scriptAt(joined(here, rest)) ?? this.scriptAt(joined(here, `src/${rest}`));
        if (found) return found;
        if (here === '') break;
      }
    }
    const plain = name.replace(/^node:/, '');
    if (name !== plain || NODE.has(plain.split('/', 1)[0])) return { outside: plain.split('/', 1)[0], standard: true };
    if (/^[a-z]+:/.test(name)) return { outside: name.split(':', 1)[0], standard: true };
    const own = this.facts.packages.find((one) => name === one.name || name.startsWith(`${one.name}/`));
    if (own) {
      const rest = name.slice(own.name.length + 1);
      return this.scriptAt(joined(own.folder, rest || own.main || 'index')) ?? this.scriptAt(joined(own.folder, `src/${rest || 'index'}`)) ?? { inside: [] };
    }
    const parts = name.split('/');
    return { outside: name.startsWith('@') ? parts.slice(0, 2).join('/') : parts[0], standard: false };
  }

  scriptAt(path) {
    if (path === null) return null;
    const endings = ['ts', 'tsx', 'js', 'jsx', 'mjs', 'cjs', 'mts', 'cts', 'd.ts', 'vue', 'svelte', 'json'];
    const base = path.replace(/\.(?:js|jsx|mjs|cjs)$/, '');
    return this.first(path, ...endings.map((one) => `${path}.${one}`), ...endings.map((one) => `${base}.${one}`),
      ...endings.map((one) => (path === '' ? `index.${one}` : `${path}/index.${one}`)));
  }

  go({ name }) {
    for (const { path, folder: where } of this.facts.goModules) {
      if (name !== path && !name.startsWith(`${path}/`)) continue;
      const found = this.goFiles.get(joined(where, name.slice(path.length)));
      return { inside: found ? [found] : [] };
    }
    const first = name.split('/', 1)[0];
    if (!first.includes('.')) return { outside: name, standard: true };
    return { outside: name.split('/').slice(0, first === 'github.com' || first === 'gitlab.com' ? 3 : 2).join('/'), standard: false };
  }

  rust(file, { name, how }) {
    const base = /\/?(?:mod|lib|main)\.rs$/.test(file) ? folder(file) : file.replace(/\.rs$/, '');
    if (how === 'mod') return this.first(joined(base, `${name}.rs`), joined(base, `${name}/mod.rs`), joined(folder(file), `${name}.rs`));
    const parts = name.split('::');
    if (parts[0] === 'crate') return this.rustAt(this.crate(file), parts.slice(1));
    if (parts[0] === 'self') return this.rustAt(base, parts.slice(1));
    if (parts[0] === 'super') {
      let here = base;
      while (parts[0] === 'super') {
        here = folder(here);
        parts.shift();
      }
      return this.rustAt(here, parts);
    }
    if (['std', 'core', 'alloc', 'proc_macro', 'test'].includes(parts[0])) return { outside: parts[0], standard: true };
    const crate = this.facts.crates.find((one) => one.name.replace(/-/g, '_') === parts[0]);
    if (crate) return this.rustAt(joined(crate.folder, 'src'), parts.slice(1)) ?? this.first(joined(crate.folder, 'src/lib.rs'));
    // Since 2018 a module beside it needs no word in front.
    const beside = this.rustAt(base, parts);
    if (beside) return beside;
    return /^[a-z_][a-z0-9_]*$/.test(parts[0]) ? { outside: parts[0], standard: false } : null;
  }

  crate(file) {
    for (let here = folder(file); ; here = folder(here)) {
      if (this.first(joined(here, 'lib.rs'), joined(here, 'main.rs'))) return here;
      if (here === '') return folder(file);
    }
  }

  rustAt(base, parts) {
    for (let count = parts.length; count > 0; count--) {
      const path = joined(base, parts.slice(0, count).join('/'));
      const found = this.first(`${path}.rs`, `${path}/mod.rs`);
      if (found) return found;
    }
    return null;
  }

  included(file, { name, how }) {
    const beside = how === 'quoted' ? this.first(joined(folder(file), name)) : null;
    if (beside) return beside;
    const tail = name.replace(/^(?:\.\.?\/)+/, '');
    const found = (this.tails.get(tail.slice(tail.lastIndexOf('/') + 1)) ?? [])
      .filter((path) => path === tail || path.endsWith(`/${tail}`));
    // `<stdio.h>` is the system's, even where a test has a file of that name.
    if (found.length && (how === 'quoted' || !header(tail))) {
      return { inside: [found.sort((a, b) => apart(file, a) - apart(file, b))[0]] };
    }
    return { outside: name, standard: header(name) };
  }

  java({ name }) {
    const parts = name.split('.');
    for (let count = parts.length; count > 1; count--) {
      const tail = parts.slice(0, count).join('/');
      const base = parts[count - 1];
      const found = [...(this.tails.get(`${base}.java`) ?? []), ...(this.tails.get(`${base}.kt`) ?? [])]
        .find((path) => path.replace(/\.\w+$/, '').endsWith(tail));
      if (found) return { inside: [found] };
    }
    return { outside: parts.slice(0, 2).join('.'), standard: /^(?:java|javax|kotlin|android)$/.test(parts[0]) };
  }

  ruby(file, { name, how }) {
    if (how === 'relative') return this.first(joined(folder(file), `${name}.rb`), joined(folder(file), name));
    return this.first(`lib/${name}.rb`) ?? { outside: name.split('/', 1)[0], standard: false };
  }

  page(file, { name }) {
    return this.first(name.startsWith('/') ? joined('', name) : joined(folder(file), name));
  }
}

// How far two files lie apart.
function apart(one, other) {
  const a = one.split('/');
  const b = other.split('/');
  let same = 0;
  while (same < a.length && a[same] === b[same]) same++;
  return a.length + b.length - 2 * same;
}

// By which dotted names Python finds which files: from the folder above the outermost package, and from the usual tops.
function pythonModules(files, paths) {
  const found = new Map();
  const put = (name, path) => {
    if (name && !found.has(name)) found.set(name, path);
  };
  for (const { path } of files) {
    if (!/\.pyi?$/.test(path)) continue;
    const plain = path.replace(/(?:\/__init__)?\.pyi?$/, '').replace(/^__init__$/, '');
    let top = folder(path);
    while (top !== '' && (paths.has(`${top}/__init__.py`) || paths.has(`${top}/__init__.pyi`))) top = folder(top);
    put(plain.slice(top === '' ? 0 : top.length + 1).replaceAll('/', '.'), path);
    put(plain.replaceAll('/', '.'), path);
    const root = plain.match(/^(?:src|lib|python)\/(.+)$/);
    if (root) put(root[1].replaceAll('/', '.'), path);
  }
  return found;
}
